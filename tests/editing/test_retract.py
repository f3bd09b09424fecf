"""One edit taken out of a lineage leaves what there would be without it."""

from collections.abc import Collection

import pytest
import torch
from torch import Tensor

from editing import solve
from editing.delta import Dense
from editing.editors.solution import spot_of
from editing.history import Entry, History
from editing.model.state import State
from editing.model.view import ModelView
from editing.outcome import Outcome, Written
from editing.request import EditRequest
from editing.retract import metric_of, retract
from editing.run import finish
from editing.walk import Plan

from .conftest import MakeView
from .facts import CAPITAL, OTHER_SPORT, OVERRIDES, SPORT, run

FACTS = [
    SPORT,
    CAPITAL,
    OTHER_SPORT,
    EditRequest(subject="Roger Federer", prompt="{} plays the sport of", target_new="football"),
]
EXACT = ["memit-history", "alphaedit", "ultra-rls"]


# As large beside the weights as edits of a real model are: a tiny one's own are many times larger
# than its weights, and so is what float32 rounds away of them.
REACHED = {"search.min_probability": 0}  # however far it comes
GENTLE = {
    "memit-history": {**OVERRIDES["memit-history"], "second_moment_weight": 20_000, **REACHED},
    "alphaedit": {**OVERRIDES["alphaedit"], "damping": 20, **REACHED},
    "ultra-rls": {**OVERRIDES["ultra-rls"], "eta": 1e-3, "ridge": 20},
}


def plan_of(view: ModelView, editor: str) -> Plan:
    return Plan.of(view, editor, GENTLE.get(editor))


def lineage(view: ModelView, editor: str, *, foreign: Outcome | None = None) -> list[Entry]:
    """Four edits in a row, each upon what the one before it left; something foreign in between."""
    entries: list[Entry] = []
    for number, fact in enumerate(FACTS):
        if number == 2 and foreign:
            view.adopt(view.after(foreign.deltas))
            entries.append(Entry("foreign", lambda: foreign))
        made = run(view, editor, [fact], GENTLE[editor], History(entries))
        view.adopt(view.after(made.deltas))
        entries.append(Entry(f"edit-{number}", lambda made=made: made))
    return entries


def taken_out(view: ModelView, editor: str, entries: list[Entry], edit: str) -> Outcome:
    return finish(retract(view, plan_of(view, editor), History(entries), edit))


def joint(
    view: ModelView, editor: str, entries: list[Entry], without: Collection[str], weight: str
) -> Tensor:
    """One solution for all stored pairs but some, in dense algebra."""
    bases, _ = metric_of(view, plan_of(view, editor))
    start = view.master(weight, State()).double()
    rest = [entry.load() for entry in entries if entry.id not in without]
    foreign = [o.changes[weight] for o in rest if not o.written and weight in o.changes]
    start += sum((change.matrix().double() for change in foreign), start * 0)
    pairs = [outcome.written[weight] for outcome in rest if outcome.written]
    keys = torch.cat([pair.keys.double() for pair in pairs], dim=1)
    targets = torch.cat([pair.values.double() + pair.missing.double() for pair in pairs], dim=1)
    metric = bases(spot_of(view, weight)).with_keys(keys)
    return start + (targets - start @ keys) @ keys.mT @ metric.inverse


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("editor", EXACT)
@pytest.mark.parametrize("number", [0, 1, 3])
def test_what_is_left_is_the_joint_solution_of_the_others(
    view: ModelView, editor: str, number: int
) -> None:
    entries = lineage(view, editor)
    out = taken_out(view, editor, entries, f"edit-{number}")
    state = view.after(out.deltas)
    for weight in out.changes:
        wanted = joint(view, editor, entries, {f"edit-{number}"}, weight)
        assert off(view.master(weight, state), wanted) < 1e-6
        with_it = joint(view, editor, entries, set(), weight)
        assert off(view.master(weight), with_it) < 1e-6
        assert off(wanted, with_it) > 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_is_exact_in_half_precision_too(make_view: MakeView, dtype: torch.dtype) -> None:
    view = make_view("llama", dtype=dtype)
    entries = lineage(view, "memit-history")
    out = taken_out(view, "memit-history", entries, "edit-1")
    state = view.after(out.deltas)
    for weight in out.changes:
        wanted = joint(view, "memit-history", entries, {"edit-1"}, weight)
        assert off(view.master(weight, state), wanted) < 1e-6


@pytest.mark.parametrize("editor", EXACT)
def test_what_another_editor_changed_in_between_stays(llama: ModelView, editor: str) -> None:
    drawn = torch.Generator().manual_seed(0)
    deltas = {
        name: Dense(0.01 * torch.randn(llama.master(name).shape, generator=drawn))
        for name in (llama.down_proj(layer) for layer in OVERRIDES[editor]["layers"])
    }
    entries = lineage(llama, editor, foreign=Outcome(deltas))
    out = taken_out(llama, editor, entries, "edit-0")
    state = llama.after(out.deltas)
    for weight in out.changes:
        # The first two edits were made before it: what they were to answer moves with it.
        moved = [_moved(entry, deltas, before=n < 2) for n, entry in enumerate(entries)]
        wanted = joint(llama, editor, moved, {"edit-0"}, weight)
        assert off(llama.master(weight, state), wanted) < 1e-6


def _moved(entry: Entry, deltas: dict[str, Dense], *, before: bool) -> Entry:
    outcome = entry.load()
    if not before or not outcome.written:
        return entry
    written = {
        name: Written(
            pair.keys, (pair.values.double() + deltas[name].at(pair.keys)).float(), pair.missing
        )
        if name in deltas
        else pair
        for name, pair in outcome.written.items()
    }
    return Entry(entry.id, lambda: Outcome(outcome.deltas, written))


def test_where_a_key_is_too_rare_to_be_folded_out_the_metric_is_made_anew(
    llama: ModelView, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = lineage(llama, "memit-history")
    folded = taken_out(llama, "memit-history", entries, "edit-1")
    monkeypatch.setattr(solve, "_RAREST", 1.0)
    anew = taken_out(llama, "memit-history", entries, "edit-1")
    for weight, change in folded.changes.items():
        assert off(change.matrix(), anew.changes[weight].matrix().double()) < 1e-6


def test_later_edits_no_longer_keep_what_was_taken_out(llama: ModelView) -> None:
    entries = lineage(llama, "memit-history")
    out = taken_out(llama, "memit-history", entries, "edit-1")
    llama.adopt(llama.after(out.deltas))
    history = History(entries)
    plan = plan_of(llama, "memit-history")
    bases, made_by = metric_of(llama, plan)
    weight = llama.down_proj(1)
    history.metric(weight, made_by, bases(("mlp", 1)))  # folded with it
    entries.append(Entry("out", lambda: out, out.removes))
    stepwise = History(entries, history.folds).metric(weight, made_by, bases(("mlp", 1)))
    never = [entry for entry in entries if entry.id not in {"edit-1", "out"}]
    without = History(never).metric(weight, made_by, bases(("mlp", 1)))
    assert off(stepwise.inverse, without.inverse) < 1e-9
    assert [entry.id for entry in History(entries).live] == ["edit-0", "edit-2", "edit-3", "out"]


def test_two_are_taken_out_in_any_order(llama: ModelView) -> None:
    entries = lineage(llama, "memit-history")
    found: list[State] = []
    for order in (("edit-0", "edit-2"), ("edit-2", "edit-0")):
        done, state = list(entries), llama.current
        for edit in order:
            with llama.showing(state):
                out = taken_out(llama, "memit-history", done, edit)
            state = llama.after(out.deltas, state)
            done.append(Entry(f"without-{edit}", lambda out=out: out, out.removes))
        found.append(state)
    for weight in found[0].masters:
        wanted = joint(llama, "memit-history", entries, {"edit-0", "edit-2"}, weight)
        assert all(off(state.masters[weight], wanted) < 1e-6 for state in found)


def test_what_cannot_be_taken_out(llama: ModelView) -> None:
    entries = lineage(llama, "memit-history")
    with pytest.raises(KeyError):
        taken_out(llama, "memit-history", entries, "edit-9")
    with pytest.raises(KeyError):
        finish(retract(llama, plan_of(llama, "rome"), History(entries), "edit-0"))


def test_an_outcome_says_what_it_removes_also_from_its_bytes() -> None:
    out = Outcome({}, removes=("edt_1", "edt_2"))
    assert Outcome.from_bytes(out.to_bytes()).removes == ("edt_1", "edt_2")
    assert Outcome.from_bytes(Outcome({}).to_bytes()).removes == ()
