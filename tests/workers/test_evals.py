"""Evals on a worker: in the time that orders leave, kept case by case, the head never moved."""

import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.services import eval_work, evals
from app.services.evals import EvalOrder
from app.store.blobs import Blobs
from app.store.tables import Eval, EvalRow
from editing.model.state import State
from editing.step import Step
from tests.tiny import tiny_view
from tests.workers.hands import IDLE_S, Hands, take_over
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
from workers.evaluator import Evaluator
from workers.failpoints import EXIT_CODE
from workers.patience import Pause

Json = dict[str, Any]

FACTS: list[Json] = [LEBRON, SERENA, FRANCE]


@pytest.fixture
def hands(queue: Queue, statistics_folder: Path, tmp_path: Path) -> Hands:
    return take_over(queue.database, tiny_view(stats_folder=statistics_folder), MODEL, tmp_path)


def ask(queue: Queue, folder: Path, **more: Any) -> str:
    """Journal an eval of what an editor would do to some facts."""
    given: Json = {
        "records": FACTS,
        "options": {},
        "editor": "rome",
        "hparams": {},
        "data": {},
        "model": MODEL,
        "snapshots": [],
        **more,
    }
    order: EvalOrder = evals.checked(given.pop("suite", "efficacy"), given.pop("records"), **given)
    with queue.database.tx() as tx:
        return evals.submit(tx, Blobs(queue.database, folder), order, max_waiting=9).id


def look(queue: Queue, eval_id: str) -> Eval:
    with queue.database.tx() as tx:
        return evals.get(tx, eval_id)


def rows(queue: Queue, eval_id: str) -> list[Json]:
    with queue.database.tx() as tx:
        query = select(EvalRow).where(EvalRow.eval_id == eval_id).order_by(EvalRow.number)
        return [row.data for row in tx.session.scalars(query)]


def measured(hands: Hands, *, until: int = 10_000) -> int:
    """Let the evaluator work until nothing is left, or for so many steps; counts them."""
    evaluator = Evaluator(hands.bench, poll_s=IDLE_S)
    steps, deadline = 0, time.monotonic() + 60
    for said in evaluator.evals():
        if isinstance(said, Step):
            steps += 1
        elif evaluator.in_hand is None:
            return steps
        if steps >= until:
            return steps
        assert time.monotonic() < deadline
    raise AssertionError


def test_an_eval_is_measured_summed_up_and_leaves_the_head_alone(
    queue: Queue, hands: Hands, tmp_path: Path
) -> None:
    asked = ask(queue, tmp_path)
    head, before = hands.host.head, hands.host.view.audit()
    evaluator = Evaluator(hands.bench, poll_s=IDLE_S)
    for said in evaluator.evals():
        # At every step the model serves its head, bit for bit.
        assert hands.host.view.audit(everything=False) == before
        if isinstance(said, Pause) and evaluator.in_hand is None:
            break
    found = look(queue, asked)
    assert (found.status, found.done, found.total, found.error) == ("finished", 3, 3, None)
    assert {row["case"] for row in rows(queue, asked)} == {0, 1, 2}
    assert found.summary is not None
    success = found.summary["values"]["efficacy.success"]
    assert (success["value"], success["n"], success["before"]) == (1.0, 3, 0.0)
    made_by = found.summary["made_by"]
    assert made_by["fingerprints"] == {head: before}
    assert made_by["hparams"]["layers"]
    assert (hands.host.head, hands.host.view.audit()) == (head, before)
    assert queue.model().head_id == head


def test_an_order_runs_in_the_middle_of_a_case_and_changes_nothing_in_it(
    queue: Queue, hands: Hands, tmp_path: Path
) -> None:
    calm = ask(queue, tmp_path)
    measured(hands)
    disturbed = ask(queue, tmp_path)
    evaluator = Evaluator(hands.bench, poll_s=IDLE_S)
    work = evaluator.evals()
    for _ in range(9):
        next(work)
    assert evaluator.in_hand is not None
    edit = queue.order(LEBRON)
    hands.work()
    assert queue.edit(edit).status == "applied"
    served = hands.host.view.audit()
    for said in work:
        assert hands.host.view.audit(everything=False) == served
        if isinstance(said, Pause) and evaluator.in_hand is None:
            break
    assert rows(queue, disturbed) == rows(queue, calm)
    assert look(queue, disturbed).snapshot_id != queue.edit(edit).snapshot_id


def test_an_older_snapshot_is_measured_as_it_was(
    queue: Queue, hands: Hands, tmp_path: Path
) -> None:
    base = hands.host.head
    edit = queue.order(LEBRON)
    hands.work()
    head = queue.edit(edit).snapshot_id
    both = ask(queue, tmp_path, editor=None, snapshots=[base, head], records=[LEBRON])
    measured(hands)
    found = look(queue, both)
    assert (found.status, found.total) == ("finished", 2)
    assert [row["snapshot"] for row in rows(queue, both)] == [base, head]
    assert found.summary is not None
    told = {each["snapshot"]: each["values"] for each in found.summary["snapshots"]}
    assert told[base]["efficacy.success"]["value"] == 0.0
    assert told[head]["efficacy.success"]["value"] == 1.0


@pytest.mark.parametrize("point", ["before_rows:2", "after_rows:2"])
def test_a_kill_loses_no_case_and_counts_none_twice(
    shop: Shop, hands: Hands, tmp_path: Path, point: str
) -> None:
    calm = ask(shop.queue, tmp_path)
    measured(hands)
    asked = ask(shop.queue, Path(shop.environ["ERRATA_DATA_DIR"]) / "blobs")
    victim = shop.worker(failpoint=point)
    assert ended(victim) == EXIT_CODE, shop.said()
    assert look(shop.queue, asked).done == (1 if point.startswith("before") else 2)
    shop.worker()
    eventually(lambda: look(shop.queue, asked).status == "finished", "the eval ends")
    assert rows(shop.queue, asked) == rows(shop.queue, calm)
    found = look(shop.queue, asked)
    assert (found.done, found.rows) == (3, len(rows(shop.queue, asked)))


def test_a_case_that_was_kept_is_not_kept_again(queue: Queue, hands: Hands, tmp_path: Path) -> None:
    asked = ask(queue, tmp_path)
    with queue.database.tx() as tx:
        claimed = eval_work.claim(tx, MODEL, epoch=hands.bench.epoch)
    assert claimed is not None
    kept: Json = {"epoch": hands.bench.epoch, "case": 0, "rows": [{"case": 0}], "progress": {}}
    for _ in range(2):  # the reply to the first COMMIT was lost
        with queue.database.tx() as tx:
            eval_work.keep(tx, asked, **kept)
    assert (look(queue, asked).done, rows(queue, asked)) == (1, [{"case": 0}])


def test_a_cancel_stops_it_between_two_steps_and_keeps_what_is_done(
    queue: Queue, hands: Hands, tmp_path: Path
) -> None:
    asked = ask(queue, tmp_path)
    evaluator = Evaluator(hands.bench, poll_s=IDLE_S, called=lambda: True)
    work = evaluator.evals()
    while look(queue, asked).done < 1:
        next(work)
    with queue.database.tx() as tx:
        assert evals.cancel(tx, asked).status == "running"
    more = 0
    for said in work:
        more += isinstance(said, Step)
        if isinstance(said, Pause) and evaluator.in_hand is None:
            break
    found = look(queue, asked)
    assert (found.status, found.done, more) == ("cancelled", 1, 0)
    assert found.summary is not None
    assert found.summary["cases"] == 1
    assert hands.host.view.current.masters == State().masters


def test_a_case_that_kills_three_workers_ends_the_eval(
    queue: Queue, hands: Hands, tmp_path: Path
) -> None:
    asked = ask(queue, tmp_path)
    for _ in range(eval_work.MAX_ATTEMPTS):
        with queue.database.tx() as tx:
            assert eval_work.claim(tx, MODEL, epoch=hands.bench.epoch) is not None
    with queue.database.tx() as tx:
        assert eval_work.claim(tx, MODEL, epoch=hands.bench.epoch) is None
    found = look(queue, asked)
    assert found.status == "failed"
    assert found.error is not None
    assert found.error["code"] == "poisoned"


def test_what_is_put_back_was_no_attempt(queue: Queue, hands: Hands, tmp_path: Path) -> None:
    asked = ask(queue, tmp_path)
    evaluator = Evaluator(hands.bench, poll_s=IDLE_S)
    work = evaluator.evals()
    while look(queue, asked).done < 1:
        next(work)
    work.close()
    evaluator.put_back()
    found = look(queue, asked)
    assert (found.status, found.attempts, found.done) == ("queued", 0, 1)
    measured(hands)
    assert look(queue, asked).status == "finished"


def test_probes_and_edits_are_answered_while_an_eval_goes_on(shop: Shop) -> None:
    records = [fact for _ in range(12) for fact in FACTS]
    asked = ask(shop.queue, Path(shop.environ["ERRATA_DATA_DIR"]) / "blobs", records=records)
    shop.worker()
    eventually(lambda: look(shop.queue, asked).status == "running", "the eval begins")
    edit = shop.queue.order(LEBRON)
    assert shop.queue.settled(edit).status == "applied"
    reply = shop.probe(LEBRON_ASKS)
    assert str(reply.data[0]["completion"]).strip().startswith("football")
    assert look(shop.queue, asked).status == "running"


def test_an_eval_that_an_order_interrupts_is_cancelled_before_that_order_ends(shop: Shop) -> None:
    records = [fact for _ in range(12) for fact in FACTS]
    asked = ask(shop.queue, Path(shop.environ["ERRATA_DATA_DIR"]) / "blobs", records=records)
    shop.worker("slower")
    eventually(lambda: look(shop.queue, asked).done > 0, "the eval begins")
    edit = shop.queue.order(LEBRON)
    eventually(lambda: shop.queue.edit(edit).status == "running", "the order comes first")
    with shop.queue.database.tx() as tx:
        evals.cancel(tx, asked)
    eventually(lambda: look(shop.queue, asked).status == "cancelled", "the eval ends")
    assert shop.queue.edit(edit).status == "running"
    assert shop.queue.settled(edit).status == "applied"
    assert (look(shop.queue, asked).summary or {})["cases"] == look(shop.queue, asked).done
