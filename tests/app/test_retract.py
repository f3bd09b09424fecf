"""A retract: one edit out of the head, the later ones kept; the journal's part of it."""

import pytest
from starlette.testclient import TestClient

from app.services import probe, work
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
    assert (hands.look(edits[1]).live, hands.look(order).live) == (False, False)


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
    gone = client.get(f"/edits/{edit}").json()
    assert (gone["live"], gone["taken_out_by"]) == (False, said["id"])
    between = client.get(f"/snapshots/{head}/diff").json()
    assert [one["id"] for one in between["removed"]] == [edit]
    assert (between["added"], between["same_weights"]) == ([], False)
    moved = client.post(f"/edits/{edit}/retract", headers={"If-Match": f'"{head}"'})
    assert (moved.status_code, moved.json()["code"]) == (412, "head-moved")


def test_what_cannot_be_taken_out_says_why_and_what_to_do(hands: Hands, client: TestClient) -> None:
    start = hands.head.id
    edit, before = hands.edit()
    retracting, _ = take_out(hands, edit, drop=False)
    undone, _ = hands.edit()
    restoring, _ = hands.restore(start)
    dry = hands.order(dry_run=True)
    hands.settle(hands.take())
    said_so = hands.order()
    with hands.database.tx() as tx:
        work.settle_noop(tx, hands.take().id, epoch=hands.epoch, report=None, timings={})
    failed = hands.order()
    with hands.database.tx() as tx:
        work.settle_failed(tx, hands.take().id, epoch=hands.epoch, error={"code": "x"})
    cancelled, waiting = hands.order(), hands.order()
    client.post(f"/edits/{cancelled}/cancel")
    statistics = client.post(f"/models/{MODEL}/statistics", json={"editor": "rome"}).json()["id"]
    for order, why, mend in (
        (edit, f"{retracting} has taken it out", "Order the edit again, or restore a snapshot"),
        (undone, f"{restoring} has restored a snapshot without it", "Order the edit again"),
        (retracting, "it is an order of kind retract", f"/snapshots/{before}/restore"),
        (restoring, "it is an order of kind restore", "/restore"),
        (statistics, "it is an order of kind statistics that is queued still", "/cancel"),
        (dry, "it is an edit that was a dry run", "nothing to take out"),
        (said_so, "the model answered so already", "nothing to take out"),
        (failed, "it is an edit that is failed and changed nothing", "nothing to take out"),
        (cancelled, "it is an edit that is cancelled", "nothing to take out"),
        (waiting, "it is an edit that is queued still", f"/edits/{waiting}/cancel"),
    ):
        answer = client.post(f"/edits/{order}/retract")
        assert (answer.status_code, answer.json()["code"]) == (409, "edit-not-live"), why
        assert why in answer.json()["why"]
        assert mend in answer.json()["detail"]
    missing = client.post(f"/edits/{NOBODY}/retract")
    assert (missing.status_code, missing.json()["code"]) == (404, "edit-not-found")


def test_what_a_later_edit_has_replaced_says_by_which(hands: Hands, client: TestClient) -> None:
    first, before = hands.edit()
    later, _ = hands.edit(ends=(first,))
    assert hands.live() == [later]
    gone = client.get(f"/edits/{first}").json()
    assert (gone["live"], gone["taken_out_by"]) == (False, later)
    listed = {one["id"]: one["taken_out_by"] for one in client.get("/edits").json()["data"]}
    assert listed == {first: later, later: None}
    answer = client.post(f"/edits/{first}/retract").json()
    assert answer["why"] == f"{later} has replaced all it said"
    assert f'"by": "{later}"' in client.get(f"/edits/{first}/events").text
    back, _ = hands.restore(before)
    shown = client.get(f"/edits/{first}").json()
    assert (shown["live"], shown["taken_out_by"]) == (True, None)
    events = client.get(f"/edits/{first}/events").text
    assert events.index("edit.taken-out") < events.index("edit.brought-back")
    assert f'"by": "{back}"' in events


def test_a_snapshot_lists_what_is_live_in_it(hands: Hands, client: TestClient) -> None:
    edits = [hands.edit()[0] for _ in range(3)]
    before = hands.head.id
    order, _ = take_out(hands, edits[0], drop=False)
    shown = client.get(f"/snapshots/{hands.head.id}").json()
    assert (shown["edits"], shown["taken_out"]) == (edits[1:], edits[:1])
    take_out(hands, edits[1], drop=True)
    listed = client.get(f"/models/{MODEL}/snapshots").json()["data"]
    assert (listed[0]["edits"], listed[0]["taken_out"]) == (edits[2:], edits[:1])
    plan = client.post(f"/snapshots/{before}/restore", json={"dry_run": True}).json()
    assert (plan["undone"], [one["id"] for one in plan["redone"]]) == ([], edits[:2])
    assert order not in str(plan["redone"])
    with hands.database.tx() as tx:
        asked = probe.about(tx, MODEL, "Lyon", None, None)
    assert [fact["edit"] for fact in asked["facts"]] == edits[2:]


def test_a_drop_keeps_the_checkpoints_before_what_it_leaves_out(hands: Hands) -> None:
    edits: list[str] = []
    held: list[str] = []
    for number in range(5):
        edit, snapshot = hands.edit(checkpoint=number in {1, 3})
        edits.append(edit)
        held.append(snapshot)
    take_out(hands, edits[4], drop=True)
    found = folded(hands)
    assert (found.checkpoint and found.checkpoint.snapshot) == held[3]
    assert found.after_checkpoint == ()
    take_out(hands, edits[2], drop=True)  # the one at its side holds it
    found = folded(hands)
    assert (found.checkpoint and found.checkpoint.snapshot) == held[1]
    assert [entry.edit for entry in found.after_checkpoint] == [edits[3]]
    hands.order_retract(edits[3])
    hands.settle(hands.take(), drop=True, checkpoint=True)
    found = folded(hands)
    assert (found.checkpoint and found.checkpoint.covers) == hands.head.depth == 2


def folded(hands: Hands) -> work.Manifest:
    with hands.database.tx() as tx:
        return work.manifest(tx, hands.head.id)


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
