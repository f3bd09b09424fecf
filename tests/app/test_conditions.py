"""If-Match means the model's head at every endpoint that changes something; none is deaf to it."""

from datetime import timedelta

import pytest
from sqlalchemy import func, update
from starlette.testclient import TestClient

from app.store.tables import Lease
from tests.app.hands import FACT, MODEL, Hands

STALE = {"If-Match": '"snp_00000000000000000000000000"'}
ORDER = {"model": MODEL, **FACT}


def test_a_stale_head_stops_whatever_would_change_something(
    hands: Hands, client: TestClient
) -> None:
    live, head = hands.edit("ledger")
    edit = client.post("/edits", json=ORDER).json()["id"]
    asked = [
        ("POST", f"/edits/{live}/retract", None),
        ("POST", f"/models/{MODEL}/compact", None),
        ("POST", "/edits", ORDER),
        ("POST", f"/edits/{edit}/cancel", None),
        ("POST", f"/snapshots/{head}/restore", {}),
        ("POST", f"/snapshots/{head}/restore", {"dry_run": True}),
        ("PATCH", f"/snapshots/{head}", {"label": "first"}),
        ("POST", f"/models/{MODEL}/statistics", {}),
        ("PATCH", f"/models/{MODEL}", {"guard": {"kl": 1}}),
        ("DELETE", f"/models/{MODEL}", None),
    ]
    for method, path, body in asked:
        answer = client.request(method, path, json=body, headers=STALE)
        assert (answer.status_code, answer.json()["code"]) == (412, "head-moved"), path
    assert hands.look(edit).status == "queued"
    assert client.get(f"/snapshots/{head}").json()["label"] is None
    assert client.get(f"/models/{MODEL}").json()["waiting"] == 1

    fresh = {"If-Match": f'"{head}"'}
    assert client.post(f"/edits/{edit}/cancel", headers=fresh).status_code == 200
    assert client.delete(f"/models/{MODEL}", headers=fresh).status_code == 204


def test_who_waits_for_a_cancel_does_not_wait_for_a_worker_that_is_gone(
    hands: Hands, client: TestClient
) -> None:
    edit = client.post("/edits", json=ORDER).json()["id"]
    hands.take()
    soon = func.clock_timestamp() + timedelta(seconds=2)
    with hands.database.tx() as tx:  # frozen: its lease runs out without a word
        tx.session.execute(update(Lease).values(expires_at=soon))
    answer = client.post(f"/edits/{edit}/cancel", headers={"Prefer": "wait=20"})
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_monitor_may_ask_without_a_body(client: TestClient, path: str) -> None:
    assert client.head(path).status_code == client.get(path).status_code == 200


def test_the_mistake_in_a_query_is_named_by_its_parameter(standing: TestClient) -> None:
    answer = standing.get(f"/models/{MODEL}/probe", params={"prompt": "a\0b"})
    assert (answer.status_code, answer.json()["code"]) == (422, "unstorable-text")
    assert answer.json()["errors"][0]["where"] == "query.prompt"


@pytest.mark.usefixtures("hands")
def test_the_events_of_a_dry_run_say_that_it_was_one(client: TestClient) -> None:
    edit = client.post("/edits", json={**ORDER, "dry_run": True}).json()["id"]
    client.post(f"/edits/{edit}/cancel")
    stream = client.get(f"/edits/{edit}/events").text
    assert stream.count('"dry_run": true') == 2
