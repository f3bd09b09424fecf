"""The entries of the memories of a lineage: which live facts each of them says, and at which key.

An edit brings entries and takes out those that it makes anew (`Outcome.removes`, as "edit#number").
Facts that share a key share an entry: at one key one vector is added.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from editing.delta import Memory
from editing.history import Entry as Made
from editing.history import History
from editing.outcome import Outcome

from .facts import Fact, noted, read

Json = dict[str, Any]
NOTE = "entries"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the memory beside a weight.

    name: "edit#number"; keys [n, d_k]: as they are stored, bit for bit, the mean first; rows: where
    they stand in the outcome that brought them.
    """

    name: str
    facts: tuple[Fact, ...]
    weight: str
    keys: Tensor
    rows: Sequence[int]
    load: Callable[[], Outcome]

    @property
    def anew(self) -> Memory:
        """The change that takes it out and brings it again as it is stored."""
        memory, rows = _memory(self.load(), self.weight), list(self.rows)
        return Memory(memory.keys[rows], memory.values[rows], memory.gates[rows], self.keys)


def entries_of(history: History) -> dict[str, Entry]:
    """All entries of a lineage that nothing has taken out, by name, oldest first."""
    start: dict[str, Entry] = {}
    return history.folded(NOTE, "memory", start, _fold)


def stored_as(history: History, name: str) -> Entry:
    """The entry of this name as its edit brought it, also where it was taken out since."""
    return next(one for one in _read(history.entry(name.partition("#")[0])) if one.name == name)


def _fold(known: Mapping[str, Entry], fresh: Sequence[Made]) -> dict[str, Entry]:
    found = dict(known)
    for made in fresh:
        for gone in made.removes:
            found.pop(gone, None)
        found |= {entry.name: entry for entry in _read(made)}
    return found


def _read(made: Made) -> Iterator[Entry]:
    outcome = made.load()
    for number, told in enumerate(cast("list[Json]", outcome.notes.get(NOTE, []))):
        facts, weight, rows = read(told["facts"], made.id), told["weight"], told["rows"]
        keys = _memory(outcome, weight).keys[rows]
        yield Entry(f"{made.id}#{number}", facts, weight, keys, rows, made.load)


def _memory(outcome: Outcome, weight: str) -> Memory:
    return cast("Memory", outcome.deltas[weight])


def note_of(facts: Sequence[Fact], weight: str, rows: Sequence[int]) -> Json:
    """What an outcome's notes keep of one entry, under NOTE."""
    return {"facts": noted(facts), "weight": weight, "rows": list(rows)}
