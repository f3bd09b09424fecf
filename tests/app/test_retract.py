"""A retract: one edit out of the head, the later ones kept; the journal's part of it."""

import pytest
from starlette.testclient import TestClient

from tests.app.hands import FACT, MODEL, Hands

NOBODY = "edt_" + "0" * 26


def take_out(hands: Hands, edit: str, *, drop: bool) -> tuple[str, str]:
    """Order that an edit is taken out, and do it: the order's id, and the snapshot."""
    order = hands.order_retract(edit)
    return order, hands.settle(hands.take(), drop=drop)


def test_an_edit_is_taken_out_and_the_others_stay_live(hands: Hands) -> None:
    edits = [hands.edit()[0] for _ in range(3)]
    order, snapshot = take_out(hands, edits[1], drop=False)
    assert hands.manifest(snapshot) == [*edits, order]
    assert hands.live() == [edits[2], edits[0]]
    assert hands.head.kind == "retract"
    assert (hands.look(edits[1]).live, hands.look(order).live) == (False, True)


def test_a_dropped_delta_is_no_longer_part_of_the_manifest(hands: Hands) -> None:
    edits = [hands.edit(checkpoint=n == 1)[0] for n in range(4)]
    _, snapshot = take_out(hands, edits[2], drop=True)
    rest = [edits[0], edits[1], edits[3]]
    assert hands.manifest(snapshot) == rest
    assert hands.live() == rest[::-1]
    assert hands.head.depth == 3
    # The next one too, whose delta a snapshot with several of them holds by now.
    _, snapshot = take_out(hands, edits[3], drop=True)
    _, snapshot = take_out(hands, edits[0], drop=True)
    assert hands.manifest(snapshot) == [edits[1]]
    later, snapshot = hands.edit()
    assert hands.manifest(snapshot) == [edits[1], later]


@pytest.mark.parametrize("drop", [False, True])
def test_a_restore_brings_it_back_and_takes_it_out_again(hands: Hands, *, drop: bool) -> None:
    edit, before = hands.edit()
    _, after = take_out(hands, edit, drop=drop)
    hands.restore(before)
    assert hands.live() == [edit]
    hands.restore(after)
    assert hands.live() == []


def test_a_retract_is_an_order_like_any_other(hands: Hands, client: TestClient) -> None:
    edit, head = hands.edit()
    key = {"Idempotency-Key": "once", "If-Match": f'"{head}"'}
    taken = client.post(f"/edits/{edit}/retract", headers=key)
    assert (taken.status_code, taken.headers["location"]) == (202, f"/edits/{taken.json()['id']}")
    said = taken.json()
    assert (said["kind"], said["target"], said["editor"], said["requests"]) == (
        "retract", edit, "memit-history", []
    )  # fmt: skip
    assert client.post(f"/edits/{edit}/retract", headers=key).json()["id"] == said["id"]
    hands.settle(hands.take())
    shown = client.get(taken.headers["location"]).json()
    assert (shown["status"], shown["snapshot"]) == ("applied", hands.head.id)
    assert client.get(f"/edits/{edit}").json()["live"] is False
    between = client.get(f"/snapshots/{head}/diff").json()
    assert ([one["id"] for one in between["added"]], between["same_weights"]) == (
        [said["id"]], False
    )  # fmt: skip
    moved = client.post(f"/edits/{edit}/retract", headers={"If-Match": f'"{head}"'})
    assert moved.json()["code"] in {"edit-not-live", "head-moved"}


def test_what_the_head_does_not_hold_is_refused_and_says_why(
    hands: Hands, client: TestClient
) -> None:
    start = hands.head.id
    edit, _ = hands.edit()
    retracting, _ = take_out(hands, edit, drop=False)
    undone, _ = hands.edit()
    hands.restore(start)
    dry = hands.order(dry_run=True)
    hands.settle(hands.take())
    waiting = hands.order()
    for order, why in (
        (edit, "a restore or a retract has taken it out"),
        (undone, "a restore or a retract has taken it out"),
        (retracting, "it is a retract"),
        (dry, "it was a dry run"),
        (waiting, "it is queued still; cancel it"),
    ):
        answer = client.post(f"/edits/{order}/retract")
        assert (answer.status_code, answer.json()["code"]) == (409, "edit-not-live")
        assert why in answer.json()["why"]
    missing = client.post(f"/edits/{NOBODY}/retract")
    assert (missing.status_code, missing.json()["code"]) == (404, "edit-not-found")


def test_one_that_is_taken_out_already_names_the_order_that_did_it(
    hands: Hands, client: TestClient
) -> None:
    edit, _ = hands.edit()
    by, _ = take_out(hands, edit, drop=False)
    answer = client.post(f"/edits/{edit}/retract").json()
    assert answer["why"] == f"{by} has taken it out, or replaced it"


def test_a_dry_run_keeps_everything(hands: Hands, client: TestClient) -> None:
    edit, head = hands.edit()
    order = client.post(f"/edits/{edit}/retract", json={"dry_run": True}).json()
    assert order["dry_run"] is True
    hands.settle(hands.take())
    assert (hands.head.id, hands.live()) == (head, [edit])
    wrong = client.post(f"/edits/{edit}/retract", json={"tea": 1})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "unknown-field")


def test_of_a_removed_model_nothing_is_taken_out(hands: Hands, client: TestClient) -> None:
    edit, _ = hands.edit()
    assert client.delete(f"/models/{MODEL}").status_code == 204
    assert client.post(f"/edits/{edit}/retract").json()["code"] == "model-not-found"
    assert FACT["subject"] in str(client.get(f"/edits/{edit}").json()["requests"])
