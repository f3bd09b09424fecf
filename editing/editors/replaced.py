"""What the orders of a lineage have replaced and taken back, as their notes tell it.

A fact that a later one replaces is not lost: when the later edit is taken back, it is live again,
unless its own edit was taken back meanwhile. A compaction forgets what was replaced before it.
"""

from collections.abc import Iterator
from typing import Any, cast

from editing.history import Entry, History

from .facts import Fact, read

Json = dict[str, Any]
RETRACTED = "retracted"  # the note under which an outcome says which edit it takes back
REPLACED = "replaced"  # and under which it says which facts of others it replaces


def retracted(history: History) -> set[str]:
    """The edits that orders of this lineage have taken back."""
    notes = (entry.load().notes for entry in history.entries)
    return {str(note[RETRACTED]) for note in notes if RETRACTED in note}


def replaced_by_order(history: History, edit: str) -> list[Fact]:
    """The facts that are live again when an edit is taken back, newest answers only.

    Where the edit of such a fact was taken back itself, what that one had replaced in its turn.
    """
    known = {entry.id: entry for entry in history.entries}
    gone, found, waiting = retracted(history), list[Fact](), [edit]
    while waiting:
        entry = known.get(waiting.pop())
        for told in _told(entry) if entry else ():
            if told["edit"] in gone:
                waiting.append(told["edit"])
            elif (fact := _fact(history, told)) is not None:
                found.append(fact)
    return [
        fact
        for number, fact in enumerate(found)
        if not any(fact.replaced_by(newer.request) for newer in found[:number])
    ]


def _told(entry: Entry) -> list[Json]:
    return cast("list[Json]", entry.load().notes.get(REPLACED, []))


def _fact(history: History, told: Json) -> Fact | None:
    return next(
        (
            fact
            for entry in history.entries
            for fact in _facts(entry)
            if (fact.edit, fact.number) == (told["edit"], told["number"])
        ),
        None,
    )


def _facts(entry: Entry) -> Iterator[Fact]:
    """The facts that an order has written, in the notes of a ledger or of a memory."""
    notes = entry.load().notes
    for name in ("slots", "entries"):
        for one in cast("list[Json]", notes.get(name, [])):
            yield from read(one["facts"], entry.id)
