"""The lease against a real Postgres: one holder, an epoch for each, no way back for a late one."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from app.store.db import Database
from app.store.tables import Lease as LeaseRow
from tests.workers.shop import MODEL, Queue, eventually
from workers.lease import Lease, Terms
from workers.patience import end_idle_transactions
from workers.pulse import Pulse

TTL = 0.6


class Holder:
    """Somebody who wants the lease, with a pulse that the test controls."""

    def __init__(self, url: str, name: str) -> None:
        self.pulse = Pulse()
        self.rung = threading.Event()
        self.hung = threading.Event()
        terms = Terms(url=url, model=MODEL, holder=name, ttl=TTL)
        self.lease = Lease(terms, self.pulse, wake=self.rung.set)

    def take(self) -> int:
        epoch = self.lease.acquire()
        self.lease.watch(self.hung.set)
        return epoch

    def take_later(self) -> threading.Event:
        """Wait for the lease in a thread; the event says that it was taken."""
        taken = threading.Event()

        def wait() -> None:
            self.take()
            taken.set()

        threading.Thread(target=wait, daemon=True).start()
        return taken


@pytest.fixture
def holder(queue: Queue) -> Iterator[Callable[[str], Holder]]:
    made: list[Holder] = []

    def make(name: str) -> Holder:
        made.append(Holder(queue.database.url, name))
        return made[-1]

    yield make
    for one in made:
        one.lease.release()


def row(queue: Queue) -> LeaseRow:
    with queue.database.tx() as tx:
        return tx.session.get_one(LeaseRow, MODEL)


def test_one_holder_at_a_time_and_the_next_at_once(
    queue: Queue, holder: Callable[[str], Holder]
) -> None:
    first, second = holder("first"), holder("second")
    assert first.take() == 1
    taken = second.take_later()
    assert not taken.wait(3 * TTL)  # renewed, so it does not run out
    assert row(queue).holder == "first"
    first.lease.release()
    assert taken.wait(1)
    assert (row(queue).holder, row(queue).epoch) == ("second", 2)
    assert not second.lease.lost.is_set()


def test_a_killed_holder_is_replaced_before_its_time_is_over(
    queue: Queue, holder: Callable[[str], Holder]
) -> None:
    first, second = holder("first"), holder("second")
    first.lease.acquire()
    queue.sql("UPDATE leases SET expires_at = now() + interval '1 hour'")
    assert first.lease._lock is not None
    first.lease._lock.close()  # as the kernel does for a killed process
    assert second.take_later().wait(2)
    assert row(queue).epoch == 2


def test_a_holder_cut_off_past_its_time_is_replaced_and_does_not_come_back(
    queue: Queue, holder: Callable[[str], Holder]
) -> None:
    first, second = holder("first"), holder("second")
    first.lease.acquire()  # and no heartbeat follows
    began = time.monotonic()
    assert second.take_later().wait(5 * TTL)
    assert time.monotonic() - began > TTL * 0.8
    first.lease.watch(first.hung.set)  # it can speak again
    assert first.lease.lost.wait(2)
    assert first.rung.is_set()
    assert first.lease._lock is None
    time.sleep(2 * TTL)
    assert (row(queue).holder, row(queue).epoch) == ("second", 2)
    assert not second.lease.lost.is_set()


def test_a_model_thread_that_hangs_loses_the_lease(holder: Callable[[str], Holder]) -> None:
    first, second = holder("first"), holder("second")
    first.pulse.tick(60)
    first.take()
    taken = second.take_later()
    assert not taken.wait(2 * TTL)
    first.pulse.tick(0)  # and then nothing more
    assert taken.wait(5 * TTL)
    assert first.hung.wait(3 * TTL)


def test_a_thread_that_moves_again_in_time_keeps_the_lease(
    queue: Queue, holder: Callable[[str], Holder]
) -> None:
    first = holder("first")
    first.take()
    first.pulse.tick(0)
    time.sleep(TTL / 2)
    first.pulse.tick(60)
    time.sleep(2 * TTL)
    assert not first.lease.lost.is_set()
    assert not first.hung.is_set()
    expires = row(queue).expires_at
    assert expires is not None
    assert expires > datetime.now(UTC)


def test_a_holder_whose_connection_broke_takes_its_lock_again(
    queue: Queue, holder: Callable[[str], Holder]
) -> None:
    first, second = holder("first"), holder("second")
    first.take()
    before = row(queue).backend_pid
    everyone = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    )
    queue.sql(f"{everyone} AND application_name = 'errata lease'")  # Postgres was restarted
    eventually(lambda: row(queue).backend_pid != before, "the lock to be taken again", 5)
    taken = second.take_later()
    assert not taken.wait(3 * TTL)
    assert not first.lease.lost.is_set()
    assert row(queue).epoch == 1


def test_an_open_transaction_of_a_frozen_holder_does_not_keep_the_next_one_out(
    queue: Queue, holder: Callable[[str], Holder]
) -> None:
    first, second = holder("first"), holder("second")
    first.lease.acquire()
    database = Database(queue.database.url)
    end_idle_transactions(database.engine, TTL)
    session = database.engine.connect()
    session.exec_driver_sql("SELECT 1 FROM leases FOR UPDATE")  # and here it freezes
    assert second.take_later().wait(6 * TTL)
    session.invalidate()
    session.close()
    database.close()
