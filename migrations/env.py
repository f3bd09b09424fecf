"""Alembic's door to the database. The URL comes from whoever called app.store.migrate."""

from alembic import context
from sqlalchemy import NullPool, create_engine, text

from app.store.db import driver_url
from app.store.tables import Base

# Two processes that start at once must not both migrate; the second finds nothing to do.
_LOCK = text("SELECT pg_advisory_lock(7240313)")


def run() -> None:
    """Run the migrations in one transaction, alone."""
    engine = create_engine(driver_url(context.config.attributes["url"]), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(_LOCK)  # held until the connection is closed
            connection.commit()
            context.configure(
                connection=connection, target_metadata=Base.metadata, compare_server_default=True
            )
            with context.begin_transaction():
                context.run_migrations()
    finally:
        engine.dispose()


run()
