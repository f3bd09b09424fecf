"""From nothing, and from every schema that was ever released, with what it held, to the newest."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from app.services import work
from app.store import migrate
from app.store.blobs import Blobs
from app.store.db import Database, driver_url
from app.store.tables import Base
from tests.app.hands import FACT, Hands

REVISIONS = [
    script.revision
    for script in reversed(list(ScriptDirectory.from_config(migrate.config("")).walk_revisions()))
]
RELEASED = Path(__file__).with_name("released")
FIRST, QUEUED = (f"edt_{number:026}" for number in (1, 3))
HEAD = f"snp_{1:026}"


def test_every_released_schema_is_tried() -> None:
    assert sorted(file.stem for file in RELEASED.glob("*.sql")) == REVISIONS[:-1]


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_what_a_release_has_written_goes_on_to_be_used(
    empty_postgres_url: str, revision: str, tmp_path: Path
) -> None:
    migrate.upgrade(empty_postgres_url, revision)
    assert not migrate.at_head(empty_postgres_url)
    written = (RELEASED / f"{revision}.sql").read_text("utf-8")
    with psycopg.connect(empty_postgres_url.replace("+psycopg", "")) as connection:
        connection.execute(written.encode())
    migrate.upgrade(empty_postgres_url)
    assert migrate.at_head(empty_postgres_url)
    database = Database(empty_postgres_url)
    hands = Hands(database).own().load("sha256:base")
    assert (hands.head.id, hands.live()) == (HEAD, [FIRST])
    old = hands.look(FIRST)
    assert (old.dry_run, old.snapshot_id, old.payload["requests"]) == (False, HEAD, [FACT])
    with database.tx() as tx:
        (entry,) = work.manifest(tx, HEAD).entries
    assert Blobs(database, tmp_path).get(None, entry.blob) == b"a delta"
    assert hands.take().id == QUEUED
    with database.tx() as tx:
        work.unclaim(tx, QUEUED, epoch=hands.epoch)
    head = hands.settle(hands.take())
    assert hands.manifest(head) == [FIRST, QUEUED]
    _, back = hands.restore(HEAD)
    assert (hands.head.id, hands.head.fingerprint) == (back, "sha256:one")
    database.close()


def test_the_migrations_make_what_the_tables_say(
    postgres_url: str, empty_postgres_url: str
) -> None:
    assert migrate.at_head(postgres_url)
    assert not migrate.at_head(empty_postgres_url)
    command.check(migrate.config(postgres_url))
    # The check above looks neither at constraints of rows nor at what indexes leave out.
    engine = create_engine(driver_url(empty_postgres_url))
    Base.metadata.create_all(engine)
    engine.dispose()
    assert described(postgres_url) == described(empty_postgres_url)


def described(url: str) -> list[str]:
    """Every constraint and index, in Postgres' own words."""
    constraints = (
        "SELECT conname || ': ' || pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace AND conname <> 'alembic_version_pkc' "
    )
    indexes = (
        "SELECT indexdef FROM pg_indexes "
        "WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    )
    engine = create_engine(driver_url(url))
    with engine.connect() as connection:
        found = [*connection.scalars(text(constraints)), *connection.scalars(text(indexes))]
    engine.dispose()
    return sorted(one for one in found if "NOT NULL" not in one.partition(":")[2][:10])


def test_the_way_down_and_up_again(postgres_url: str) -> None:
    for revision in [*REVISIONS[-2::-1], "base"]:
        command.downgrade(migrate.config(postgres_url), revision)
        assert not migrate.at_head(postgres_url)
    for revision in REVISIONS:
        migrate.upgrade(postgres_url, revision)
    assert migrate.at_head(postgres_url)
    migrate.upgrade(postgres_url)  # a second time: nothing to do


def test_two_who_start_at_once_migrate_once(empty_postgres_url: str) -> None:
    environ = {**os.environ, "ERRATA_DATABASE_URL": empty_postgres_url}
    migration = [sys.executable, "-m", "app.store.migrate"]
    both = [subprocess.Popen(migration, env=environ) for _ in range(2)]
    assert [one.wait(timeout=60) for one in both] == [0, 0]
    assert migrate.at_head(empty_postgres_url)
