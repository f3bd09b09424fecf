"""An edit of a ledger taken back: its facts go, and what it had replaced is live again.

Where its slots are still as it wrote them, they are taken out and those that it took out for them
are written again as they were: the weights are those of never having made it. Where later edits
have built on its slots, what is left of these is searched anew.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, cast, get_args

import torch

from editing.errors import EditFailed
from editing.outcome import Outcome
from editing.step import Step

from .asking import KeyAt
from .band import GOAL
from .book import Book, in_turn
from .facts import Fact
from .replaced import RETRACTED, replaced_by_order, retracted
from .slots import NOTE as SLOTS
from .slots import Slot, Wrote, written_as

Json = dict[str, Any]
LOST = "not_brought_back"  # the note that names what was replaced and can no longer be said


def taken_back(book: Book, edit: str) -> Generator[Step, None, Outcome]:
    """The change that takes an edit back.

    Raises SearchDiverged, FactsInConflict or SingularSystem, and KeyError where no live fact is of
    this edit.
    """
    gone = [fact for fact in book.facts if fact.edit == edit]
    if not gone:
        raise KeyError(edit)
    if (mine := _own(book, edit, gone)) is not None:
        made = yield from _undone(book, edit, mine)
    else:
        made = yield from _less(book, edit, gone)
    return replace(made, notes={**made.notes, RETRACTED: edit})


def _own(book: Book, edit: str, facts: Sequence[Fact]) -> list[Slot] | None:
    """The slots of an edit where nothing has changed them since, and what they replaced may return.

    None where that is not so, and an edit cannot be undone as a whole.
    """
    mine = [slot for slot in book.slots.values() if slot.entry == edit]
    if {*facts} - {fact for slot in mine for fact in slot.facts}:
        return None
    entry = book.history.entry(edit)
    wrote = cast("list[Json]", entry.load().notes[SLOTS])
    old = (fact for name in entry.removes for fact in written_as(book.history, name).facts)
    taken = retracted(book.history)
    return mine if len(mine) == len(wrote) and not any(f.edit in taken for f in old) else None


def _undone(book: Book, edit: str, mine: Sequence[Slot]) -> Generator[Step, None, Outcome]:
    """Slots taken out, and those that they took the place of put back as they were written."""
    back = [written_as(book.history, name) for name in book.history.entry(edit).removes]
    parts = [(yield from book.joint.without(mine))]
    wrote: list[Wrote] = []
    for key_at in get_args(KeyAt):
        slots = [slot for slot in back if slot.key_at == key_at]
        if slots:
            goals = {GOAL: torch.cat([slot.goal for slot in slots], dim=1)}
            parts.append(replace(book.joint.put_back(slots, mine, parts), goals=goals))
            facts = [fact for slot in slots for fact in slot.facts]
            wrote.append(Wrote(facts, in_turn(slots), key_at, parts[-1]))
    made = book.told(wrote, parts, {}, book.history)
    facts = [fact for slot in back for fact in slot.facts]
    removes = tuple(slot.name for slot in mine)
    return replace(made, removes=removes, ends=(edit,), holds=_anew(book, facts))


def _less(book: Book, edit: str, gone: Sequence[Fact]) -> Generator[Step, None, Outcome]:
    """Facts left out of slots that others share by now; what they had replaced is said again."""
    live = [fact for fact in book.facts if fact not in gone]
    back = [
        old
        for old in replaced_by_order(book.history, edit)
        if not any(old.replaced_by(fact.request) for fact in live)
    ]
    if back:
        try:
            made = yield from book.rewritten(back, gone)
        except EditFailed:
            pass  # it cannot be said beside what has come since; the edit goes all the same
        else:
            return replace(made, holds=_anew(book, back))
    made = yield from book.rewritten((), gone)
    lost = [fact.request.question for fact in back]
    return replace(made, notes={**made.notes, LOST: lost}) if lost else made


def _anew(book: Book, facts: Sequence[Fact]) -> tuple[str, ...]:
    """The edits of facts that had no live one and have now."""
    live = {fact.edit for fact in book.facts}
    return tuple(dict.fromkeys(fact.edit for fact in facts if fact.edit not in live))
