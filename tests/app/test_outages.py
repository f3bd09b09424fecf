"""Postgres killed under the API: whatever is asked, the answer is to come back, and never a 500."""

import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from app.store.db import Database
from app.store.migrate import upgrade
from errata.stack.child import Child
from errata.stack.postgres import Postgres
from tests.app.hands import FACT, MODEL, Hands
from tests.conftest import HASTY, wait_until

ORDER = {"model": MODEL, **FACT}
EVAL = "evl_" + "0" * 26
NEEDS_NO_DATABASE = {"/healthz", "/metrics", "/editors", "/suites"}
BODIES: dict[str, Any] = {
    "/edits": ORDER,
    "/models": {"source": "org/name"},
    "/models/{model_id}/forecast": {"request": FACT},
    "/evals": {"suite": "efficacy", "model": MODEL, "records": [FACT]},
    "/models/{model_id}/probe": {"prompts": ["x"]},
    "/snapshots/{snapshot_id}": {"label": "x"},
    "/models/{model_id}": {"guard": None},
}


class Breakable:
    """A Postgres of this test alone."""

    def __init__(self, folder: Path) -> None:
        # What is committed must outlive the kill: as HASTY, but for its lazy commits.
        settings = {name: value for name, value in HASTY.items() if name != "synchronous_commit"}
        self.server = Postgres(folder / "api-pg", folder / "api-pg.log", settings)
        self.server.prepare()
        self.start()

    def start(self) -> None:
        self._child: Child = self.server.start()
        wait_until(self.server.answers)

    def kill(self) -> None:
        """As the kernel would: nobody says good-bye. Its children follow their parent."""
        self._child._process.send_signal(signal.SIGQUIT)
        self._child.wait()

    def freeze(self, number: signal.Signals = signal.SIGSTOP) -> None:
        """Leave every connection open, and answer none; SIGCONT ends it."""
        root = psutil.Process(self._child._process.pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # a child may have ended meanwhile
                process.send_signal(number)

    def stop(self) -> None:
        self._child.stop()


@pytest.fixture
def breakable(servers_folder: Path) -> Iterator[Breakable]:
    postgres = Breakable(servers_folder)
    yield postgres
    postgres.stop()


@pytest.fixture
def on_breakable(breakable: Breakable, redis_url: str, tmp_path: Path) -> Settings:
    breakable.server.ensure_database("errata")
    url = breakable.server.url("errata")
    upgrade(url)
    return Settings(database_url=url, redis_url=redis_url, data_dir=tmp_path)


def test_without_postgres_every_endpoint_says_come_back(
    breakable: Breakable, on_breakable: Settings
) -> None:
    database = Database(on_breakable.database_url)
    hands = Hands(database).register().own().load()
    edit, snapshot = hands.edit()
    with TestClient(create_app(on_breakable)) as client:
        waiting = client.post("/edits", json=ORDER).json()["id"]
        waited: dict[str, Any] = {}

        def wait() -> None:
            waited["answer"] = client.post("/edits", json=ORDER, headers={"Prefer": "wait=60"})

        def follow() -> None:
            waited["events"] = client.get(f"/edits/{waiting}/events").text

        threads = [threading.Thread(target=task) for task in (wait, follow)]
        for thread in threads:
            thread.start()
        ears = client.app.state.house.notices._ears  # type: ignore[attr-defined]
        wait_until(lambda: len(ears) == 2)
        breakable.kill()
        for method, path in endpoints(client):
            ids = {"model_id": MODEL, "edit_id": edit, "snapshot_id": snapshot, "eval_id": EVAL}
            url = path.format(**ids, name="tracing")
            query = {"prompt": "x"} if method == "GET" and url.endswith("/probe") else {}
            answer = client.request(method, url, params=query, json=BODIES.get(path))
            if path in NEEDS_NO_DATABASE:
                assert answer.status_code == 200, path
                continue
            assert answer.status_code == 503, (method, path, answer.text)
            expected = "not-ready" if path == "/readyz" else "database-unavailable"
            assert answer.json()["code"] == expected, (method, path)
            assert int(answer.headers["retry-after"]) > 0
        breakable.start()
        # Who waited or followed has noticed nothing: the order was committed before.
        while (order := hands.claim()) is not None:
            hands.settle(order)
        for thread in threads:
            thread.join(timeout=30)
        assert client.get("/readyz").status_code == 200
        assert client.get(f"/models/{MODEL}").json()["waiting"] == 0
    database.close()
    assert (waited["answer"].status_code, waited["answer"].json()["status"]) == (200, "applied")
    assert waited["events"].count("event: edit.settled") == 1


def test_readiness_does_not_wait_for_a_frozen_postgres(
    breakable: Breakable, on_breakable: Settings
) -> None:
    with TestClient(create_app(on_breakable)) as client:
        assert client.get("/readyz").status_code == 200
        breakable.freeze()
        try:
            answer = client.get("/readyz")
        finally:
            breakable.freeze(signal.SIGCONT)
        assert (answer.status_code, answer.json()["code"]) == (503, "not-ready")
        assert "no answer" in answer.json()["checks"]["postgres"]
        wait_until(lambda: client.get("/readyz").status_code == 200)


def test_a_postgres_that_only_reads_is_as_good_as_away(hands: Hands, client: TestClient) -> None:
    """As during a failover: the pool still leads to the old primary."""
    with hands.database.engine.connect() as connection:
        name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
        connection.exec_driver_sql(
            f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'
        )
        connection.commit()
    client.app.state.house.database.engine.dispose()  # type: ignore[attr-defined]
    assert client.get("/models").status_code == 200
    answer = client.post("/edits", json=ORDER)
    assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")


def endpoints(client: TestClient) -> list[tuple[str, str]]:
    paths = client.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, has in paths.items() for method in has]
