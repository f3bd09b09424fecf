"""The guard on a worker: warn, reject and keep, repair once; and what a dry run says of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.services import health, models, retract
from editing import walk
from editing.delta import LowRank
from editing.editors.slots import NOTE as SLOTS
from editing.errors import SingularSystem
from editing.outcome import Outcome
from editing.probe import probe
from editing.step import Step
from tests.guards import LAX
from tests.tiny import tiny_view
from tests.workers.hands import Hands, take_over
from tests.workers.shop import FRANCE, LEBRON, LEBRON_ASKS, MODEL, SERENA, Queue, Shop, ended
from workers import guarded, retracting
from workers.failpoints import EXIT_CODE

Json = dict[str, Any]

STRICT: Json = {**LAX, "on_breach": "reject", "kl": 0.0}  # whatever changes a weight breaches this


@pytest.fixture
def hands(queue: Queue, statistics_folder: Path, tmp_path: Path) -> Hands:
    return take_over(queue.database, tiny_view(stats_folder=statistics_folder), MODEL, tmp_path)


def says(hands: Hands, prompt: str = LEBRON_ASKS) -> str:
    return str(probe(hands.host.view, [prompt], max_tokens=1)[0]["completion"]).strip()


def judged(queue: Queue, edit: str) -> Json:
    report = queue.edit(edit).report
    assert report is not None
    return report["guard"]


def test_what_is_rejected_is_kept_as_evidence_and_later_orders_go_on(
    queue: Queue, hands: Hands
) -> None:
    head, before = hands.host.head, hands.host.view.audit()
    edit = queue.order(LEBRON, guard=STRICT)
    after = queue.order(FRANCE)
    hands.work()

    found = queue.edit(edit)
    assert (found.status, found.live, found.snapshot_id) == ("rejected", False, None)
    assert found.error is not None
    assert found.error["code"] == "guard-breached"
    assert {one["what"] for one in found.error["breaches"]} == {"kl"}
    assert "drift.kl" in found.error["detail"]
    assert judged(queue, edit)["verdict"] == "reject"
    assert found.report is not None
    assert found.report["efficacy"]["accuracy"]["value"] == 1.0
    with hands.bench.database.tx() as tx:
        kept = Outcome.from_bytes(hands.bench.blobs.get(tx, str(found.evidence)))
    assert kept.deltas

    done = queue.edit(after)
    assert (done.status, done.parent_id) == ("applied", head)
    assert [one.edit_id for one in queue.lineage()] == [None, after]
    assert says(hands) == "basketball"
    queue.restore(head)
    hands.work()
    assert hands.host.view.audit() == before


def test_by_default_what_is_soft_warns_and_what_collapses_rejects(
    queue: Queue, hands: Hands
) -> None:
    soft = queue.order(LEBRON, guard={**LAX, "kl": 0.0})
    hard = queue.order(FRANCE, guard={"norm_ratio": 1.0})
    hands.work()
    assert queue.edit(soft).status == "applied"
    assert judged(queue, soft)["verdict"] == "warn"
    assert [one["what"] for one in judged(queue, soft)["breaches"]] == ["kl"]
    assert queue.edit(hard).status == "rejected"
    assert any(one["collapse"] for one in judged(queue, hard)["breaches"])
    assert (hands.host.head, says(hands)) == (queue.edit(soft).snapshot_id, "football")


def test_a_dry_run_says_what_the_guard_would_do(queue: Queue, hands: Hands) -> None:
    edit = queue.order(LEBRON, guard=STRICT, dry_run=True)
    hands.work()
    found = queue.edit(edit)
    assert (found.status, found.evidence, found.error) == ("applied", None, None)
    assert judged(queue, edit)["verdict"] == "reject"
    assert len(queue.lineage()) == 1


def test_what_the_model_says_already_is_not_judged(queue: Queue, hands: Hands) -> None:
    edit = queue.order({**LEBRON, "target_new": "basketball"}, guard=STRICT)
    hands.work()
    found = queue.edit(edit)
    assert (found.status, found.noop) == ("applied", True)


def test_a_guard_that_is_not_known_any_more_fails_its_order_and_no_other(
    queue: Queue, hands: Hands
) -> None:
    unknown = queue.order(LEBRON, guard={"loudness": 1})
    after = queue.order(FRANCE)
    hands.work()
    failed = queue.edit(unknown)
    assert (failed.status, (failed.error or {})["code"]) == ("failed", "invalid-guard")
    assert queue.edit(after).status == "applied"


# ---- repair ----------------------------------------------------------------------------------


def clumsy(monkeypatch: pytest.MonkeyPatch, real: Any = walk.edit) -> None:
    """An editor that, given one fact, also undoes what was written before: it is not joint."""

    def edit(view: Any, plan: Any, requests: Any, history: Any = None) -> Any:
        outcome = yield from real(view, plan, requests, history)
        if len(requests) > 1 or not len(history):
            return outcome
        deltas = dict(outcome.deltas)
        for entry in history.entries:
            for name, change in entry.load().changes.items():
                undo = LowRank(-change.left, change.right)
                deltas[name] = deltas[name].then(undo) if name in deltas else undo
        notes = {name: said for name, said in outcome.notes.items() if name != SLOTS}
        return Outcome(deltas, notes=notes)

    monkeypatch.setattr(walk, "edit", edit)


def test_what_was_disturbed_is_solved_again_with_the_new_fact(
    queue: Queue, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = queue.order(LEBRON, editor="memit")
    hands.work()
    clumsy(monkeypatch)
    warned = queue.order(FRANCE, editor="memit", dry_run=True)
    mended = queue.order(FRANCE, editor="memit", guard={"on_breach": "repair", "kl": None})
    hands.work()

    (breach,) = (b for b in judged(queue, warned)["breaches"] if b["what"] == "disturbed_share")
    assert (breach["at"], breach["measured"], breach["n"]) == ("live.others", 1.0, 1)
    found = queue.edit(mended)
    assert found.status == "applied", found.error
    assert found.report is not None
    assert found.report["repair"]["disturbed"] == [{"edit": first, "fact": 0}]
    assert breach["what"] in {one["what"] for one in found.report["repair"]["breaches"]}
    assert found.report["live"]["others"] == {"value": 1.0, "n": 1, "before": 1.0}
    assert found.report["requests"][0]["answers"]
    assert len(found.report["requests"]) == 1
    assert says(hands) == "football"
    assert says(hands, "The capital of France is") == "Rome"
    # What the repair wrote again is the later edit's: a retract of the first says whose.
    with queue.database.tx() as tx:
        taken, told = retract.retract(tx, first).id, retract.retract(tx, mended).id
    hands.work()
    (one, other) = ((queue.edit(order).report or {})["retract"] for order in (taken, told))
    assert one == {"edit": first, "how": "dropped", "written_again_by": [mended]}
    assert "written_again_by" not in other


def test_a_repair_that_does_not_help_or_cannot_be_made_is_a_rejection(
    queue: Queue, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.order(LEBRON, editor="memit")
    hands.work()
    head = hands.host.head
    clumsy(monkeypatch)
    again = queue.order(FRANCE, editor="memit", guard={"on_breach": "repair", "kl": 0.0})
    hands.work()
    assert queue.edit(again).status == "rejected"
    assert "repair" in (queue.edit(again).report or {})

    def cannot(*_: object) -> Iterator[Step]:
        yield Step("solve", 1, 1)
        raise SingularSystem(size=3, jitter=0.1)

    monkeypatch.setattr(guarded, "repair", cannot)
    broken = queue.order(FRANCE, editor="memit", guard={"on_breach": "repair"})
    hands.work()
    found = queue.edit(broken)
    assert (found.status, hands.host.head) == ("rejected", head)
    assert (found.report or {})["repair"]["error"]["code"] == "singular-system"
    assert found.error is not None
    assert "disturbed_share" in {one["what"] for one in found.error["breaches"]}


def test_without_anything_disturbed_there_is_nothing_to_repair(queue: Queue, hands: Hands) -> None:
    edit = queue.order(LEBRON, guard={"on_breach": "repair", "kl": 0.0})
    hands.work()
    assert queue.edit(edit).status == "rejected"
    assert "repair" not in (queue.edit(edit).report or {})


# ---- others ----------------------------------------------------------------------------------


def test_live_edits_are_asked_for_by_subject_and_by_chance(queue: Queue, hands: Hands) -> None:
    same = queue.order({**LEBRON, "prompt": "Therefore we know. {} plays the sport of"})
    other = queue.order(SERENA)
    edit = queue.order(LEBRON)
    hands.work()
    report = queue.edit(edit).report
    assert report is not None
    assert {one["edit"] for one in report["live"]["asked"]} <= {same, other}
    assert report["live"]["others"]["n"] == (1 if queue.edit(other).live else 0)
    assert report["live"]["same_subject"]["n"] == (1 if queue.edit(same).live else 0)


def standing(queue: Queue) -> dict[str, bool]:
    """The edits with a fact that stands, and whether all is well with it."""
    with queue.database.tx() as tx:
        found = health.look(tx, MODEL, after=None, limit=10)
    hurt = {one.edit for one in found.disturbed}
    return {one.edit: one.edit not in hurt for one in found.live}


@pytest.mark.parametrize("editor", ["ledger", "memory"])
def test_a_fact_that_is_replaced_in_other_words_is_not_disturbed(
    queue: Queue, hands: Hands, editor: str
) -> None:
    said = {**LEBRON, "relation": "P641"}
    other = {**said, "prompt": "Therefore we know. {} plays the sport of", "target_new": "tennis"}
    layers = {"layers": [1, 3]} if editor == "ledger" else {}
    first = queue.order(said, editor=editor, **layers)
    hands.work()
    before = queue.lineage()[-1].id
    guard = {**LAX, "on_breach": "reject", "kl": None, "neighborhood_loss": None}
    second = queue.order(other, editor=editor, guard=guard, **layers)
    hands.work()
    done = queue.edit(second)
    assert done.status == "applied", done.error
    live = (done.report or {})["live"]
    assert live["replaced"] == [{"edit": first, "fact": 0}]
    assert (live["asked"], live["same_subject"]["n"]) == ([], 0)
    assert standing(queue) == {second: True}
    with queue.database.tx() as tx:
        (gone,) = health.look(tx, MODEL, after=None, limit=10).superseded
    assert (gone.edit, gone.by) == (first, second)
    queue.restore(before)
    hands.work()
    assert standing(queue) == {first: True}


def test_a_retract_is_judged_and_never_stopped(
    queue: Queue, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = queue.order(LEBRON, editor="memit-history")
    hands.work()
    real = retracting.retract

    def clumsily(*given: Any) -> Any:
        outcome = yield from real(*given)
        changes = outcome.changes.items()
        deltas = {name: LowRank(30 * one.left, one.right) for name, one in changes}
        return replace(outcome, deltas=deltas)

    monkeypatch.setattr(retracting, "retract", clumsily)
    with queue.database.tx() as tx:
        models.set_guard(tx, MODEL, {"on_breach": "reject"})
        taken = retract.retract(tx, edit).id
    hands.work()
    assert queue.edit(taken).status == "applied"
    said = judged(queue, taken)
    assert said["verdict"] == "warn"
    assert any(one["collapse"] for one in said["breaches"])


def test_a_retract_that_takes_out_what_was_written_breaches_nothing(
    queue: Queue, hands: Hands
) -> None:
    edit = queue.order(LEBRON)
    hands.work()
    with queue.database.tx() as tx:
        models.set_guard(tx, MODEL, {**LAX, "success": 1.0, "accuracy": 1.0})
        taken = retract.retract(tx, edit).id
    hands.work()
    report = queue.edit(taken).report or {}
    assert report["efficacy"]["accuracy"]["value"] == 0.0
    assert report["guard"] == {
        "verdict": "passed",
        "breaches": [],
        "on_breach": "warn",
        "on_collapse": "reject",
    }


@pytest.mark.parametrize("name", ["after_blob", "before_commit", "after_commit"])
def test_a_rejection_whose_worker_died_is_one_rejection(shop: Shop, name: str) -> None:
    edit = shop.queue.order(LEBRON, guard=STRICT)
    after = shop.queue.order(FRANCE)
    victim = shop.worker(failpoint=f"{name}:1")
    assert ended(victim) == EXIT_CODE, shop.said()
    shop.worker()
    found = shop.queue.settled(edit)
    assert (found.status, found.snapshot_id) == ("rejected", None), shop.said()
    assert found.evidence
    assert shop.queue.settled(after).status == "applied"
    assert [one.edit_id for one in shop.queue.lineage()] == [None, after]
