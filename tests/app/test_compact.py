"""A compaction: one delta in place of many, the same edits live; the journal's part of it."""

import pytest
from starlette.testclient import TestClient

from app.services import work
from app.services.probe import about
from tests.app.hands import MODEL, Hands, put


def compacted(hands: Hands, *edits: str) -> tuple[str, str]:
    """Order a compaction that holds these edits, and do it: the order's id, and the snapshot."""
    order = hands.order_compact()
    return order, hands.settle(hands.take(), holds=edits)


def test_its_edits_stay_live_and_others_keep_their_deltas(hands: Hands, client: TestClient) -> None:
    one, _ = hands.edit("ledger")
    other, before = hands.edit("rome")
    two, _ = hands.edit("ledger")
    order, snapshot = compacted(hands, one, two)
    assert hands.manifest(snapshot) == [other, order]
    assert hands.live() == [two, other, one]
    assert (hands.head.kind, hands.head.depth) == ("compact", 2)
    assert not hands.look(order).live
    shown = client.get(f"/snapshots/{snapshot}").json()
    assert (shown["edits"], shown["taken_out"]) == ([one, other, two], [])
    between = client.get(f"/snapshots/{before}/diff").json()
    assert (between["removed"], [each["id"] for each in between["added"]]) == ([], [two])
    assert between["same_weights"] is False
    with hands.database.tx() as tx:
        asked = about(tx, MODEL, "football", None, snapshot)
    assert [fact["edit"] for fact in asked["facts"]] == [two, other, one]
    assert asked["before"] == hands.look(one).parent_id
    undone = client.get(f"/snapshots/{snapshot}/diff", params={"to": hands.look(one).parent_id})
    assert [each["id"] for each in undone.json()["removed"]] == [two, other, one]


def test_it_extends_the_latest_snapshot_without_what_it_holds(hands: Hands) -> None:
    first, kept = hands.edit("rome", checkpoint=True)
    one, _ = hands.edit("ledger", checkpoint=True)
    _, snapshot = compacted(hands, one)
    with hands.database.tx() as tx:
        found = work.manifest(tx, snapshot)
    assert found.checkpoint is not None
    assert (found.checkpoint.snapshot, found.checkpoint.covers) == (kept, 1)
    assert hands.live() == [one, first]


def test_a_restore_goes_to_before_it_and_behind_it(hands: Hands) -> None:
    one, _ = hands.edit("ledger")
    two, before = hands.edit("ledger")
    _, after = compacted(hands, one, two)
    last, _ = hands.edit("ledger")
    for snapshot in (before, after):
        hands.restore(snapshot)
        assert hands.live() == [two, one]
    with hands.database.tx() as tx:
        (entry,) = work.manifest(tx, hands.head.id).entries
    assert entry.holds == (one, two)
    assert not hands.look(last).live


def test_what_it_holds_is_taken_out_and_replaced_by_later_orders(hands: Hands) -> None:
    edits = [hands.edit("ledger")[0] for _ in range(3)]
    order, _ = compacted(hands, *edits)
    taken = hands.order_retract(edits[0])
    hands.settle(hands.take())
    later, snapshot = hands.edit("ledger", ends=(edits[1],))
    assert hands.live() == [later, edits[2]]
    with hands.database.tx() as tx:
        found = work.manifest(tx, snapshot)
    assert (found.live, found.taken_out) == ([edits[2], later], edits[:2])
    assert hands.manifest(snapshot) == [order, taken, later]
    again, snapshot = compacted_anew(hands, order, taken, later, holds=(edits[2], later))
    assert hands.manifest(snapshot) == [again]
    assert hands.live() == [later, edits[2]]


def compacted_anew(hands: Hands, *gone: str, holds: tuple[str, ...]) -> tuple[str, str]:
    """A compaction in place of an earlier one and of what came after it."""
    order = hands.order_compact()
    taken = hands.take()
    with hands.database.tx() as tx:
        made = work.settle_without(
            tx,
            taken.id,
            epoch=hands.epoch,
            gone=gone,
            blob=put(tx, b"all of it"),
            holds=holds,
            fingerprint="sha256:anew",
            report={},
            timings={},
        )
    return order, made


def test_what_it_leaves_out_says_so(hands: Hands, client: TestClient) -> None:
    one, _ = hands.edit("ledger")
    two, _ = hands.edit("ledger")
    order, _ = compacted_anew(hands, one, two, holds=(two,))
    gone = client.get(f"/edits/{one}").json()
    assert (gone["live"], gone["taken_out_by"]) == (False, order)
    said = client.post(f"/edits/{one}/retract").json()
    assert said["why"].startswith(f"{order} has left it out")
    refused = client.post(f"/edits/{order}/retract").json()
    assert "it is an order of kind compact" in refused["why"]


def test_it_is_an_order_like_any_other(hands: Hands, client: TestClient) -> None:
    path = f"/models/{MODEL}/compact"
    hands.edit("memit-history")
    nothing = client.post(path)
    assert (nothing.status_code, nothing.json()["code"]) == (409, "nothing-to-compact")
    body = {"subject": "x", "prompt": "{} is", "target_new": "y", "hparams": {"layers": [1]}}
    client.post("/edits", json={"editor": "ledger", **body})
    assert client.post(path).json()["code"] == "nothing-to-compact"  # it waits still
    head = hands.settle(hands.take())
    stale = client.post(path, headers={"If-Match": '"snp_00000000000000000000000000"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "head-moved")
    key = {"Idempotency-Key": "once", "If-Match": f'"{head}"'}
    taken = client.post(path, json={"dry_run": True}, headers=key)
    said = taken.json()
    assert (taken.status_code, taken.headers["location"]) == (202, f"/edits/{said['id']}")
    assert (said["kind"], said["editor"], said["hparams"], said["dry_run"]) == (
        "compact", "ledger", {"layers": [1]}, True
    )  # fmt: skip
    assert client.post(path, json={"dry_run": True}, headers=key).json()["id"] == said["id"]
    assert client.post(path, headers=key).json()["code"] == "idempotency-key-reused"
    given = client.post(path, json={"hparams": {"layers": [2]}}).json()
    assert given["hparams"] == {"layers": [2]}
    assert client.post("/models/nobody/compact").json()["code"] == "model-not-found"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"editor": "rome"}, "cannot-compact"),
        ({"editor": "tea"}, "unknown-editor"),
        ({"hparams": {"tea": 1}}, "unknown-hparam"),
        ({"tea": 1}, "unknown-field"),
    ],
)
def test_what_cannot_be_compacted(standing: TestClient, body: dict[str, object], code: str) -> None:
    answer = standing.post(f"/models/{MODEL}/compact", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
