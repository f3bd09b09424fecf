"""Edits that stand beside the weights, on a worker: kept, replayed, checkpointed, taken out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.services import retract
from editing import walk
from editing.delta import Memory
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.run import finish
from editing.walk import already_answers
from tests.tiny import tiny_view
from tests.workers.hands import Hands, take_over
from tests.workers.shop import FRANCE, LEBRON, MODEL, SERENA, Queue

Json = dict[str, Any]


@pytest.fixture
def hands(queue: Queue, statistics_folder: Path, tmp_path: Path) -> Hands:
    view = tiny_view(stats_folder=statistics_folder)
    return take_over(queue.database, view, MODEL, tmp_path, checkpoint_every=2)


def again(queue: Queue, hands: Hands, tmp_path: Path) -> Hands:
    """The next worker, with nothing in memory."""
    view = tiny_view(stats_folder=hands.host.view.stats.folder)
    return take_over(queue.database, view, MODEL, tmp_path)


def order(queue: Queue, hands: Hands, editor: str, fact: Json) -> str:
    edit = queue.order(fact, editor=editor)
    hands.work()
    assert queue.edit(edit).status == "applied", queue.edit(edit).error
    return edit


def kept(view: ModelView) -> int:
    """How many vectors stand beside the weights; one may stand under two keys."""
    return sum(len(memory.values.unique(dim=0)) for memory in view.current.memories.values())


def says(hands: Hands, fact: Json) -> bool:
    return finish(already_answers(hands.host.view, [EditRequest.from_dict(fact)]))


def test_kept_and_written_edits_come_back_bit_for_bit_and_go_one_by_one(
    queue: Queue, hands: Hands, tmp_path: Path
) -> None:
    view = hands.host.view
    bits, entries = [view.audit()], [0]
    edits: list[str] = []
    for editor, fact in (
        ("memory", LEBRON),
        ("memit-history", SERENA),
        ("memory", FRANCE),
        ("memory", {**LEBRON, "target_new": "tennis"}),
    ):
        edits.append(order(queue, hands, editor, fact))
        bits.append(view.audit())
        entries.append(kept(view))
    assert entries == [0, 1, 1, 2, 2]  # the last one stands in place of the first
    assert len(set(bits)) == 5
    assert [queue.edit(edit).live for edit in edits] == [False, True, True, True]
    assert [bool(s.checkpoint) for s in queue.lineage()] == [False, False, True, False, True]
    told = (queue.edit(edits[0]).report or {})["editor"]
    assert "gates" in told
    assert "entries" not in told  # the whole request is not told again

    fresh = again(queue, hands, tmp_path)
    assert fresh.host.view.audit() == bits[4]
    assert kept(fresh.host.view) == 2
    with queue.database.tx() as tx:
        taken = retract.retract(tx, edits[2]).id
    fresh.work()
    done = queue.edit(taken)
    assert done.status == "applied", done.error
    assert done.report is not None
    assert done.report["retract"] == {"edit": edits[2], "how": "exact"}
    assert not queue.edit(edits[2]).live
    assert kept(fresh.host.view) == 1
    assert not says(fresh, FRANCE)
    assert says(fresh, SERENA)
    for number, snapshot in enumerate(queue.lineage()[:5]):
        queue.restore(snapshot.id)
        fresh.work()
        assert fresh.host.view.audit() == bits[number]
    assert again(queue, fresh, tmp_path).host.view.audit() == bits[4]


def clumsy(monkeypatch: pytest.MonkeyPatch, real: Any = walk.edit) -> None:
    """An editor that takes out what stands beside the weights already."""

    def edit(view: ModelView, plan: Any, requests: Any, history: Any = None) -> Any:
        outcome = yield from real(view, plan, requests, history)
        deltas = dict(outcome.deltas)
        for name, memory in view.current.memories.items():
            gone = Memory(memory.keys[:0], memory.values[:0], memory.gates[:0], memory.keys)
            deltas[name] = deltas[name].then(gone)
        return replace(outcome, deltas=deltas)

    monkeypatch.setattr(walk, "edit", edit)


@pytest.mark.parametrize("gone", [0, 1])
def test_a_repaired_order_and_what_it_disturbed_go_one_by_one(
    queue: Queue, hands: Hands, monkeypatch: pytest.MonkeyPatch, gone: int
) -> None:
    base, facts = hands.host.view.audit(), (LEBRON, SERENA)
    first = order(queue, hands, "memory", LEBRON)
    clumsy(monkeypatch)
    second = queue.order(SERENA, editor="memory", guard={"on_breach": "repair", "kl": None})
    hands.work()
    done = queue.edit(second)
    assert done.status == "applied", done.error
    assert done.report is not None
    assert done.report["repair"]["disturbed"] == [{"edit": first, "fact": 0}]
    assert done.report["editor"]["rewritten"] == [first]
    edits = (first, second)
    assert [queue.edit(edit).live for edit in edits] == [True, True]
    assert [says(hands, fact) for fact in facts] == [True, True]

    for number, left in ((gone, 1), (1 - gone, 0)):
        taken = queue.retract(edits[number])
        hands.work()
        assert queue.edit(taken).status == "applied", queue.edit(taken).error
        assert not queue.edit(edits[number]).live
        assert kept(hands.host.view) == left
        if left:
            assert [says(hands, fact) for fact in facts] == [number == 1, number == 0]
    assert hands.host.view.audit() == base
