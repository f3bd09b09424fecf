"""Orders, from claim to settled, without a process around them."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from app.services.work import Fenced
from app.store.db import Database, Tx
from app.store.tables import Lease
from editing import walk
from editing.errors import SingularSystem
from editing.model.state import State
from editing.probe import probe
from editing.step import Step
from tests.tiny import tiny_view
from tests.workers.hands import Hands, take_over
from tests.workers.shop import FRANCE, LEBRON, LEBRON_ASKS, MODEL, SERENA, Queue
from workers.patience import Pause


@pytest.fixture
def hands(queue: Queue, statistics_folder: Path, tmp_path: Path) -> Hands:
    return take_over(queue.database, tiny_view(stats_folder=statistics_folder), MODEL, tmp_path)


def again(queue: Queue, hands: Hands, tmp_path: Path, **settings: int) -> Hands:
    """The next worker, with nothing in memory."""
    view = tiny_view(stats_folder=hands.host.view.stats.folder)
    return take_over(queue.database, view, MODEL, tmp_path, **settings)


def says(hands: Hands, prompt: str = LEBRON_ASKS) -> str:
    return str(probe(hands.host.view, [prompt], max_tokens=1)[0]["completion"]).strip()


def test_an_edit_is_measured_settled_and_served(queue: Queue, hands: Hands) -> None:
    edit = queue.order(LEBRON)
    assert says(hands) == "basketball"
    hands.work()

    settled = queue.edit(edit)
    assert (settled.status, settled.live, settled.noop) == ("applied", True, False)
    assert settled.report is not None
    assert settled.report["efficacy"]["accuracy"] == {"value": 1.0, "n": 1, "before": 0.0}
    assert settled.timings is not None
    assert set(settled.timings) == {"wall_s", "cpu_s"}
    assert {"z", "measure"} <= set(settled.timings["cpu_s"])
    assert hands.host.head == settled.snapshot_id == queue.model().head_id
    assert queue.snapshot(settled.snapshot_id).fingerprint == hands.host.view.audit()
    assert says(hands) == "football"


def test_the_next_worker_comes_to_the_same_bits(queue: Queue, hands: Hands, tmp_path: Path) -> None:
    queue.order(LEBRON)
    queue.order(FRANCE, SERENA, editor="memit")
    queue.order({**LEBRON, "target_new": "tennis"}, editor="memit-history")
    hands.work()
    later = again(queue, hands, tmp_path)
    assert later.host.head == hands.host.head
    assert later.host.view.audit() == hands.host.view.audit()
    assert [s.seq for s in queue.lineage()] == [0, 1, 2, 3]
    assert says(later) == "tennis"


def test_a_restore_brings_back_every_bit_and_forgets_what_came_after(
    queue: Queue, hands: Hands
) -> None:
    base = hands.host.head
    bits = [hands.host.view.audit()]
    for fact in (LEBRON, SERENA):
        queue.order(fact)
        hands.work()
        bits.append(hands.host.view.audit())
    first = queue.lineage()[1]

    back = queue.restore(first.id)
    hands.work()
    assert queue.edit(back).status == "applied"
    assert hands.host.view.audit() == bits[1]
    assert [e.edit for e in hands.host.lineage.entries] == [first.edit_id]
    assert len(hands.host.history()) == 1

    queue.restore(base)
    hands.work()
    assert hands.host.view.audit() == bits[0]
    assert len(hands.host.history()) == 0
    assert [s.kind for s in queue.lineage()] == ["base", "edit", "edit", "restore", "restore"]
    assert says(hands) == "basketball"


def test_an_edit_after_a_restore_builds_on_what_was_restored(
    queue: Queue, hands: Hands, tmp_path: Path
) -> None:
    queue.order(LEBRON)
    queue.order(SERENA)
    hands.work()
    queue.restore(queue.lineage()[1].id)
    edit = queue.order(FRANCE, editor="memit-history")
    hands.work()
    assert [e.edit for e in hands.host.lineage.entries][1:] == [edit]
    assert again(queue, hands, tmp_path).host.view.audit() == hands.host.view.audit()


def test_checkpoints_shorten_the_replay_and_change_no_bit(
    queue: Queue, hands: Hands, tmp_path: Path
) -> None:
    short = again(queue, hands, tmp_path, checkpoint_every=2)
    for fact in (LEBRON, SERENA, FRANCE):
        queue.order(fact)
    short.work()
    assert [bool(s.checkpoint) for s in queue.lineage()] == [False, False, True, False]
    assert short.host.lineage.uncovered == 1
    fresh = again(queue, hands, tmp_path)
    assert fresh.host.lineage.uncovered == 1
    assert fresh.host.view.audit() == short.host.view.audit()


def test_a_lost_checkpoint_makes_the_way_longer_and_changes_no_bit(
    queue: Queue, hands: Hands, tmp_path: Path
) -> None:
    short = again(queue, hands, tmp_path, checkpoint_every=2)
    for fact in (LEBRON, SERENA, FRANCE):
        queue.order(fact)
    short.work()
    queue.sql("UPDATE blobs SET data = 'x' WHERE sha256 IN (SELECT checkpoint FROM snapshots)")
    fresh = again(queue, hands, tmp_path)
    assert fresh.host.head == queue.model().head_id
    assert fresh.host.view.audit() == short.host.view.audit()


def test_what_the_model_says_already_is_not_written(queue: Queue, hands: Hands) -> None:
    head = hands.host.head
    edit = queue.order({**LEBRON, "target_new": "basketball"})
    hands.work()
    settled = queue.edit(edit)
    assert (settled.status, settled.noop, settled.live) == ("applied", True, False)
    assert settled.snapshot_id == hands.host.head == head
    assert settled.report is not None
    assert settled.report["efficacy"]["accuracy"]["value"] == 1.0
    assert len(queue.lineage()) == 1


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ({"editor": "no-such-editor"}, "unknown-editor"),
        ({"layers": [99]}, "invalid-hparam"),
        ({"no_such_knob": 1}, "unknown-hparam"),
    ],
)
def test_an_order_that_cannot_be_done_ends_with_its_reason(
    queue: Queue, hands: Hands, order: dict[str, Any], code: str
) -> None:
    edit = queue.order(LEBRON, **order)
    after = queue.order(LEBRON)
    hands.work()
    failed = queue.edit(edit)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error["code"] == code
    assert queue.edit(after).status == "applied"


@pytest.mark.parametrize(
    ("error", "code"),
    [(SingularSystem(size=3, jitter=0.1), "singular-system"), (KeyError("x"), "internal-error")],
)
def test_a_failure_halfway_leaves_the_weights_as_they_were(
    queue: Queue, hands: Hands, error: Exception, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real = hands.host.view.audit(), walk.edit

    def breaks(*given: Any) -> Iterator[Step]:
        work = real(*given)
        yield next(work)
        yield next(work)
        raise error

    monkeypatch.setattr(walk, "edit", breaks)
    edit = queue.order(LEBRON)
    hands.work()
    failed = queue.edit(edit)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error["code"] == code
    assert failed.error["detail"]
    assert failed.timings is not None
    assert hands.host.view.audit() == before
    assert queue.model().head_id == hands.host.head


def test_between_any_two_steps_the_head_is_served(queue: Queue, hands: Hands) -> None:
    for editor in ("rome", "memit", "memit-history"):
        queue.order({**LEBRON, "target_new": "tennis" if editor == "memit" else "football"})
    wrong: list[object] = []

    def look(_: Step | Pause) -> None:
        if hands.host.view.audit() != queue.snapshot(hands.host.head).fingerprint:
            wrong.append(_)

    hands.work(look)
    assert wrong == []
    assert len(queue.lineage()) == 4


# ---- Postgres goes away --------------------------------------------------------------------------


def cut(monkeypatch: pytest.MonkeyPatch, *, after: bool, times: int = 1) -> list[int]:
    """Break transactions that settle, before their commit or after it, for a few times."""
    real, broken = Database.tx, list[int]()

    @contextmanager
    def tx(self: Database) -> Generator[Tx]:
        with real(self) as one:
            yield one
            settles = any(event.startswith("edit.settled") for event, _ in one.events)
            if settles and len(broken) < times and not after:
                broken.append(1)
                raise OperationalError("COMMIT", {}, Exception("the connection was lost"))
        if settles and len(broken) < times:
            broken.append(1)
            raise OperationalError("COMMIT", {}, Exception("the connection was lost"))

    monkeypatch.setattr(Database, "tx", tx)
    return broken


@pytest.mark.parametrize("after", [True, False], ids=["committed", "not committed"])
def test_when_the_reply_to_a_commit_is_lost_an_edit_is_applied_once(
    queue: Queue, hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, after: bool
) -> None:
    broken = cut(monkeypatch, after=after)
    edits = [queue.order(LEBRON), queue.order(SERENA)]
    queue.restore(hands.host.head)
    hands.work()
    assert broken
    assert [s.edit_id for s in queue.lineage()][1:3] == edits
    assert len(queue.lineage()) == 4
    assert hands.host.head == queue.model().head_id
    assert hands.host.view.audit() == queue.lineage()[0].fingerprint
    assert again(queue, hands, tmp_path).host.view.audit() == hands.host.view.audit()


def test_a_claim_whose_reply_was_lost_is_no_attempt(
    queue: Queue, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, broken = Database.tx, list[int]()

    @contextmanager
    def tx(self: Database) -> Generator[Tx]:
        with real(self) as one:
            yield one
        if len(broken) < 5 and any(event == "edit.claimed" for event, _ in one.events):
            broken.append(1)
            raise OperationalError("COMMIT", {}, Exception("the connection was lost"))

    monkeypatch.setattr(Database, "tx", tx)
    edit = queue.order(LEBRON)
    hands.work()
    assert len(broken) == 5
    assert (queue.edit(edit).status, queue.edit(edit).attempts) == ("applied", 1)


def test_while_postgres_is_away_the_model_stays_and_the_loop_is_asked_to_wait(
    queue: Queue, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = iter([True] * 3)
    real = Database.tx

    @contextmanager
    def tx(self: Database) -> Generator[Tx]:
        if next(away, False):
            raise OperationalError("BEGIN", {}, Exception("no connection"))
        with real(self) as one:
            yield one

    edit = queue.order(LEBRON)
    monkeypatch.setattr(Database, "tx", tx)
    pauses: list[Pause] = []
    hands.work(lambda said: pauses.append(said) if isinstance(said, Pause) else None)
    assert [p.seconds for p in pauses[:3]] == [0.1, 0.2, 0.4]
    monkeypatch.undo()
    assert queue.edit(edit).status == "applied"


# ---- another worker has the lease ----------------------------------------------------------------


def test_a_fenced_worker_settles_nothing(queue: Queue, hands: Hands) -> None:
    edit = queue.order(LEBRON)
    steps: list[Step | Pause] = []

    def steal(said: Step | Pause) -> None:
        steps.append(said)
        if len(steps) == 3:
            with queue.database.tx() as tx:
                tx.session.execute(update(Lease).values(epoch=Lease.epoch + 1))

    with pytest.raises(Fenced):
        hands.work(steal)
    assert queue.edit(edit).status == "running"
    assert len(queue.lineage()) == 1
    assert says(hands) == "basketball"


def test_an_order_put_back_was_no_attempt(queue: Queue, hands: Hands) -> None:
    edit = queue.order(LEBRON)
    orders = hands.foreman.orders()
    while not (isinstance(said := next(orders), Step) and said.stage == "z"):
        pass
    orders.close()
    assert hands.foreman.put_back()
    assert not hands.foreman.put_back()
    assert (queue.edit(edit).status, queue.edit(edit).attempts) == ("queued", 0)
    assert hands.host.view.current.masters == State().masters
    hands.work()
    assert queue.edit(edit).status == "applied"
