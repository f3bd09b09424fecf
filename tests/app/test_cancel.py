"""Cancelling: a cancel and the order's own end, of which one wins and never both."""

import threading

import pytest
from sqlalchemy import select, update

from app.errors import OrderSettled
from app.queue.messages import CancelEdit, RunEdit, on_stream
from app.services import cancel, work
from app.services.work import Claimed, NotRunning
from app.store.db import Database
from app.store.tables import Edit, JournalRow, Lease, OutboxRow
from tests.app.hands import Hands


def cancelled(hands: Hands, edit: str) -> Edit:
    with hands.database.tx() as tx:
        return cancel.request(tx, edit)


def wanted(hands: Hands, order: Claimed) -> bool:
    with hands.database.tx() as tx:
        return work.cancel_wanted(tx, order.id, epoch=hands.epoch)


def stop(hands: Hands, order: Claimed) -> None:
    with hands.database.tx() as tx:
        work.settle_cancelled(tx, order.id, epoch=hands.epoch, timings={"z": 0.1})


def test_a_queued_order_is_cancelled_at_once_and_the_queue_goes_on(hands: Hands) -> None:
    first, second = hands.order(), hands.order()
    assert cancelled(hands, first).status == "cancelled"
    assert hands.take().id == second
    with hands.database.tx() as tx:
        said = tx.session.scalars(
            select(JournalRow.event).where(JournalRow.edit_id == first).order_by(JournalRow.id)
        )
        assert list(said) == ["edit.submitted", "edit.settled"]
    with pytest.raises(OrderSettled, match="cancelled already"):
        cancelled(hands, first)


def test_what_is_applied_can_be_taken_back_otherwise(hands: Hands) -> None:
    base = hands.head.id
    edit, _ = hands.edit()
    with pytest.raises(OrderSettled, match=f"POST /edits/{edit}/retract .*; restore the snapshot"):
        cancelled(hands, edit)
    restore, _ = hands.restore(base)
    with pytest.raises(OrderSettled, match="Restore the snapshot before it"):
        cancelled(hands, restore)
    tried = hands.order(dry_run=True)
    hands.settle(hands.take())
    with pytest.raises(OrderSettled, match=r"is applied already\. GET"):
        cancelled(hands, tried)


def test_a_running_order_stops_when_its_worker_hears_of_it(hands: Hands) -> None:
    hands.order()
    head, order = hands.head.id, hands.take()
    assert not wanted(hands, order)
    asked = cancelled(hands, order.id)
    assert (asked.status, asked.cancel_requested) == ("running", True)
    assert cancelled(hands, order.id).status == "running"  # a second time changes nothing
    with hands.database.tx() as tx:
        sent = tx.session.scalars(select(OutboxRow.message).order_by(OutboxRow.id)).all()
    assert sent[-1] == CancelEdit(edit_id=order.id).to_dict()
    assert sent.count(sent[-1]) == 1
    assert wanted(hands, order)
    stop(hands, order)
    settled = hands.look(order.id)
    assert (settled.status, settled.attempts, settled.timings) == ("cancelled", 0, {"z": 0.1})
    assert hands.head.id == head


def test_what_was_asked_to_stop_cannot_be_applied(hands: Hands) -> None:
    hands.order()
    order = hands.take()
    cancelled(hands, order.id)
    with pytest.raises(NotRunning):
        hands.settle(order)
    stop(hands, order)


def test_what_nobody_cancelled_cannot_be_settled_as_cancelled(hands: Hands) -> None:
    hands.order()
    order = hands.take()
    with pytest.raises(NotRunning):
        stop(hands, order)


def test_a_cancelled_order_that_is_put_back_ends(hands: Hands) -> None:
    hands.order()
    order = hands.take()
    cancelled(hands, order.id)
    with hands.database.tx() as tx:
        work.unclaim(tx, order.id, epoch=hands.epoch)
    assert hands.look(order.id).status == "cancelled"
    assert wanted(hands, order)  # there is nothing left to do


def test_a_crash_between_cancel_and_stop_leaves_no_running_order(hands: Hands) -> None:
    hands.order()
    order = hands.take()
    cancelled(hands, order.id)
    successor = Hands(hands.database).own()
    assert successor.claim() is None
    assert hands.look(order.id).status == "cancelled"


@pytest.mark.parametrize("fate", ["fenced", "expired"])
def test_an_order_in_dead_hands_is_cancelled_at_once(hands: Hands, fate: str) -> None:
    hands.order()
    order = hands.take()
    with hands.database.tx() as tx:
        began = hands.look(order.id).started_at
        change = {"epoch": Lease.epoch + 1} if fate == "fenced" else {"expires_at": began}
        tx.session.execute(update(Lease).values(change))
    assert cancelled(hands, order.id).status == "cancelled"
    with pytest.raises((NotRunning, work.Fenced)):
        hands.settle(order)


def test_restores_can_be_cancelled_too(hands: Hands) -> None:
    base = hands.head.id
    hands.edit()
    order = hands.order_restore(base)
    assert cancelled(hands, order).status == "cancelled"
    assert hands.claim() is None


@pytest.mark.parametrize("first", ["cancel", "settle"])
def test_whoever_locks_first_wins(hands: Hands, first: str) -> None:
    """The second waits for the first one's commit, and finds that it came too late."""
    hands.order()
    order = hands.take()
    outcome: list[str] = []

    def second() -> None:
        try:
            if first == "settle":
                cancelled(hands, order.id)
            else:
                hands.settle(order)
        except (OrderSettled, NotRunning) as error:
            outcome.append(type(error).__name__)

    other = threading.Thread(target=second)
    if first == "settle":
        with hands.database.tx() as tx:
            work.settle_noop(tx, order.id, epoch=hands.epoch, report=None, timings={})
            other.start()
            wait_for_a_lock(hands.database)
    else:
        with hands.database.tx() as tx:
            cancel.request(tx, order.id)
            other.start()
            wait_for_a_lock(hands.database)
    other.join(timeout=10)
    assert outcome == ["OrderSettled" if first == "settle" else "NotRunning"]
    assert hands.look(order.id).status == ("applied" if first == "settle" else "running")


@pytest.mark.parametrize("first", ["cancel", "claim"])
def test_a_cancel_and_a_claim_come_one_after_the_other(hands: Hands, first: str) -> None:
    """The claim that was kept waiting takes the next order, and not none."""
    order, following = hands.order(), hands.order()
    outcome: list[str | None] = []

    def second() -> None:
        if first == "claim":
            outcome.append(cancelled(hands, order).status)
        else:
            outcome.append(hands.take().id)

    other = threading.Thread(target=second)
    with hands.database.tx() as tx:
        if first == "claim":
            claimed = work.claim(tx, hands.model, epoch=hands.epoch)
            assert claimed is not None
            assert claimed.id == order
        else:
            cancel.request(tx, order)
        other.start()
        wait_for_a_lock(hands.database)
    other.join(timeout=10)
    assert outcome == ["running" if first == "claim" else following]
    assert hands.look(order).cancel_requested == (first == "claim")


def wait_for_a_lock(database: Database) -> None:
    """Wait until some transaction waits for another."""
    with database.engine.connect() as connection:
        for _ in range(1000):
            waiting = connection.exec_driver_sql(
                "SELECT count(*) FROM pg_locks WHERE NOT granted"
            ).scalar_one()
            if waiting:
                return
            connection.exec_driver_sql("SELECT pg_sleep(0.01)")
    pytest.fail("nobody waits")


def test_a_stream_tells_orders_from_cancels_and_leaves_the_rest_alone() -> None:
    def read(**fields: str) -> object:
        return on_stream({name.encode(): value.encode() for name, value in fields.items()})

    assert read(**RunEdit(edit_id="edt_1").to_dict()) == RunEdit(edit_id="edt_1")
    assert read(**CancelEdit(edit_id="edt_1").to_dict()) == CancelEdit(edit_id="edt_1")
    assert read(edit_id="edt_1", kind="later") is None
    assert read(kind="cancel") is None
