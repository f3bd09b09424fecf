"""A tiny model in a folder, a fresh journal, and workers that end with the test."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from redis import Redis

from app.store.db import Database
from errata.stack.postgres import Postgres
from errata.stack.valkey import Valkey
from tests.tiny import save_tiny
from tests.workers.outage import LASTING, Outage
from tests.workers.shop import MODEL, Queue, Shop


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def statistics_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by all tests: the second moment is collected once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def queue(postgres_url: str, tiny_folder: Path) -> Iterator[Queue]:
    database = Database(postgres_url)
    queue = Queue(database)
    queue.register(MODEL, tiny_folder)
    yield queue
    database.close()


@pytest.fixture
def shop(queue: Queue, redis_url: str, tmp_path: Path) -> Iterator[Shop]:
    environ = {
        "ERRATA_DATABASE_URL": queue.database.url,
        "ERRATA_REDIS_URL": redis_url,
        "ERRATA_DATA_DIR": str(tmp_path / "data"),
        "ERRATA_THREADS": "1",
        "ERRATA_LEASE_TTL_S": "1",
        "ERRATA_POLL_S": "0.3",
        "PYTHONPATH": str(Path.cwd()),
    }
    with Redis.from_url(redis_url) as redis:
        shop = Shop(queue, redis, environ, tmp_path)
        yield shop
        shop.stop()


@pytest.fixture
def own_folder(servers_folder: Path) -> Iterator[Path]:
    """A short folder for the servers of one test."""
    folder = Path(tempfile.mkdtemp(prefix="own-", dir=servers_folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def postgres(own_folder: Path) -> Iterator[Outage]:
    server = Postgres(own_folder / "pg", own_folder / "pg.log", LASTING)
    server.prepare()
    outage = Outage(server)
    outage.end()
    server.ensure_database()
    yield outage
    outage.begin()


@pytest.fixture
def valkey(own_folder: Path) -> Iterator[Outage]:
    server = Valkey(own_folder / "vk", own_folder / "vk.log")
    server.prepare()
    outage = Outage(server)
    outage.end()
    yield outage
    outage.begin()
