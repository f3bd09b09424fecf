"""Bring a database to the newest schema: `python -m app.store.migrate`, or `upgrade(url)`.

Works from an installed wheel: no ini file, no path.
"""

from functools import cache
from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import NullPool, create_engine

from app.settings import Settings
from app.store.db import driver_url


def upgrade(url: str, revision: str = "head") -> None:
    """Run every migration that is missing. Two processes may call this at once."""
    command.upgrade(config(url), revision)


def at_head(url: str) -> bool:
    """Say whether the database has the schema that this code was written for."""
    engine = create_engine(driver_url(url), poolclass=NullPool, connect_args={"connect_timeout": 5})
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_heads()
    finally:
        engine.dispose()
    return frozenset(current) == _heads()


@cache
def _heads() -> frozenset[str]:
    return frozenset(ScriptDirectory.from_config(config("")).get_heads())


def config(url: str) -> Config:
    """Return Alembic's settings. The URL travels beside them: in them, `%` has a meaning."""
    settings = Config()
    settings.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    settings.attributes["url"] = url
    return settings


if __name__ == "__main__":
    upgrade(Settings().database_url)
