"""A service whose parts can all be shot: Postgres, Valkey, the API, workers of one tiny model."""

import os
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx
import psycopg
import redis

from app.store.db import Database
from app.store.migrate import upgrade
from errata.stack.child import Child, Command
from errata.stack.postgres import DATABASE, Postgres
from errata.stack.valkey import Valkey
from tests.conftest import wait_until
from tests.guards import LAX
from tests.tiny import save_tiny
from tests.workers.outage import LASTING, Outage
from tests.workers.shop import MODEL, Queue, Shop

TTL_S = 1.0


class World:
    """All processes, and the folder they live in. Made by `world`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tiny = save_tiny(folder / "tiny")
        self.cache = folder / "cache"
        postgres = Postgres(folder / "pg", folder / "pg.log", LASTING)
        valkey = Valkey(folder / "vk", folder / "vk.log")
        postgres.prepare()
        valkey.prepare()
        self.postgres, self.valkey = Outage(postgres), Outage(valkey)
        self.postgres.end()
        self.valkey.end()
        postgres.ensure_database()
        upgrade(postgres.url())
        self.database = Database(postgres.url())
        self.queue = Queue(self.database)
        self._door = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self._environ = {
            "ERRATA_DATABASE_URL": postgres.url(),
            "ERRATA_REDIS_URL": valkey.url(),
            "ERRATA_DATA_DIR": str(folder / "data"),
            "ERRATA_CACHE_DIR": str(self.cache),
            "ERRATA_MODEL_ROOTS": str(folder),
            "ERRATA_THREADS": "1",
            "ERRATA_LEASE_TTL_S": str(TTL_S),
            "ERRATA_POLL_S": "0.5",
            "ERRATA_CHECKPOINT_EVERY": "8",
            "ERRATA_SMALL_BLOB_BYTES": "4096",  # a batch's delta goes to a file, a single one not
            "PYTHONPATH": str(Path.cwd()),
        }
        self.redis = redis.Redis.from_url(valkey.url())
        self.shop = Shop(self.queue, self.redis, self._environ, folder)
        self.api = self._start_api()
        wait_until(self.api_answers, self.said, seconds=120)
        model = {"source": str(self.tiny), "id": MODEL, "guard": LAX}
        said = httpx.post(f"{self.url}/models", json=model)
        said.raise_for_status()

    # ---- the API ---------------------------------------------------------------------------------

    def _start_api(self) -> Child:
        return Child(
            Command(
                argv=[sys.executable, "-m", "errata.stack.api", "--fd", str(self._door.fileno())],
                cwd=Path.cwd(),
                log=self.folder / "api.log",
                environ=self._environ,
                fds=(self._door.fileno(),),
            )
        )

    def shoot_api(self) -> None:
        """Kill the API, whatever it is in the middle of, and start another on the same door."""
        os.kill(self.api.pid, signal.SIGKILL)
        self.api.wait()
        self.api = self._start_api()

    def api_answers(self) -> bool:
        """Whether a question gets an answer."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).is_success
        except httpx.HTTPError:
            return False

    # ---- workers ---------------------------------------------------------------------------------

    def worker(self, failpoint: str = "") -> BaseProcess:
        """Start one, as the supervisor would."""
        return self.shop.worker(failpoint=failpoint)

    def epoch(self) -> int:
        """The number of the lease's last holder; -1 while Postgres cannot say."""
        return self._number("SELECT epoch FROM leases WHERE model_id = 'tiny'")

    def holder(self) -> int:
        """The process that has the lease."""
        return self._number(
            "SELECT split_part(holder, ':', 2)::int FROM leases WHERE expires_at > now()"
        )

    def settled(self) -> int:
        """Orders that have ended; -1 while Postgres cannot say."""
        return self._number("SELECT count(*) FROM edits WHERE settled_at IS NOT NULL")

    def hits(self) -> int:
        """How often workers have died over the order that runs."""
        return self._number("SELECT max(attempts) FROM edits WHERE status = 'running'")

    def _number(self, question: str) -> int:
        server = self.postgres.server
        assert isinstance(server, Postgres)
        try:
            with psycopg.connect(server.conninfo(DATABASE), connect_timeout=2) as connection:
                found = connection.execute(question.encode()).fetchone()
        except psycopg.Error:
            return -1
        return int(found[0] or 0) if found else 0

    # ---- the end ---------------------------------------------------------------------------------

    def said(self) -> str:
        """The last lines of every log."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(
            f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-8:]) for log in logs[-4:]
        )

    def end(self) -> None:
        """Stop what still runs."""
        self.shop.stop()
        self.api.stop()
        self.redis.close()
        self.database.close()
        for outage in (self.valkey, self.postgres):
            outage.begin()
        self._door.close()


@contextmanager
def world(folder: Path) -> Generator[World]:
    """A world that ends with the block."""
    made = World(folder)
    try:
        yield made
    finally:
        made.end()
