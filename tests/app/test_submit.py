"""An order is journaled before it is queued, in the order of commits, once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import func, select, text
from starlette.testclient import TestClient

from app.errors import KeyInFlight, KeyReused
from app.main import create_app
from app.queue import streams
from app.queue.outbox import Relay
from app.services import idempotency, submit
from app.settings import Settings
from app.store.db import Database
from app.store.tables import Edit, OutboxRow
from tests.app.hands import FACT, MODEL, Hands
from tests.conftest import wait_until


def unsent(database: Database) -> int:
    with database.tx() as tx:
        waiting = select(func.count()).select_from(OutboxRow).where(OutboxRow.sent_at.is_(None))
        return tx.session.scalar(waiting) or 0


def test_an_edit_is_journaled_before_it_is_queued(
    hands: Hands, settings: Settings, redis_url: str, tmp_path: Path
) -> None:
    """Redis is down; the order is taken. Redis comes back; it is told."""
    socket = tmp_path / "valkey.sock"
    down = settings.model_copy(update={"redis_url": f"unix://{socket}"})
    with TestClient(create_app(down)) as client:
        answer = client.post("/edits", json={"model": MODEL, **FACT})
        assert answer.status_code == 202
        edit = answer.json()["id"]
        assert hands.look(edit).status == "queued"
        assert unsent(hands.database) == 1
        assert hands.take().id == edit  # a worker that polls the journal needs no Redis
        socket.symlink_to(redis_url.removeprefix("unix://"))
        wait_until(lambda: unsent(hands.database) == 0)
    with Redis.from_url(redis_url) as redis:
        assert [said for _, said in redis.xrange(streams.edits(MODEL))] == [
            {b"edit_id": edit.encode()}
        ]


def test_a_commit_wakes_the_relay_of_its_process(
    hands: Hands, database: Database, redis_url: str
) -> None:
    relay = Relay(database, redis_url, every_s=3600)
    relay.start()
    try:
        hands.order()
        wait_until(lambda: unsent(database) == 0, seconds=5)
    finally:
        relay.stop()


def test_two_relays_send_each_message_once(
    hands: Hands, database: Database, redis_url: str
) -> None:
    for _ in range(20):
        hands.order()
    relays = [Relay(database, redis_url) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        sent = sum(pool.map(lambda relay: relay.send_waiting(), relays))
    sent += sum(relay.send_waiting() for relay in relays)
    with Redis.from_url(redis_url) as redis:
        assert redis.xlen(streams.edits(MODEL)) == sent == 20


@pytest.mark.usefixtures("hands")
def test_ord_is_the_order_of_commits(database: Database) -> None:
    """Whoever has the lower ord is visible first: a slow transaction keeps the others waiting."""
    order = submit.EditOrder(requests=[FACT], model=MODEL)

    def quickly(_: int) -> int:
        with database.tx() as tx:
            return submit.submit(tx, order, limit=1).ord

    def waiting() -> int:
        with database.tx() as tx:
            return tx.session.scalars(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).one()

    with ThreadPoolExecutor(max_workers=8) as pool:
        with database.tx() as slow:
            assert submit.submit(slow, order, limit=1).ord == 1
            others = [pool.submit(quickly, number) for number in range(8)]
            wait_until(lambda: waiting() == 8)
            with database.tx() as tx:
                assert tx.session.scalar(select(func.count()).select_from(Edit)) == 0
        assert sorted(other.result() for other in others) == list(range(2, 10))


@pytest.mark.usefixtures("hands")
def test_a_refused_order_leaves_no_gap(client: TestClient) -> None:
    client.post("/edits", json={"model": MODEL, **FACT, "editor": "nope"})
    head = {"If-Match": '"snp_other"'}
    assert client.post("/edits", json={"model": MODEL, **FACT}, headers=head).status_code == 412
    assert client.post("/edits", json={"model": MODEL, **FACT}).json()["ord"] == 1


def test_a_repeated_request_is_answered_as_the_first_time(hands: Hands, client: TestClient) -> None:
    key = {"Idempotency-Key": "a1"}
    first = client.post("/edits", json={"model": MODEL, **FACT}, headers=key)
    hands.settle(hands.take())
    again = client.post("/edits", json={**FACT, "model": MODEL}, headers=key)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"
    assert hands.claim() is None
    waited = client.post(
        "/edits", json={"model": MODEL, **FACT}, headers={**key, "Prefer": "wait=5"}
    )
    assert (waited.status_code, waited.json()["status"]) == (200, "applied")


def test_a_key_belongs_to_its_request(hands: Hands, client: TestClient) -> None:
    key = {"Idempotency-Key": "a1"}
    order = {"model": MODEL, **FACT}
    assert client.post("/edits", json=order, headers=key).status_code == 202
    for other in (
        client.post("/edits", json={**order, "target_new": "Nice"}, headers=key),
        client.post(f"/snapshots/{hands.head.id}/restore", headers=key),
        client.post("/edits", json=order, headers={**key, "If-Match": f'"{hands.head.id}"'}),
    ):
        assert other.status_code == 422
        assert other.json()["code"] == KeyReused.code


@pytest.mark.usefixtures("hands")
def test_a_refused_request_leaves_its_key_free(client: TestClient) -> None:
    key = {"Idempotency-Key": "a1"}
    wrong = client.post("/edits", json={"model": "nobody", **FACT}, headers=key)
    assert wrong.status_code == 404
    assert client.post("/edits", json={"model": MODEL, **FACT}, headers=key).status_code == 202


def test_many_at_once_with_one_key_are_one_order(hands: Hands, client: TestClient) -> None:
    def send(_: int) -> str:
        order = {"model": MODEL, **FACT}
        return client.post("/edits", json=order, headers={"Idempotency-Key": "k"}).json()["id"]

    with ThreadPoolExecutor(max_workers=8) as pool:
        assert len(set(pool.map(send, range(8)))) == 1
    with hands.database.tx() as tx:
        assert tx.session.scalar(select(func.count()).select_from(Edit)) == 1


@pytest.mark.usefixtures("hands")
def test_a_key_whose_first_request_hangs_is_in_flight(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "_PATIENCE", idempotency.text("SET LOCAL lock_timeout = 50"))
    order = submit.EditOrder(requests=[FACT], model=MODEL)

    def once(hold: threading.Event | None = None) -> None:
        with database.tx() as tx:
            idempotency.once(
                tx, "k", "hash", lambda: submit.submit(tx, order, limit=1), lambda _: {}
            )
            if hold is not None:
                started.set()
                hold.wait(10)

    started, hold = threading.Event(), threading.Event()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(once, hold)
        started.wait(10)
        began = time.monotonic()
        with pytest.raises(KeyInFlight):
            once()
        assert time.monotonic() - began < 5
        hold.set()
        first.result()
    once()
