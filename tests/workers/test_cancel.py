"""Orders that are cancelled while they run, that only look, or that only prepare."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import OrderSettled
from app.queue.outbox import Relay
from editing.step import Step
from tests.tiny import tiny_view
from tests.workers.hands import Hands, take_over
from tests.workers.shop import (
    FRANCE,
    LEBRON,
    LEBRON_ASKS,
    MODEL,
    SERENA,
    Queue,
    Shop,
    ended,
    eventually,
)
from workers.patience import Pause


@pytest.fixture
def hands(queue: Queue, statistics_folder: Path, tmp_path: Path) -> Hands:
    return take_over(queue.database, tiny_view(stats_folder=statistics_folder), MODEL, tmp_path)


@pytest.fixture
def relay(shop: Shop, redis_url: str) -> Iterator[Relay]:
    """The API's: what its transactions have to say is sent at once."""
    relay = Relay(shop.queue.database, redis_url, every_s=0.05)
    relay.start()
    yield relay
    relay.stop()


def in_progress(shop: Shop, edit: str) -> None:
    """Wait until an edit is being computed."""
    eventually(lambda: shop.queue.edit(edit).progress is not None, f"steps. {shop.said()}")


class Canceller:
    """Asks at the first step of a stage, and counts the steps that come after."""

    def __init__(self, queue: Queue, edit: str, stage: str) -> None:
        self._queue, self._edit, self._stage = queue, edit, stage
        self.asked, self.later = False, 0

    def __call__(self, said: Step | Pause) -> None:
        if self.asked and self._queue.edit(self._edit).status == "running":
            self.later += 1
        elif not self.asked and isinstance(said, Step) and said.stage == self._stage:
            assert self._queue.cancel(self._edit) == "running"
            self.asked = True

    def called(self) -> bool:
        return self.asked


@pytest.mark.parametrize("stage", ["measure", "z", "keys", "solve"])
@pytest.mark.parametrize("facts", [(LEBRON,), (LEBRON, SERENA, FRANCE)], ids=["one", "batch"])
def test_a_running_edit_stops_within_a_step(
    queue: Queue, hands: Hands, stage: str, facts: tuple[dict[str, str], ...]
) -> None:
    first = queue.order({**FRANCE, "target_new": "Madrid"})
    hands.work()
    before, head = hands.host.view.audit(), hands.host.head
    edit = queue.order(*facts, editor="memit")
    after = queue.order(SERENA)
    canceller = Canceller(queue, edit, stage)
    hands.heed(canceller.called)
    seen: list[str] = []

    def look(said: Step | Pause) -> None:
        canceller(said)
        if queue.edit(edit).status == "cancelled" and not seen:
            seen.append(hands.host.view.audit())

    orders = hands.foreman.orders()
    deadline = time.monotonic() + 60
    while queue.edit(after).settled_at is None and time.monotonic() < deadline:
        look(next(orders))
    cancelled = queue.edit(edit)
    assert (cancelled.status, cancelled.snapshot_id, cancelled.live) == ("cancelled", None, False)
    assert cancelled.attempts == 0
    assert cancelled.timings is not None
    assert canceller.later <= 1
    assert seen == [before]
    applied = queue.edit(after)
    assert (applied.status, applied.parent_id) == ("applied", head)
    assert [s.edit_id for s in queue.lineage()] == [None, first, after]


def test_without_redis_the_worker_looks_by_itself(shop: Shop) -> None:
    shop.worker("slower", redis_url="redis://127.0.0.1:1/0", poll_s=0.2)
    edit, after = shop.queue.order(LEBRON), shop.queue.order(FRANCE)
    in_progress(shop, edit)
    assert shop.queue.cancel(edit) == "running"
    assert shop.queue.settled(edit).status == "cancelled", shop.said()
    assert shop.queue.settled(after).status == "applied"


def test_with_redis_the_worker_hears_at_once(shop: Shop, relay: Relay) -> None:
    shop.serving(shop.worker("slower", poll_s=60))
    edit = shop.queue.order(LEBRON)
    shop.redis.xadd(f"edits:{MODEL}", {"edit_id": edit})
    in_progress(shop, edit)
    assert shop.queue.cancel(edit) == "running"
    relay.wake()
    cancelled = shop.queue.settled(edit, 10)
    assert (cancelled.status, cancelled.timings is None) == ("cancelled", False), shop.said()
    assert "edit.dropped" not in shop.said()  # it was stopped, and not found out at its end
    reply = shop.probe(LEBRON_ASKS)
    assert str(reply.data[0]["completion"]).strip().startswith("basketball")
    assert reply.data[0]["snapshot"] == shop.queue.lineage()[0].id
    with pytest.raises(OrderSettled):
        shop.queue.cancel(edit)


def test_a_cancel_of_an_order_put_back_ends_it_there(shop: Shop) -> None:
    worker = shop.worker("slower", poll_s=60)
    edit = shop.queue.order(LEBRON)
    in_progress(shop, edit)
    shop.queue.cancel(edit)  # nobody tells the worker
    os.kill(worker.pid or 0, signal.SIGTERM)
    assert ended(worker) == 0
    assert shop.queue.edit(edit).status == "cancelled"


def test_a_cancel_outlives_the_worker_that_should_have_heard(shop: Shop) -> None:
    worker = shop.worker("slower", poll_s=60)
    edit, after = shop.queue.order(LEBRON), shop.queue.order(FRANCE)
    in_progress(shop, edit)
    assert shop.queue.cancel(edit) == "running"
    os.kill(worker.pid or 0, signal.SIGKILL)
    ended(worker)
    shop.worker()
    assert shop.queue.settled(edit).status == "cancelled"
    assert shop.queue.settled(after).status == "applied"
    assert [s.edit_id for s in shop.queue.lineage()] == [None, after]


@pytest.mark.parametrize("kind", ["restore", "statistics", "dry run"])
def test_every_kind_of_order_can_be_cancelled(queue: Queue, hands: Hands, kind: str) -> None:
    queue.order(LEBRON)
    hands.work()
    before, head = hands.host.view.audit(), hands.host.head
    if kind == "restore":
        hands.host._states._states.clear()
        order = queue.restore(queue.lineage()[0].id)
    elif kind == "statistics":
        hands.host.view.stats.folder = None
        hands.host.view.stats._moments.clear()
        order = queue.statistics()
    else:
        order = queue.order(SERENA, dry_run=True)
    stage = {"restore": "solve", "statistics": "statistics", "dry run": "z"}[kind]
    canceller = Canceller(queue, order, stage)
    hands.heed(canceller.called)
    hands.work(canceller)
    assert queue.edit(order).status == "cancelled"
    assert (hands.host.view.audit(), hands.host.head) == (before, head)
    assert queue.model().head_id == head


def test_a_cancel_that_comes_with_a_lost_reply_follows_the_head(
    queue: Queue, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order was applied, nobody heard, and then the worker looks for a cancel."""
    from tests.workers.test_jobs import cut  # noqa: PLC0415 - a trick of those tests

    cut(monkeypatch, after=True)
    edit = queue.order(LEBRON)
    hands.heed(lambda: True)
    hands.work()
    assert queue.edit(edit).status == "applied"
    assert hands.host.head == queue.model().head_id == queue.edit(edit).snapshot_id
    assert hands.host.view.audit() == queue.lineage()[-1].fingerprint


def test_a_dry_run_measures_and_keeps_nothing(queue: Queue, hands: Hands) -> None:
    before, head = hands.host.view.audit(), hands.host.head
    dry, real = queue.order(LEBRON, dry_run=True), queue.order(LEBRON)
    orders = hands.foreman.orders()
    while queue.edit(dry).settled_at is None:
        next(orders)
    assert hands.host.view.audit() == before
    assert queue.model().head_id == head
    hands.work()
    looked, done = queue.edit(dry), queue.edit(real)
    assert (looked.status, looked.snapshot_id, looked.live) == ("applied", None, False)
    assert looked.report is not None
    assert done.report is not None
    assert looked.report["efficacy"] == done.report["efficacy"]
    assert looked.report["efficacy"]["accuracy"]["value"] == 1.0
    assert [s.edit_id for s in queue.lineage()] == [None, real]


def test_a_dry_run_of_what_is_answered_already(queue: Queue, hands: Hands) -> None:
    edit = queue.order({**LEBRON, "target_new": "basketball"}, dry_run=True)
    hands.work()
    settled = queue.edit(edit)
    assert (settled.status, settled.noop, settled.snapshot_id) == ("applied", True, None)


def test_statistics_are_made_ready_ahead_of_the_first_edit(queue: Queue, tmp_path: Path) -> None:
    hands = take_over(queue.database, tiny_view(stats_folder=tmp_path / "s"), MODEL, tmp_path)
    head = hands.host.head
    orders = [queue.statistics("memit"), queue.statistics("memit")]
    hands.work()
    first, again = (queue.edit(order) for order in orders)
    for settled in (first, again):
        assert (settled.status, settled.snapshot_id) == ("applied", None)
        assert settled.report is not None
        found = settled.report["statistics"]
        assert [one["text"] for one in found] == ["self"] * len(found)
        assert all(one["tokens"] >= 640 for one in found)
    assert first.report is not None
    assert again.report is not None
    assert (first.report["collected"], again.report["collected"]) == (True, False)
    assert again.report["statistics"] == first.report["statistics"]
    assert hands.host.head == head
    edit = queue.order(LEBRON, editor="memit")
    stages: set[str] = set()
    hands.work(lambda said: stages.add(said.stage) if isinstance(said, Step) else None)
    assert queue.edit(edit).status == "applied"
    assert "statistics" not in stages


def test_statistics_for_an_editor_that_is_none(queue: Queue, hands: Hands) -> None:
    order = queue.statistics("no-such-editor")
    hands.work()
    failed = queue.edit(order)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error["code"] == "unknown-editor"
