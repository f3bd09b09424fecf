"""What a snapshot consists of, however one got there."""

from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.services import work
from app.services.work import Entry
from app.store.db import Database
from editing.errors import FingerprintMismatch
from tests.app.hands import Hands, put


def test_a_manifest_is_the_edits_in_order(hands: Hands) -> None:
    base = hands.head.id
    one, _ = hands.edit()
    two, head = hands.edit()
    assert hands.manifest(base) == []
    assert hands.manifest(head) == [one, two]
    assert hands.live() == [two, one]


def test_a_restore_is_a_new_snapshot_of_the_old_content(hands: Hands) -> None:
    base = hands.head.id
    one, first = hands.edit()
    two, second = hands.edit()
    restoring, restored = hands.restore(first)
    head = hands.head
    assert (head.id, head.kind, head.parent_id, head.source_id) == (
        restored,
        "restore",
        second,
        first,
    )
    assert hands.manifest(restored) == [one]
    assert hands.live() == [one]
    assert not hands.look(restoring).live
    three, third = hands.edit()
    assert hands.manifest(third) == [one, three]
    hands.restore(second)
    assert hands.live() == [two, one]
    hands.restore(base)
    assert hands.live() == []


def test_a_restore_to_other_weights_is_refused(hands: Hands) -> None:
    _, first = hands.edit()
    _, second = hands.edit()
    hands.order_restore(first)
    order = hands.take()
    with pytest.raises(FingerprintMismatch, match=first):
        hands.settle(order, fingerprint="sha256:other")
    assert hands.head.id == second
    hands.settle(order)
    assert hands.manifest(hands.head.id) == hands.manifest(first)


def test_a_restore_runs_after_what_was_queued_before_it(hands: Hands) -> None:
    base = hands.head.id
    hands.order()
    restoring = hands.order_restore(base)
    hands.settle(hands.take())
    order = hands.take()
    assert (order.id, order.kind, order.source, order.requests) == (restoring, "restore", base, [])


def test_the_nearest_checkpoint_leaves_only_what_came_after_it(hands: Hands) -> None:
    hands.edit()
    _, second = hands.edit(checkpoint=True)
    three, third = hands.edit()
    with hands.database.tx() as tx:
        found = work.manifest(tx, third)
        assert work.manifest(tx, second).after_checkpoint == ()
    assert found.checkpoint is not None
    assert (found.checkpoint.snapshot, found.checkpoint.covers) == (second, 2)
    assert [entry.edit for entry in found.after_checkpoint] == [three]
    _, restored = hands.restore(third)
    four, fourth = hands.edit()
    with hands.database.tx() as tx:
        found = work.manifest(tx, fourth)
    assert [entry.edit for entry in found.after_checkpoint] == [three, four]
    assert restored != third


def test_a_long_lineage_is_one_query(hands: Hands) -> None:
    edits = [hands.edit()[0] for _ in range(40)]
    assert hands.manifest(hands.head.id) == edits


def test_a_state_may_hold_more_edits_than_a_statement_takes_parameters(hands: Hands) -> None:
    edit, _ = hands.edit("ledger")
    many = (edit, *(f"edt_{number:026}" for number in range(70_000)))
    hands.order_compact()
    order = hands.take()
    with hands.database.tx() as tx:
        made = {"blob": put(tx, b"all of it"), "holds": many, "fingerprint": "sha256:all"}
        ours: dict[str, Any] = {"epoch": hands.epoch, "report": {}, "timings": {}}
        head = work.settle_without(tx, order.id, gone=(edit,), **made, **ours)
    assert hands.live() == [edit]
    hands.restore(head)
    assert hands.live() == [edit]
    with hands.database.tx() as tx:
        assert work.bytes_of(tx, [Entry(each, each) for each in many]) == 0


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(choices=st.lists(st.integers(min_value=-1, max_value=6), max_size=8))
def test_any_walk_has_the_content_a_list_would_have(database: Database, choices: list[int]) -> None:
    """-1 edits, n restores the n-th snapshot: against a model of three lines."""
    # A model of its own for each walk: one that Hypothesis draws may come twice.
    hands = Hands(database, model=f"m-{uuid4()}").register().own().load()
    states: list[tuple[str, list[str]]] = [(hands.head.id, [])]
    for choice in choices:
        if choice < 0:
            edit, snapshot = hands.edit()
            states.append((snapshot, [*states[-1][1], edit]))
        else:
            source, content = states[choice % len(states)]
            states.append((hands.restore(source)[1], content))
    assert [hands.manifest(snapshot) for snapshot, _ in states] == [c for _, c in states]
    assert hands.live() == states[-1][1][::-1]
    assert hands.head.id == states[-1][0]
