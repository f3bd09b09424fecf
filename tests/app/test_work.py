"""What a worker may do to the journal, and what it may not."""

import pytest
from sqlalchemy import func, select, update

from app.errors import HeadMoved, ModelNotFound
from app.services import models, work
from app.services.work import Fenced, NotRunning
from app.store.db import Database, Tx
from app.store.tables import Edit, JournalRow, Model, Snapshot
from editing.errors import FingerprintMismatch
from tests.app.hands import MODEL, Hands, put


def events(database: Database, edit: str) -> list[str]:
    with database.tx() as tx:
        found = select(JournalRow.event).where(JournalRow.edit_id == edit)
        return list(tx.session.scalars(found.order_by(JournalRow.id)))


def test_an_edit_that_is_applied_becomes_the_head(hands: Hands) -> None:
    base = hands.head
    edit, snapshot = hands.edit()
    order, head = hands.look(edit), hands.head
    assert (order.status, order.snapshot_id, order.live) == ("applied", snapshot, True)
    assert (head.id, head.seq, head.parent_id, head.kind) == (snapshot, 1, base.id, "edit")
    assert (order.report, order.timings) == (head.report, {"z": 0.1})
    assert order.settled_at is not None
    assert events(hands.database, edit) == [
        "edit.submitted",
        "edit.claimed",
        "snapshot.created",
        "edit.settled",
    ]


def test_orders_are_claimed_by_ord_one_after_the_other(hands: Hands) -> None:
    first, second = hands.order(), hands.order()
    assert hands.settle(hands.take()) == hands.look(first).snapshot_id
    claimed = hands.take()
    assert (claimed.id, claimed.parent) == (second, hands.look(first).snapshot_id)


def test_the_parent_is_bound_when_claimed_not_when_ordered(hands: Hands) -> None:
    hands.order()
    later = hands.order()
    assert hands.look(later).parent_id is None
    first = hands.settle(hands.take())
    assert hands.take().parent == first


def test_an_order_before_the_model_was_ever_loaded_waits(database: Database) -> None:
    hands = Hands(database).register().own()
    hands.order()
    assert hands.claim() is None
    assert hands.load().take().parent_seq == 0


def as_former_holder(tx: Tx, step: str, edit: str, epoch: int) -> None:
    match step:
        case "claim":
            work.claim(tx, MODEL, epoch=epoch)
        case "settle":
            blob = put(tx, b"delta")
            work.settle_edit(
                tx, edit, epoch=epoch, blob=blob, fingerprint="f", report={}, timings={}
            )
        case "noop":
            work.settle_noop(tx, edit, epoch=epoch, report=None, timings={})
        case "fail":
            work.settle_failed(tx, edit, epoch=epoch, error={"code": "x"}, timings={})
        case _:
            work.model_ready(tx, MODEL, epoch=epoch, fingerprint="f", info={})


@pytest.mark.parametrize("step", ["claim", "settle", "noop", "fail", "ready"])
def test_who_has_lost_the_lease_writes_nothing(hands: Hands, step: str) -> None:
    edit = hands.order()
    if step != "claim":
        hands.take()
    before, base, mine = hands.look(edit).status, hands.head.id, hands.epoch
    hands.own()  # another worker
    with pytest.raises(Fenced), hands.database.tx() as tx:
        as_former_holder(tx, step, edit, mine)
    assert hands.head.id == base
    assert hands.look(edit).status == before


def test_an_order_is_settled_once(hands: Hands) -> None:
    hands.order()
    order = hands.take()
    hands.settle(order)
    with pytest.raises(NotRunning):
        hands.settle(order)
    assert hands.head.seq == 1


def test_the_next_holder_takes_over_what_was_running(hands: Hands) -> None:
    edit = hands.order()
    lost = hands.take()
    heir = Hands(hands.database).own()
    again = heir.take()
    assert (again.id, again.attempts, again.parent) == (edit, 2, lost.parent)
    with pytest.raises(Fenced):
        hands.settle(lost)
    heir.settle(again)
    assert heir.head.edit_id == edit


def test_a_settle_on_another_head_than_the_parent_is_refused(hands: Hands) -> None:
    hands.order()
    order = hands.take()
    with hands.database.tx() as tx:  # nothing does this; if something did
        other = Snapshot(
            id="snp_x", model_id=MODEL, seq=7, kind="edit", entries=[], depth=0, epoch=1,
            fingerprint="f",
        )  # fmt: skip
        tx.session.add(other)
        tx.session.flush()
        tx.session.execute(update(Model).values(head_id="snp_x", head_seq=7))
    with pytest.raises(HeadMoved):
        hands.settle(order)
    assert hands.look(order.id).status == "running"


def test_after_three_crashes_an_order_is_given_up_and_the_queue_goes_on(hands: Hands) -> None:
    poisoned, sound = hands.order(), hands.order()
    for attempt in (1, 2, 3):
        assert hands.own().take().attempts == attempt
    assert hands.own().take().id == sound
    given_up = hands.look(poisoned)
    assert given_up.status == "failed"
    assert given_up.error is not None
    assert given_up.error["code"] == "poisoned"


def test_an_order_that_was_put_back_has_lost_no_attempt(hands: Hands) -> None:
    edit = hands.order()
    for _ in range(5):
        order = hands.take()
        with hands.database.tx() as tx:
            work.unclaim(tx, order.id, epoch=hands.epoch)
        assert hands.look(edit).status == "queued"
    assert hands.take().attempts == 1


def test_an_order_for_another_head_fails_at_the_claim(hands: Hands) -> None:
    base = hands.head.id
    first, second = hands.order(if_match=base), hands.order(if_match=base)
    third = hands.order()
    hands.settle(hands.take())
    assert hands.take().id == third
    assert hands.look(first).status == "applied"
    error = hands.look(second).error
    assert error is not None
    assert (error["code"], error["expected"]) == ("head-moved", base)


def test_what_the_model_answers_already_leaves_the_head(hands: Hands) -> None:
    base = hands.head.id
    hands.order()
    order = hands.take()
    with hands.database.tx() as tx:
        work.settle_noop(tx, order.id, epoch=hands.epoch, report=None, timings={})
    settled = hands.look(order.id)
    assert (settled.status, settled.noop, settled.live) == ("applied", True, False)
    assert settled.snapshot_id == hands.head.id == base


def test_a_failed_order_keeps_its_reason_and_leaves_the_head(hands: Hands) -> None:
    base = hands.head.id
    edit = hands.order()
    order = hands.take()
    with hands.database.tx() as tx:
        error = {"code": "search-diverged", "detail": "Raise search.steps."}
        work.settle_failed(tx, order.id, epoch=hands.epoch, error=error, timings={"z": 3.0})
    failed = hands.look(edit)
    assert (failed.status, failed.error, failed.timings) == ("failed", error, {"z": 3.0})
    assert hands.head.id == base
    assert events(hands.database, edit)[-1] == "edit.failed"


def test_a_measure_that_is_not_finite_is_kept_as_null(hands: Hands) -> None:
    hands.order()
    order = hands.take()
    with hands.database.tx() as tx:
        report = {"drift": {"perplexity": {"value": float("inf"), "n": 3}}}
        work.settle_noop(tx, order.id, epoch=hands.epoch, report=report, timings={})
    assert hands.look(order.id).report == {"drift": {"perplexity": {"value": None, "n": 3}}}


def test_progress_is_noted_while_the_order_runs_and_no_longer(hands: Hands) -> None:
    edit = hands.order()
    order = hands.take()
    step = {"stage": "z", "done": 3, "total": 25, "loss": 0.5}
    with hands.database.tx() as tx:
        work.progress(tx, edit, epoch=hands.epoch, progress=step)
    assert hands.look(edit).progress == step
    hands.settle(order)
    with hands.database.tx() as tx:
        work.progress(tx, edit, epoch=hands.epoch, progress=step)
    assert hands.look(edit).progress is None


def test_the_base_is_written_once_and_must_stay_what_it_is(hands: Hands) -> None:
    base = hands.head
    assert (base.kind, base.seq, base.parent_id, base.fingerprint) == (
        "base",
        0,
        None,
        "sha256:base",
    )
    hands.own().load()
    with hands.database.tx() as tx:
        assert tx.session.scalar(select(func.count()).select_from(Snapshot)) == 1
    with pytest.raises(FingerprintMismatch):
        hands.own().load("sha256:other")


def test_a_model_that_cannot_be_loaded_says_why(hands: Hands) -> None:
    with hands.database.tx() as tx:
        work.model_failed(tx, MODEL, error={"code": "unsupported-architecture", "detail": "d"})
    with hands.database.tx() as tx:
        model = models.get(tx, MODEL)
    assert (model.status, (model.error or {})["code"]) == ("failed", "unsupported-architecture")


def test_a_removed_model_ends_the_order_that_runs(hands: Hands) -> None:
    running, queued = hands.order(), hands.order()
    order = hands.take()
    with hands.database.tx() as tx:
        models.remove(tx, MODEL)
    with pytest.raises(NotRunning):
        hands.settle(order)
    with pytest.raises(ModelNotFound):
        hands.claim()
    assert [hands.look(edit).status for edit in (running, queued)] == ["cancelled"] * 2


def test_an_order_that_somebody_wants_cancelled_does_not_settle(hands: Hands) -> None:
    edit = hands.order()
    order = hands.take()
    with hands.database.tx() as tx:
        tx.session.execute(update(Edit).where(Edit.id == edit).values(cancel_requested=True))
    with pytest.raises(NotRunning):
        hands.settle(order)
    assert hands.claim() is None
    assert hands.look(edit).status == "cancelled"
