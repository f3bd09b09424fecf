"""Real servers for the tests: one Postgres and one Valkey for the session, a database per test."""

import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from errata.stack.child import tail
from errata.stack.postgres import Postgres
from errata.stack.valkey import Valkey

# Before anybody imports torch: tiny models are slower, not faster, on many threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Torch, loaded later, shares the cores with servers and workers here (see workers/__init__.py).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

TEMPLATE = "errata_template"
# The tests lose nothing in a crash of the machine, so they need not wait for the disk.
HASTY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A short folder: the path of a socket has to stay below 100 characters."""
    folder = Path(tempfile.mkdtemp(prefix="errata-test-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(servers_folder: Path) -> Iterator[Postgres]:
    """The Postgres of this session. It dies with the test process, also after kill -9."""
    server = Postgres(servers_folder / "postgres", servers_folder / "postgres.log", HASTY)
    server.prepare()
    child = server.start()
    wait_until(server.answers, lambda: "\n".join(tail(server.log)))
    yield server
    child.stop()


@pytest.fixture(scope="session")
def valkey_server(servers_folder: Path) -> Iterator[Valkey]:
    """The Valkey of this session."""
    server = Valkey(servers_folder / "valkey", servers_folder / "valkey.log")
    server.prepare()
    child = server.start()
    wait_until(server.answers, lambda: "\n".join(tail(server.log)))
    yield server
    child.stop()


@pytest.fixture(scope="session")
def new_database(postgres_server: Postgres) -> Iterator[Callable[[str], str]]:
    """A maker of databases: give it a template, get a name."""
    numbers = itertools.count(1)
    with psycopg.connect(postgres_server.conninfo(), autocommit=True) as connection:

        def make(template: str) -> str:
            name = f"test_{next(numbers)}"
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
            return name

        yield make


@pytest.fixture(scope="session")
def migrated_template(postgres_server: Postgres) -> str:
    """The name of a database at the head of the migrations, to be copied from."""
    from app.store.migrate import upgrade  # noqa: PLC0415 - most tests need no migrations

    postgres_server.ensure_database(TEMPLATE)
    upgrade(postgres_server.url(TEMPLATE))
    return TEMPLATE


@pytest.fixture
def empty_postgres_url(
    postgres_server: Postgres, new_database: Callable[[str], str]
) -> Iterator[str]:
    """The URL of a database of its own without any table."""
    name = new_database("template1")
    yield postgres_server.url(name)
    drop(postgres_server, name)


@pytest.fixture
def postgres_url(
    postgres_server: Postgres, new_database: Callable[[str], str], migrated_template: str
) -> Iterator[str]:
    """The URL of a fresh database with all migrations."""
    name = new_database(migrated_template)
    yield postgres_server.url(name)
    drop(postgres_server, name)


@pytest.fixture
def redis_url(valkey_server: Valkey) -> str:
    """The URL of the session's Valkey, empty."""
    with redis.Redis.from_url(valkey_server.url()) as client:
        client.flushall()
    return valkey_server.url()


def drop(server: Postgres, name: str) -> None:
    """Drop a database, and end the sessions that a test has left in it."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def wait_until(
    true: Callable[[], bool], explain: Callable[[], str] = str, *, seconds: float = 30
) -> None:
    """Wait for something to become true; say more when it does not."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s in vain. {explain()}")
        time.sleep(0.05)
