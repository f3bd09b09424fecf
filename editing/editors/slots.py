"""The slots of a ledger: which live facts are written together, and where.

A linear memory holds one value at a key. Where a prompt begins with its subject, all facts about
that subject have one key, so they are written as one: a slot is what holds them. An edit adds
slots, and takes out those that it writes anew (`Outcome.removes`, as "edit#number").
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from editing.history import Entry, History
from editing.outcome import Outcome, Written, part_of
from editing.request import EditRequest

from .asking import KeyAt

Json = dict[str, Any]
NOTE = "slots"


@dataclass(frozen=True, slots=True)
class Fact:
    """One live fact: the order that asked for it, its place there, and what it is."""

    edit: str  # empty: the order that is being written
    number: int
    request: EditRequest

    def replaced_by(self, other: EditRequest) -> bool:
        """Whether another request asks the same question anew."""
        mine = self.request
        if mine.question == other.question:
            return True
        same = (mine.subject, mine.relation, mine.perspective, mine.object)
        return mine.relation is not None and same == (
            other.subject, other.relation, other.perspective, other.object
        )  # fmt: skip


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

    def pair(self, weight: str) -> Written:
        """What it wrote into one of its weights."""
        return part_of(self.load().written[weight], self.columns[weight])


def slots_of(history: History) -> dict[str, Slot]:
    """All slots of a lineage that nothing has taken out, by name, oldest first."""
    start: dict[str, Slot] = {}
    return history.folded(NOTE, "ledger", start, _fold)


def _fold(known: dict[str, Slot], fresh: Sequence[Entry]) -> dict[str, Slot]:
    found = dict(known)
    for entry in fresh:
        for gone in entry.removes:
            for name in [name for name in found if gone in {name, found[name].entry}]:
                del found[name]
        for slot in _read(entry):
            found[slot.name] = slot
    return found


def _read(entry: Entry) -> Iterator[Slot]:
    outcome = entry.load()
    for number, told in enumerate(cast("list[Json]", outcome.notes.get(NOTE, []))):
        facts = tuple(
            Fact(one["edit"] or entry.id, one["number"], EditRequest.from_dict(one["request"]))
            for one in told["facts"]
        )
        columns: Mapping[str, list[int]] = told["columns"]
        keys = outcome.written[next(iter(columns))].keys[:, told["bare"]]
        yield Slot(
            name=f"{entry.id}#{number}",
            facts=facts,
            key_at=told["key_at"],
            columns=columns,
            bare=torch.nn.functional.normalize(keys.double(), dim=0),
            load=entry.load,
        )


def note_of(
    facts: Sequence[Fact], key_at: KeyAt, columns: Mapping[str, Sequence[int]], bare: Sequence[int]
) -> Json:
    """What an outcome's notes keep of one slot, under NOTE."""
    return {
        "facts": [
            {"edit": fact.edit, "number": fact.number, "request": fact.request.to_dict()}
            for fact in facts
        ],
        "key_at": key_at,
        "columns": {weight: list(places) for weight, places in columns.items()},
        "bare": list(bare),
    }
