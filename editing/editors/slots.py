"""The slots of a ledger: which live facts are written together, and where.

A linear memory holds one value at a key. Where a prompt begins with its subject, all facts about
that subject have one key, so they are written as one: a slot is what holds them. An edit adds
slots, and takes out those that it writes anew (`Outcome.removes`, as "edit#number").
"""

from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from editing.history import Entry, History
from editing.hparams import Contexts
from editing.model.view import layer_of
from editing.outcome import Outcome, Written, joined, part_of
from editing.step import Step

from .asking import Asking, KeyAt
from .band import GOAL
from .facts import Fact, noted, read

if TYPE_CHECKING:
    from editing.model.view import ModelView

Json = dict[str, Any]
NOTE = "slots"
_READ = 16  # outcomes read in one step


@dataclass(frozen=True, slots=True)
class Slot:
    """Facts that were written together: their columns of what an outcome wrote.

    name: "edit#number"; columns: by weight, their places among the outcome's; bare [d_k, facts]:
    the keys of their bare prompts in the lowest layer, of length one.
    """

    name: str
    facts: tuple[Fact, ...]
    key_at: KeyAt
    columns: Mapping[str, Sequence[int]]
    bare: Tensor
    load: Callable[[], Outcome]

    @property
    def entry(self) -> str:
        """The edit whose outcome holds it."""
        return self.name.partition("#")[0]

    @property
    def goal(self) -> Tensor:
        """What the last block was asked to answer at each of its columns [d_v, n]."""
        return self.load().goals[_goal(int(self.name.partition("#")[2]))]

    def pair(self, weight: str) -> Written:
        """What it wrote into one of its weights."""
        return part_of(self.load().written[weight], self.columns[weight])


def slots_of(history: History, made_by: object) -> dict[str, Slot]:
    """The slots of one solution that nothing has taken out, by name, oldest first."""
    start: dict[str, Slot] = {}

    def fold(known: dict[str, Slot], fresh: Sequence[Entry]) -> dict[str, Slot]:
        found = dict(known)
        for entry in fresh:
            if not entry.load().is_part_of(made_by):
                continue
            for gone in entry.removes:
                for name in [name for name in found if gone in {name, found[name].entry}]:
                    del found[name]
            for slot in _read(entry):
                found[slot.name] = slot
        return found

    return history.folded(NOTE, made_by, start, fold)


def written_as(history: History, name: str) -> Slot:
    """The slot of this name as its entry wrote it, also where it was taken out since."""
    return next(slot for slot in _read(history.entry(name.partition("#")[0])) if slot.name == name)


@dataclass(frozen=True, slots=True)
class BareKeys:
    """Keys of bare prompts side by side [d_k, n], None without any, and the slot of each."""

    owners: tuple[str, ...] = ()
    keys: Tensor | None = None

    def but(self, gone: Collection[str]) -> "BareKeys":
        """Those of other slots."""
        kept = [at for at, name in enumerate(self.owners) if name not in gone]
        if self.keys is None or len(kept) == len(self.owners):
            return self
        return BareKeys(tuple(self.owners[at] for at in kept), self.keys[:, kept])

    def and_of(self, slots: Sequence[Slot]) -> "BareKeys":
        """With those of more slots."""
        if not slots:
            return self
        old = [] if self.keys is None else [self.keys]
        owners = [slot.name for slot in slots for _ in slot.facts]
        return BareKeys((*self.owners, *owners), torch.cat([*old, *(s.bare for s in slots)], dim=1))


def bare_keys(history: History, made_by: object) -> BareKeys:
    """The keys of the slots at subjects, as `slots_of` has them: put together once, then kept."""

    def fold(known: BareKeys, fresh: Sequence[Entry]) -> BareKeys:
        added = {name: slot for name, slot in slots.items() if slot.entry in {e.id for e in fresh}}
        shared = [slot for slot in added.values() if slot.key_at == "subject_last"]
        return known.but({*known.owners} - {*slots}).and_of(shared)

    slots = slots_of(history, made_by)
    return history.folded("bare keys", made_by, BareKeys(), fold)


def by_edit(history: History) -> Generator[Step, None, list[Entry]]:
    """The live edits, and what is left of what each wrote: what shares a slot, each has whole.

    An entry need not be an edit: facts are written again where others are taken out.
    """
    for number, entry in enumerate(history.entries):
        entry.load()
        if number % _READ == _READ - 1:
            yield Step("keys", number + 1, len(history))
    wrote: dict[str, dict[str, list[Written]]] = {}
    for entry in history.live:
        outcome = entry.load()
        if NOTE not in outcome.notes and outcome.written:
            wrote[entry.id] = {weight: [pair] for weight, pair in outcome.written.items()}
    ledgers = {entry.load().solution for entry in history.entries if NOTE in entry.load().notes}
    slots = [slot for one in sorted(map(str, ledgers)) for slot in slots_of(history, one).values()]
    for slot in slots:
        for edit in {fact.edit for fact in slot.facts}:
            mine = wrote.setdefault(edit, {})
            for weight in slot.columns:
                mine.setdefault(weight, []).append(slot.pair(weight))
    found: list[Entry] = []
    for edit, pairs in wrote.items():
        whole = Outcome({}, {weight: _together(some) for weight, some in pairs.items()})
        found.append(Entry(edit, lambda whole=whole: whole))
    return found


def _together(pairs: Sequence[Written]) -> Written:
    parts = ("keys", "values", "missing")
    return Written(*(torch.cat([getattr(pair, part) for pair in pairs], dim=1) for part in parts))


def _read(entry: Entry) -> Iterator[Slot]:
    outcome = entry.load()
    for number, told in enumerate(cast("list[Json]", outcome.notes.get(NOTE, []))):
        facts = read(told["facts"], entry.id)
        columns: Mapping[str, list[int]] = told["columns"]
        lowest = min(columns, key=layer_of)  # by number: in a blob "layers.10" is before "layers.9"
        keys = outcome.written[lowest].keys[:, told["bare"]]
        yield Slot(
            name=f"{entry.id}#{number}",
            facts=facts,
            key_at=told["key_at"],
            columns=columns,
            bare=torch.nn.functional.normalize(keys.double(), dim=0),
            load=entry.load,
        )


@dataclass(frozen=True, slots=True)
class Wrote:
    """What one part of an order wrote: facts, which of them share a slot, and at which token."""

    facts: Sequence[Fact]
    groups: Sequence[Sequence[int]]
    key_at: KeyAt
    part: Outcome


def widths(
    view: "ModelView", contexts: Contexts, facts: Sequence[Fact], key_at: KeyAt
) -> list[int]:
    """How many columns of keys each fact has."""
    asking = Asking.of(view, contexts, key_at)
    return [
        sum(len(asking.rows(view, piece)) for piece in asking.apart([fact.request]))
        for fact in facts
    ]


def told(
    view: "ModelView", contexts: Contexts, wrote: Sequence[Wrote], parts: Sequence[Outcome]
) -> Outcome:
    """One outcome of all parts of an order, with a note of its slots and the goal of each."""
    notes: list[Json] = []
    goals: dict[str, Tensor] = {}
    before: Counter[str] = Counter()  # columns of a weight that earlier parts have
    for one in wrote:
        wide = widths(view, contexts, one.facts, one.key_at)
        starts = [sum(wide[:number]) for number in range(len(wide))]
        lowest = next(iter(one.part.written))
        for group in one.groups:
            own = [starts[number] + at for number in group for at in range(wide[number])]
            goals[_goal(len(notes))] = one.part.goals[GOAL][:, own]
            notes.append(
                {
                    "facts": noted([one.facts[number] for number in group]),
                    "key_at": one.key_at,
                    "columns": {w: [before[w] + at for at in own] for w in one.part.written},
                    "bare": [before[lowest] + starts[number] for number in group],
                }
            )
        before.update({weight: pair.keys.shape[1] for weight, pair in one.part.written.items()})
    made = joined(parts, one_solution=True)
    searched: Json = {}
    for one in wrote:
        for name, value in one.part.notes.items():
            searched[name] = _both(searched[name], value) if name in searched else value
    return replace(made, notes={**searched, NOTE: notes}, goals=goals)


def _both(first: object, then: object) -> object:
    """What two parts of an order note under one name: lists in turn, of tables all rows."""
    if isinstance(first, list):
        return [*cast("list[object]", first), *cast("list[object]", then)]
    if isinstance(first, dict):
        return {**cast("Json", first), **cast("Json", then)}
    return first


def _goal(number: int) -> str:
    """The name under which an outcome keeps what a slot of it was to bring about."""
    return f"{GOAL}{number}"
