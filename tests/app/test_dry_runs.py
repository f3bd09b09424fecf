"""Orders that leave the head where it is: dry runs, and statistics made ahead of an edit."""

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from starlette.testclient import TestClient

from app.services import work
from app.services.work import NotRunning
from app.store.tables import Edit, Snapshot
from tests.app.hands import FACT, MODEL, REPORT, Hands

ORDER = {"model": MODEL, **FACT}


def test_a_dry_run_is_measured_in_its_turn_and_changes_nothing(
    hands: Hands, client: TestClient
) -> None:
    before = client.post("/edits", json=ORDER).json()
    dry = client.post("/edits", json={**ORDER, "dry_run": True}).json()
    after = client.post("/edits", json=ORDER).json()
    assert [order["dry_run"] for order in (before, dry, after)] == [False, True, False]
    head = hands.settle(hands.take())
    order = hands.take()
    assert (order.id, order.dry_run, order.parent) == (dry["id"], True, head)
    hands.settle(order)
    shown = client.get(f"/edits/{dry['id']}").json()
    assert (shown["status"], shown["report"], shown["parent"]) == ("applied", REPORT, head)
    assert (shown["snapshot"], shown["live"], shown["noop"]) == (None, False, False)
    assert hands.head.id == head
    assert hands.live() == [before["id"]]
    hands.settle(hands.take())
    assert hands.live() == [after["id"], before["id"]]  # nothing of it in what comes later


def test_a_dry_run_that_is_answered_already_names_no_snapshot(hands: Hands) -> None:
    hands.order(dry_run=True)
    order = hands.take()
    with hands.database.tx() as tx:
        work.settle_noop(tx, order.id, epoch=hands.epoch, report=REPORT, timings={})
    settled = hands.look(order.id)
    assert (settled.status, settled.noop, settled.snapshot_id) == ("applied", True, None)


def test_a_dry_run_can_never_become_a_snapshot(hands: Hands) -> None:
    """Not even by a worker that has overlooked it: the database refuses."""
    hands.order(dry_run=True)
    head, order = hands.head.id, hands.take()
    object.__setattr__(order, "dry_run", False)
    with pytest.raises(IntegrityError, match="ck_edits_dry_run"):
        hands.settle(order)
    assert hands.head.id == head


def test_what_is_no_dry_run_cannot_be_settled_as_one(hands: Hands) -> None:
    hands.order()
    order = hands.take()
    ours = {"epoch": hands.epoch, "report": {}, "timings": {}}
    with pytest.raises(NotRunning), hands.database.tx() as tx:
        work.settle_dry_run(tx, order.id, **ours)
    with pytest.raises(NotRunning), hands.database.tx() as tx:
        work.settle_prepared(tx, order.id, **ours)


def test_a_key_tells_a_dry_run_from_an_edit(hands: Hands, client: TestClient) -> None:
    assert hands.head
    key = {"Idempotency-Key": "a1"}
    assert client.post("/edits", json=ORDER, headers=key).status_code == 202
    other = client.post("/edits", json={**ORDER, "dry_run": True}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


def test_statistics_are_an_order_of_their_own(hands: Hands, client: TestClient) -> None:
    head = hands.head.id
    hparams = {"search": {"steps": 3}}
    path = f"/models/{MODEL}/statistics"
    key = {"Idempotency-Key": "s1"}
    answer = client.post(path, json={"editor": "memit", "hparams": hparams}, headers=key)
    taken = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/edits/{taken['id']}")
    assert (taken["kind"], taken["editor"], taken["hparams"]) == ("statistics", "memit", hparams)
    assert taken["requests"] == []
    again = client.post(path, json={"editor": "memit", "hparams": hparams}, headers=key)
    assert again.json()["id"] == taken["id"]
    order = hands.take()
    assert (order.kind, order.editor, order.hparams) == ("statistics", "memit", hparams)
    hands.settle(order)
    shown = client.get(f"/edits/{taken['id']}").json()
    assert (shown["status"], shown["snapshot"], shown["live"]) == ("applied", None, False)
    assert hands.head.id == head
    with hands.database.tx() as tx:
        assert tx.session.scalar(select(func.count()).select_from(Snapshot)) == 1


def test_statistics_need_no_body_and_may_be_waited_for(hands: Hands, client: TestClient) -> None:
    with hands.working():
        answer = client.post(f"/models/{MODEL}/statistics", headers={"Prefer": "wait=20"})
    assert (answer.status_code, answer.json()["status"]) == (200, "applied")
    assert answer.json()["editor"] == "ledger"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("nobody", {}, 404, "model-not-found"),
        (MODEL, {"editor": "nope"}, 422, "unknown-editor"),
        (MODEL, {"hparams": {"nope": 1}}, 422, "unknown-hparam"),
        (MODEL, {"colour": "red"}, 422, "unknown-field"),
        (MODEL, [], 422, "invalid-request"),
    ],
)
def test_statistics_that_cannot_be_meant(
    standing: TestClient, path: str, body: object, status: int, code: str
) -> None:
    answer = standing.post(f"/models/{path}/statistics", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_orders_say_why_nobody_takes_them(hands: Hands, client: TestClient) -> None:
    """A model that cannot be loaded keeps its queue: orders are taken, and say that they wait."""
    error = {"code": "unsupported-architecture", "detail": "Use another."}
    done, _ = hands.edit()
    with hands.database.tx() as tx:
        work.model_failed(tx, MODEL, error=error)
    taken = client.post("/edits", json=ORDER, headers={"Prefer": "wait=0.1, wait=1"})
    assert (taken.status_code, taken.json()["status"]) == (202, "queued")
    assert taken.json()["blocked"] == error
    listed = client.get("/edits").json()["data"]
    assert [(order["id"], order["blocked"]) for order in listed] == [
        (taken.json()["id"], error),
        (done, None),
    ]
    model = client.get(f"/models/{MODEL}").json()
    assert (model["status"], model["error"], model["waiting"]) == ("failed", error, 1)
    hands.load()
    assert client.get(taken.headers["location"]).json()["blocked"] is None
    assert hands.take().id == taken.json()["id"]
    with hands.database.tx() as tx:
        assert tx.session.get_one(Edit, taken.json()["id"]).status == "running"
