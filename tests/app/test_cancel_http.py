"""POST cancel, and restores that clear the queue before them."""

import threading
from typing import Any

from sqlalchemy import select
from starlette.testclient import TestClient

from app.services import work
from app.store.tables import JournalRow, OutboxRow
from tests.app.hands import FACT, MODEL, Hands
from tests.conftest import wait_until

ORDER = {"model": MODEL, **FACT}


def submit(client: TestClient) -> str:
    return client.post("/edits", json=ORDER).json()["id"]


def cancel(client: TestClient, edit: str, **headers: str) -> Any:
    return client.post(f"/edits/{edit}/cancel", headers=headers)


def test_a_queued_order_a_running_one_and_a_settled_one(hands: Hands, client: TestClient) -> None:
    running, queued, last = submit(client), submit(client), submit(client)
    order = hands.take()
    answer = cancel(client, queued)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert answer.json()["settled_at"]
    for _ in range(2):
        answer = cancel(client, running)
        assert (answer.status_code, answer.json()["status"]) == (202, "running")
        assert answer.headers["location"] == f"/edits/{running}"
        assert answer.json()["cancel_requested"]
    with hands.database.tx() as tx:
        work.settle_cancelled(tx, order.id, epoch=hands.epoch, timings={})
    for edit in (running, queued):
        answer = cancel(client, edit)
        assert (answer.status_code, answer.json()["code"]) == (409, "order-settled")
        assert (answer.json()["edit"], answer.json()["order_status"]) == (edit, "cancelled")
    assert hands.take().id == last


def test_who_cancels_may_wait_for_the_end(hands: Hands, client: TestClient) -> None:
    edit = submit(client)
    order = hands.take()

    def stop() -> None:
        def wanted() -> bool:
            with hands.database.tx() as tx:
                return work.cancel_wanted(tx, order.id, epoch=hands.epoch)

        wait_until(wanted)
        with hands.database.tx() as tx:
            work.settle_cancelled(tx, order.id, epoch=hands.epoch, timings={})

    worker = threading.Thread(target=stop)
    worker.start()
    answer = cancel(client, edit, Prefer="wait=20")
    worker.join()
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")


def test_the_events_of_a_cancelled_order_end(hands: Hands, client: TestClient) -> None:
    edit = submit(client)
    order = hands.take()
    cancel(client, edit)
    with hands.database.tx() as tx:
        work.settle_cancelled(tx, order.id, epoch=hands.epoch, timings={})
    named = [
        line.removeprefix("event: ")
        for line in client.get(f"/edits/{edit}/events").text.splitlines()
        if line.startswith("event: ")
    ]
    assert named == ["edit.submitted", "edit.claimed", "edit.cancel-requested", "edit.settled"]


def test_a_restore_runs_after_what_is_queued(hands: Hands, client: TestClient) -> None:
    base = hands.head.id
    first, _ = hands.edit()
    queued = submit(client)
    order = client.post(f"/snapshots/{base}/restore").json()
    assert hands.settle(hands.take()) == hands.head.id
    assert hands.live() == [queued, first]
    claimed = hands.take()
    assert (claimed.id, claimed.source) == (order["id"], base)
    hands.settle(claimed)
    assert hands.live() == []


def test_a_restore_may_cancel_what_is_queued_and_not_what_runs(
    hands: Hands, client: TestClient
) -> None:
    base = hands.head.id
    running, *queued = [submit(client) for _ in range(3)]
    order = hands.take()
    body = {"cancel_queued": True}
    key = {"Idempotency-Key": "r1"}
    restore = client.post(f"/snapshots/{base}/restore", json=body, headers=key).json()
    states = {one["id"]: one["status"] for one in client.get("/edits").json()["data"]}
    assert states == {
        running: "running",
        **dict.fromkeys(queued, "cancelled"),
        restore["id"]: "queued",
    }
    with hands.database.tx() as tx:
        settled = select(JournalRow.edit_id).where(JournalRow.event == "edit.settled")
        assert list(tx.session.scalars(settled.order_by(JournalRow.id))) == queued
        said = tx.session.scalars(select(OutboxRow.message).order_by(OutboxRow.id)).all()
        assert [one["edit"] for one in said if one.get("status") == "cancelled"] == queued
    later = submit(client)
    again = client.post(f"/snapshots/{base}/restore", json=body, headers=key)
    assert again.json()["id"] == restore["id"]  # a repetition cancels nothing more
    assert hands.look(later).status == "queued"
    hands.settle(order)
    assert hands.take().id == restore["id"]


def test_a_refused_restore_cancels_nothing(hands: Hands, client: TestClient) -> None:
    base = hands.head.id
    queued = submit(client)
    answer = client.post(
        f"/snapshots/{base}/restore", json={"cancel_queued": True}, headers={"If-Match": '"snp_x"'}
    )
    assert (answer.status_code, answer.json()["code"]) == (412, "head-moved")
    assert hands.look(queued).status == "queued"


def test_an_order_that_was_meant_for_a_head_that_a_restore_has_moved(
    hands: Hands, client: TestClient
) -> None:
    """If-Match at the door and at the claim, with a queue that was cancelled in between."""
    base = hands.head.id
    meant = {"If-Match": f'"{base}"'}
    running = submit(client)
    order = hands.take()
    first = client.post("/edits", json=ORDER, headers=meant).json()["id"]
    restore = client.post(
        f"/snapshots/{base}/restore", json={"cancel_queued": True}, headers=meant
    ).json()["id"]
    second = client.post("/edits", json=ORDER, headers=meant).json()["id"]
    hands.settle(order)
    # The head has moved under the restore and the second order, in the same turn.
    assert hands.claim() is None
    assert {edit: hands.look(edit).status for edit in (running, first, restore, second)} == {
        running: "applied",
        first: "cancelled",
        restore: "failed",
        second: "failed",
    }
    assert hands.look(second).error["code"] == "head-moved"
    assert client.post("/edits", json=ORDER, headers=meant).status_code == 412


def test_two_models_have_two_queues(hands: Hands, client: TestClient) -> None:
    """A second model is registered, ordered from and restored while the first works."""
    mine = submit(client)
    busy = hands.take()
    answer = client.post("/models", json={"source": "org/second", "id": "second"})
    assert (answer.status_code, answer.json()["head"]) == (201, None)
    early = client.post("/edits", json={**ORDER, "model": "second"}).json()
    assert (early["ord"], early["status"]) == (1, "queued")
    other = Hands(hands.database, model="second").own().load()
    base = other.head.id
    head = other.settle(other.take())
    assert client.post(f"/snapshots/{base}/restore", json={"cancel_queued": True}).is_success
    other.settle(other.take())
    assert client.get("/models/second").json()["seq"] == 2
    # The first has noticed nothing.
    assert hands.look(mine).status == "running"
    assert submit(client) != mine
    assert client.get(f"/models/{MODEL}").json()["waiting"] == 2
    assert client.get("/models/second").json()["waiting"] == 0
    hands.settle(busy)
    assert client.get(f"/models/{MODEL}").json()["seq"] == 1
    assert client.get("/edits", params={"model": "second"}).json()["data"][-1]["snapshot"] == head
    assert client.delete("/models/second").status_code == 204
    assert hands.settle(hands.take()) == hands.head.id
