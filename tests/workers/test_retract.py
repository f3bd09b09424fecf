"""A retract on a worker: exact where the method allows it, else dropped, and always measured."""

from pathlib import Path
from typing import Any

import pytest

from app.services import retract
from editing.model.scoring import score
from editing.run import finish, under
from tests.tiny import tiny_view
from tests.workers.hands import Hands, take_over
from tests.workers.shop import FRANCE, LEBRON, LEBRON_ASKS, MODEL, SERENA, Queue

Json = dict[str, Any]


@pytest.fixture
def hands(queue: Queue, statistics_folder: Path, tmp_path: Path) -> Hands:
    return take_over(queue.database, tiny_view(stats_folder=statistics_folder), MODEL, tmp_path)


def apply(queue: Queue, hands: Hands, fact: Json, editor: str) -> str:
    edit = queue.order(fact, editor=editor, **({"form": "imagine"} if editor == "ike" else {}))
    hands.work()
    assert queue.edit(edit).status == "applied", queue.edit(edit).error
    return edit


def order(queue: Queue, edit: str, **more: Any) -> str:
    with queue.database.tx() as tx:
        return retract.retract(tx, edit, **more).id


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
    taken = order(queue, edits[0])
    hands.work()
    done = queue.edit(taken)
    assert done.status == "applied", done.error
    assert done.report is not None
    assert done.report["retract"] == {"edit": edits[0], "how": how}
    row = done.report["requests"][0]
    assert row["p_new"] < row["p_new_before"]
    assert done.report["earlier"]["n"] == 2
    assert written > said(hands)
    assert abs(said(hands) - before) < abs(written - before)
    assert [queue.edit(edit).live for edit in edits] == [False, True, True]
    # A worker with nothing in memory comes to the same bits.
    view = tiny_view(stats_folder=hands.host.view.stats.folder)
    other = take_over(queue.database, view, MODEL, tmp_path)
    assert other.host.view.audit() == hands.host.view.audit() == queue.lineage()[-1].fingerprint


def test_of_an_in_context_edit_the_text_is_left_out(queue: Queue, hands: Hands) -> None:
    edits = [apply(queue, hands, fact, "ike") for fact in (LEBRON, SERENA)]
    whole = hands.host.view.current.preface
    taken = order(queue, edits[0])
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
    order(queue, edit)
    hands.work()
    for name, p in hands.host.view.model.named_parameters():
        assert float((p.data - before[name]).norm()) <= 1e-4 * float(before[name].norm())


def test_later_edits_go_on_from_there(queue: Queue, hands: Hands) -> None:
    first = apply(queue, hands, LEBRON, "memit-history")
    apply(queue, hands, FRANCE, "memit-history")
    taken = order(queue, first)
    hands.work()
    apply(queue, hands, SERENA, "memit-history")
    again = apply(queue, hands, LEBRON, "memit-history")
    assert queue.edit(taken).live
    assert queue.edit(again).live
    report = queue.edit(again).report
    assert report is not None
    assert report["earlier"] == {"value": 1.0, "n": 2, "before": 1.0}


def test_what_is_gone_when_its_turn_comes_fails_and_changes_nothing(
    queue: Queue, hands: Hands
) -> None:
    edit = apply(queue, hands, LEBRON, "rome")
    first, second = order(queue, edit), order(queue, edit)
    hands.work()
    assert queue.edit(first).status == "applied"
    failed = queue.edit(second)
    assert (failed.status, (failed.error or {})["code"]) == ("failed", "edit-not-live")
    assert queue.model().head_id == queue.edit(first).snapshot_id


@pytest.mark.parametrize("editor", ["memit-history", "rome"])
def test_a_dry_run_measures_and_keeps_nothing(queue: Queue, hands: Hands, editor: str) -> None:
    edit = apply(queue, hands, LEBRON, editor)
    before, head = hands.host.view.audit(), hands.host.head
    dry = order(queue, edit, dry_run=True)
    hands.work()
    done = queue.edit(dry)
    assert (done.status, done.snapshot_id) == ("applied", None)
    assert done.report is not None
    assert done.report["requests"][0]["p_new"] < done.report["requests"][0]["p_new_before"]
    assert (hands.host.view.audit(), hands.host.head) == (before, head)
    assert queue.edit(edit).live
