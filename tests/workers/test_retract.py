"""A retract on a worker: exact where the method allows it, else dropped, and always measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from editing import walk
from editing.catalogue import METHODS
from editing.model.scoring import score
from editing.model.state import State
from editing.model.view import layer_of
from editing.retract import metric_of
from editing.run import finish, under
from tests.tiny import tiny_view
from tests.workers.hands import IDLE_S, Hands, take_over
from tests.workers.shop import FRANCE, LEBRON, LEBRON_ASKS, MODEL, SERENA, Queue
from workers.foreman import Foreman

Json = dict[str, Any]


@pytest.fixture
def hands(queue: Queue, statistics_folder: Path, tmp_path: Path) -> Hands:
    return take_over(queue.database, tiny_view(stats_folder=statistics_folder), MODEL, tmp_path)


def apply(queue: Queue, hands: Hands, fact: Json, editor: str, **hparams: Any) -> str:
    hparams |= {"form": "imagine"} if editor == "ike" else {}
    edit = queue.order(fact, editor=editor, **hparams)
    hands.work()
    assert queue.edit(edit).status == "applied", queue.edit(edit).error
    return edit


def said(hands: Hands) -> float:
    """How likely the model, as it serves, is to say what was written about LeBron."""
    view = hands.host.view
    asked = score(view, [(LEBRON_ASKS, LEBRON["target_new"])])
    (found,) = finish(under(view, view.current, asked))
    return found.logprob


@pytest.mark.parametrize(
    ("editor", "how"),
    [("memit-history", "exact"), ("alphaedit", "exact"), ("memory", "exact"), ("rome", "dropped")],
)
def test_the_first_of_three_is_taken_out(
    queue: Queue, hands: Hands, tmp_path: Path, editor: str, how: str
) -> None:
    before = said(hands)
    edits = [apply(queue, hands, fact, editor) for fact in (LEBRON, SERENA, FRANCE)]
    written = said(hands)
    taken = queue.retract(edits[0])
    hands.work()
    done = queue.edit(taken)
    assert done.status == "applied", done.error
    assert done.report is not None
    assert done.report["retract"] == {"edit": edits[0], "how": how}
    row = done.report["requests"][0]
    assert row["p_new"] < row["p_new_before"]
    assert (row["gone"], row["rival"]) == (True, LEBRON["target_true"])
    assert done.report["earlier"]["n"] == 2
    assert written > said(hands)
    assert abs(said(hands) - before) < abs(written - before)
    assert [queue.edit(edit).live for edit in edits] == [False, True, True]
    # A worker with nothing in memory comes to the same bits.
    view = tiny_view(stats_folder=hands.host.view.stats.folder)
    other = take_over(queue.database, view, MODEL, tmp_path)
    assert other.host.view.audit() == hands.host.view.audit() == queue.lineage()[-1].fingerprint


GENTLE = {"layers": [1, 3], "second_moment_weight": 200, "search.min_probability": 0}


def test_kin_are_taken_out_exactly_whatever_stands_between(queue: Queue, hands: Hands) -> None:
    """Two edits of one solution, one of another editor between: as if the first were never made."""
    view = hands.host.view
    edits = [
        apply(queue, hands, fact, editor, **hparams)
        for fact, editor, hparams in (
            (LEBRON, "memit-history", GENTLE),
            (SERENA, "rome", {"layers": [1]}),
            (FRANCE, "memit-history", GENTLE),
        )
    ]
    made = {entry.id: entry.load() for entry in hands.host.history().entries}
    with_it = {name: view.master(name).double() for name in made[edits[0]].changes}
    queue.retract(edits[0])
    hands.work()
    plan = walk.Plan.of(view, "memit-history", GENTLE)
    bases, _ = metric_of(view, plan)
    other, last = made[edits[1]], made[edits[2]]
    for weight, before in with_it.items():
        never = view.master(weight, State()).double()
        if weight in other.changes:
            never += other.changes[weight].matrix().double()
        pair = last.written[weight]
        keys, asked = pair.keys.double(), pair.values.double() + pair.missing.double()
        # What the last one was to answer, which held what the one before it did there.
        inverse = bases(("mlp", layer_of(weight))).with_keys(keys).inverse
        never += (asked - never @ keys) @ keys.mT @ inverse
        change = float((before - never).norm())
        assert float((view.master(weight).double() - never).norm()) < 1e-6 * change


def test_the_answer_of_the_edit_before_it_comes_back(queue: Queue, hands: Hands) -> None:
    first = apply(queue, hands, LEBRON, "memit-history")
    second = apply(queue, hands, {**LEBRON, "target_new": "tennis"}, "memit-history")
    taken = queue.retract(second)
    hands.work()
    report = queue.edit(taken).report
    assert report is not None
    (row,) = report["requests"]
    assert (row["rival"], row["gone"], row["back"]) == (LEBRON["target_new"], True, True)
    assert report["earlier"] == {"value": 1.0, "n": 1, "before": 0.0}  # the first one's fact
    assert queue.edit(first).live


def test_what_nobody_can_plan_any_more_is_dropped(
    queue: Queue, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = apply(queue, hands, LEBRON, "rome")
    known = {name: one for name, one in METHODS.items() if name != "rome"}
    monkeypatch.setattr("workers.retracting.METHODS", known)
    taken = queue.retract(edit)
    hands.work()
    done = queue.edit(taken)
    assert done.report is not None
    assert done.report["retract"] == {"edit": edit, "how": "dropped"}
    assert hands.host.view.audit() == queue.lineage()[0].fingerprint


def test_a_long_way_after_a_drop_has_a_checkpoint(queue: Queue, hands: Hands) -> None:
    hands.bench = replace(hands.bench, checkpoint_every=2)
    hands.foreman = Foreman(hands.bench, poll_s=IDLE_S)
    edits = [apply(queue, hands, fact, "rome") for fact in (LEBRON, SERENA, FRANCE)]
    held = [snapshot.checkpoint for snapshot in queue.lineage()]
    assert [blob is not None for blob in held] == [False, False, True, False]
    queue.retract(edits[0])
    hands.work()
    last = queue.lineage()[-1]
    assert (last.depth, last.checkpoint is not None) == (2, True)
    assert hands.host.lineage.uncovered == 0
    queue.retract(edits[2])
    hands.work()
    assert hands.host.lineage.uncovered == 1
    served = hands.host.view.audit()
    state, lineage = hands.host.materialise(queue.lineage()[-1].id)
    assert hands.host.view.fingerprint(state) == served
    assert lineage == hands.host.lineage


def test_of_an_in_context_edit_the_text_is_left_out(queue: Queue, hands: Hands) -> None:
    edits = [apply(queue, hands, fact, "ike") for fact in (LEBRON, SERENA)]
    whole = hands.host.view.current.preface
    taken = queue.retract(edits[0])
    hands.work()
    report = queue.edit(taken).report
    assert report is not None
    assert report["retract"] == {"edit": edits[0], "how": "exact"}
    left = hands.host.view.current.preface
    assert whole.endswith(left)
    assert "Serena" in left
    assert "LeBron" not in left


def test_where_the_method_allows_it_nothing_is_left_of_a_single_edit(
    queue: Queue, hands: Hands
) -> None:
    before = {name: p.data.clone() for name, p in hands.host.view.model.named_parameters()}
    edit = apply(queue, hands, LEBRON, "memit-history")
    queue.retract(edit)
    hands.work()
    for name, p in hands.host.view.model.named_parameters():
        assert float((p.data - before[name]).norm()) <= 1e-4 * float(before[name].norm())


def test_later_edits_go_on_from_there(queue: Queue, hands: Hands) -> None:
    first = apply(queue, hands, LEBRON, "memit-history")
    apply(queue, hands, FRANCE, "memit-history")
    taken = queue.retract(first)
    hands.work()
    apply(queue, hands, SERENA, "memit-history")
    again = apply(queue, hands, LEBRON, "memit-history")
    assert (queue.edit(taken).live, queue.edit(again).live) == (False, True)
    report = queue.edit(again).report
    assert report is not None
    assert report["earlier"] == {"value": 1.0, "n": 2, "before": 1.0}


def test_what_is_gone_when_its_turn_comes_fails_and_changes_nothing(
    queue: Queue, hands: Hands
) -> None:
    edit = apply(queue, hands, LEBRON, "rome")
    first, second = queue.retract(edit), queue.retract(edit)
    hands.work()
    assert queue.edit(first).status == "applied"
    failed = queue.edit(second)
    assert (failed.status, (failed.error or {})["code"]) == ("failed", "edit-not-live")
    assert queue.model().head_id == queue.edit(first).snapshot_id


@pytest.mark.parametrize("editor", ["memit-history", "rome"])
def test_a_dry_run_measures_and_keeps_nothing(queue: Queue, hands: Hands, editor: str) -> None:
    edit = apply(queue, hands, LEBRON, editor)
    before, head = hands.host.view.audit(), hands.host.head
    dry = queue.retract(edit, dry_run=True)
    hands.work()
    done = queue.edit(dry)
    assert (done.status, done.snapshot_id) == ("applied", None)
    assert done.report is not None
    assert done.report["requests"][0]["p_new"] < done.report["requests"][0]["p_new_before"]
    assert (hands.host.view.audit(), hands.host.head) == (before, head)
    assert queue.edit(edit).live


@pytest.mark.parametrize("editor", ["ledger", "memory"])
def test_what_it_had_replaced_is_live_again(
    queue: Queue, hands: Hands, tmp_path: Path, editor: str
) -> None:
    hparams = GENTLE if editor == "ledger" else {}
    first = apply(queue, hands, LEBRON, editor, **hparams)
    before = hands.host.view.current
    second = apply(queue, hands, {**LEBRON, "target_new": "tennis"}, editor, **hparams)
    assert [queue.edit(edit).live for edit in (first, second)] == [False, True]
    taken = queue.retract(second)
    hands.work()
    report = queue.edit(taken).report
    assert report is not None
    assert report["retract"] == {"edit": second, "how": "exact", "brought_back": [first]}
    assert report["requests"][0]["rival"] == LEBRON["target_new"]
    assert [queue.edit(edit).live for edit in (first, second)] == [True, False]
    now = hands.host.view.current
    for weight, master in before.masters.items():
        assert float((now.masters[weight] - master).norm() / master.norm()) < 1e-6
    for weight, memory in before.memories.items():
        assert torch.equal(now.memories[weight].values, memory.values)
    # A worker with nothing in memory comes to the same bits, and a retract of the first to base.
    view = tiny_view(stats_folder=hands.host.view.stats.folder)
    other = take_over(queue.database, view, MODEL, tmp_path)
    assert other.host.view.audit() == hands.host.view.audit()
    queue.retract(first)
    other.work()
    assert [queue.edit(edit).live for edit in (first, second)] == [False, False]
    assert other.host.view.current.entries == 0
    for weight in before.masters:
        base = view.master(weight, State())
        assert float((view.master(weight) - base).norm() / base.norm()) < 1e-5


def test_a_restore_knows_what_was_brought_back(queue: Queue, hands: Hands) -> None:
    first = apply(queue, hands, LEBRON, "ledger", **GENTLE)
    second = apply(queue, hands, {**LEBRON, "target_new": "tennis"}, "ledger", **GENTLE)
    replaced = queue.lineage()[-1].id
    queue.retract(second)
    hands.work()
    back = queue.lineage()[-1].id
    for snapshot, live in ((replaced, [False, True]), (back, [True, False])):
        queue.restore(snapshot)
        hands.work()
        assert [queue.edit(edit).live for edit in (first, second)] == live
