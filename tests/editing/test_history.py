"""An editor that remembers keeps earlier facts, and forgets what a restore took away."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from editing.delta import LowRank
from editing.history import History
from editing.model.state import State
from editing.model.view import ModelView
from editing.outcome import SOLUTION, Outcome, Written
from editing.request import EditRequest
from editing.solve import Metric

from .conftest import MakeView
from .facts import CAPITAL, OTHER_SPORT, SPORT, run

NEAR = [  # close keys: same relation, subjects of the same kind
    SPORT,
    OTHER_SPORT,
    EditRequest(subject="Diego Maradona", prompt="{} plays the sport of", target_new="tennis"),
    EditRequest(subject="Roger Federer", prompt="{} plays the sport of", target_new="football"),
]


def lineage(
    view: ModelView, editor: str, facts: list[EditRequest]
) -> list[tuple[str, Callable[[], Outcome]]]:
    """One edit after another, each upon the head that the one before it left."""
    entries: list[tuple[str, Callable[[], Outcome]]] = []
    for number, fact in enumerate(facts):
        made = run(view, editor, [fact], {}, History(entries))
        view.adopt(view.after(made.deltas))
        entries.append((f"edit-{number}", lambda made=made: made))
    return entries


def forgotten(view: ModelView, entries: list[tuple[str, Callable[[], Outcome]]]) -> float:
    """How far the head is from answering what the earlier edits wrote, relative to it."""
    off, size = 0.0, 0.0
    for _, load in entries[:-1]:
        for name, pair in load().written.items():
            module = view.module(name)
            bias = 0 if module.bias is None else module.bias[:, None]
            answered = view.master(name) @ pair.keys + bias
            off += float((answered - pair.values).norm() ** 2)
            size += float(pair.values.norm() ** 2)
    return (off / size) ** 0.5


def test_history_keeps_earlier_facts_where_plain_memit_moves_them(make_view: MakeView) -> None:
    moved = dict[str, float]()
    for editor in ("memit", "memit-history"):
        view = make_view("llama")
        moved[editor] = forgotten(view, lineage(view, editor, NEAR))
    assert moved["memit-history"] < 0.5 * moved["memit"]


def test_facts_written_one_by_one_with_history_are_all_still_answered(view: ModelView) -> None:
    entries = lineage(view, "memit-history", NEAR)
    assert forgotten(view, entries) < 0.1


def test_the_first_edit_of_a_lineage_is_plain_memit(make_view: MakeView) -> None:
    plain = run(make_view("llama"), "memit", [SPORT])
    remembering = run(make_view("llama"), "memit-history", [SPORT])
    kin = {SOLUTION: remembering.notes[SOLUTION]}  # what it is part of is all that it says more
    assert remembering.to_bytes() == replace(plain, notes={**plain.notes, **kin}).to_bytes()


def test_a_restore_forgets_the_keys_written_after_it(llama: ModelView) -> None:
    entries = lineage(llama, "memit-history", [SPORT, CAPITAL])
    folds = History(entries).folds
    run(llama, "memit-history", [OTHER_SPORT], history=History(entries, folds))
    assert folds  # both edits are folded in by now
    llama.adopt(llama.after(entries[0][1]().deltas, State()))
    restored = run(llama, "memit-history", [OTHER_SPORT], history=History(entries[:1], folds))
    afresh = run(llama, "memit-history", [OTHER_SPORT], history=History(entries[:1]))
    assert restored.to_bytes() == afresh.to_bytes()


def test_folding_edit_by_edit_is_folding_all_at_once() -> None:
    keys = [torch.randn(6, 3, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    entries = [(str(n), lambda k=k: _wrote(k)) for n, k in enumerate(keys)]
    base = Metric.of(torch.eye(6))
    folds = History().folds
    for count in range(4):
        stepwise = History(entries[:count], folds).metric("w", "c", base)
    at_once = History(entries).metric("w", "c", base)
    joint = torch.cat(keys, dim=1).double()
    assert torch.allclose(stepwise.inverse, at_once.inverse, atol=1e-12)
    assert torch.allclose(at_once.inverse @ (torch.eye(6) + joint @ joint.T), torch.eye(6).double())


def test_an_edit_taken_out_of_the_middle_is_folded_out() -> None:
    entries = [(str(n), lambda n=n: _wrote(torch.eye(4)[:, n : n + 1])) for n in range(3)]
    history = History(entries)
    base = Metric.of(torch.eye(4))
    history.metric("w", "c", base)
    without = History([entries[0], entries[2]], history.folds).metric("w", "c", base)
    assert torch.allclose(without.inverse.diagonal(), torch.tensor([0.5, 1, 0.5, 1]).double())


def test_only_what_was_written_under_a_metric_counts_in_it() -> None:
    one, two = torch.eye(2)[:, :1], torch.eye(2)[:, 1:]
    history = History([("a", lambda: _wrote(one, by="1")), ("b", lambda: _wrote(two, by="2"))])
    first = history.metric("w", "1", Metric.of(torch.eye(2)))
    second = history.metric("w", "2", Metric.of(2 * torch.eye(2)))
    assert torch.allclose(first.inverse.diagonal(), torch.tensor([1 / 2, 1]).double())
    assert torch.allclose(second.inverse.diagonal(), torch.tensor([1 / 2, 1 / 3]).double())


def test_nothing_is_read_before_it_is_needed() -> None:
    def never() -> Outcome:
        pytest.fail("was read")

    assert len(History([("a", never)])) == 1
    assert History.empty().keys("w") is None
    assert len(History.empty()) == 0


def test_an_edit_of_other_weights_adds_no_keys() -> None:
    entries = [("a", lambda: _wrote(torch.eye(2), "v")), ("b", lambda: _wrote(torch.eye(2), "w"))]
    assert History(entries[:1]).keys("w") is None
    found = History(entries).keys("w")
    assert found is not None
    assert torch.equal(found, torch.eye(2).double())


def _wrote(keys: torch.Tensor, name: str = "w", by: str = "c") -> Outcome:
    values = torch.zeros(2, keys.shape[1])
    delta = LowRank(torch.zeros(2, 1), torch.zeros(1, keys.shape[0]))
    return Outcome({name: delta}, {name: Written(keys, values, values)}, {SOLUTION: by})
