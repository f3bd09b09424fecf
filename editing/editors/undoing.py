"""An edit of a ledger taken back: its facts go, and what it had replaced is live again.

Where its slots are still as it wrote them, they are taken out and those that it took out for them
are written again as they were: the weights are those of never having made it. Where later edits
have built on its slots, what is left of these is searched anew (replaced.py).
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import get_args

import torch

from editing.outcome import Outcome
from editing.step import Step

from .asking import KeyAt
from .band import GOAL
from .book import Book, in_turn
from .replaced import left_out, returned, taken_back, untouched
from .slots import Slot, Wrote, written_as


def undone(book: Book, edit: str) -> Generator[Step, None, Outcome]:
    """The change that takes an edit back.

    Raises SearchDiverged, FactsInConflict or SingularSystem, and KeyError where no live fact is of
    this edit.
    """
    gone = [fact for fact in book.facts if fact.edit == edit]
    if not gone:
        raise KeyError(edit)
    found = untouched(
        book.history, edit, book.slots, lambda name: written_as(book.history, name), book.meet
    )
    work = _exchanged(book, *found) if found else left_out(book, edit, gone)
    return taken_back(edit, replace((yield from work), ends=(edit,)))


def _exchanged(
    book: Book, mine: Sequence[Slot], old: Sequence[Slot]
) -> Generator[Step, None, Outcome]:
    """Slots taken out, and those that they took the place of put back as they were written."""
    parts = [(yield from book.joint.without(mine))]
    wrote: list[Wrote] = []
    for key_at in get_args(KeyAt):
        slots = [slot for slot in old if slot.key_at == key_at]
        if slots:
            goals = {GOAL: torch.cat([slot.goal for slot in slots], dim=1)}
            parts.append(replace(book.joint.put_back(slots, mine, parts), goals=goals))
            facts = [fact for slot in slots for fact in slot.facts]
            wrote.append(Wrote(facts, in_turn(slots), key_at, parts[-1]))
    made = book.told(wrote, parts, {}, book.history)
    facts = [fact for slot in old for fact in slot.facts]
    made = replace(made, removes=tuple(slot.name for slot in mine))
    return returned(made, book.facts, facts)
