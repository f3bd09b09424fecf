"""What the orders of a lineage have replaced and taken back, and what returns by that.

A fact that a later one replaces is not lost: when the later edit is taken back, it is live again,
unless its own edit was taken back meanwhile. A compaction forgets what was replaced before it.
Ledgers and memories keep facts in holders (slots, entries), which their notes tell of.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar, cast

from editing.errors import EditFailed
from editing.history import Entry, History
from editing.outcome import Outcome
from editing.step import Step

from .facts import Fact, read, told_of

Json = dict[str, Any]
HOLDERS = ("slots", "entries")  # the notes that tell of holders
RETRACTED = "retracted"  # the note under which an outcome says which edit it takes back
REPLACED = "replaced"  # and under which it says which facts of others it replaces
RETURNED = "returned"  # and which of them are live again
LOST = "not_brought_back"  # and which questions of what was replaced can no longer be answered


class Holder(Protocol):
    """What facts are kept in together."""

    @property
    def name(self) -> str:
        """Its name, "edit#number"."""
        ...

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The facts."""
        ...


class Keeper(Protocol):
    """What keeps the live facts of a lineage."""

    history: History

    @property
    def facts(self) -> list[Fact]:
        """All live facts."""
        ...

    def rewritten(
        self, new: Sequence[Fact], gone: Sequence[Fact]
    ) -> Generator[Step, None, Outcome]:
        """Write new facts, leave some out, and keep all others that are touched by that."""
        ...


H = TypeVar("H", bound=Holder)


def untouched(
    history: History,
    edit: str,
    live: Mapping[str, H],
    as_written: Callable[[str], H],
    meet: Callable[[Sequence[H], Sequence[H]], bool],
) -> tuple[list[H], list[H]] | None:
    """The holders that an edit made, and those that it took out for them.

    None where it cannot be undone as a whole: others have built on its holders since, it was
    compacted away, an edit whose facts would return was taken back meanwhile, or what would return
    is answered by a later edit, or would `meet` what that has written at (nearly) the same key.
    """
    mine = [one for name, one in live.items() if name.partition("#")[0] == edit]
    rest = [one for name, one in live.items() if name.partition("#")[0] != edit]
    if any(fact.edit == edit for one in rest for fact in one.facts):
        return None
    entry = history.entry(edit)
    notes = entry.load().notes
    wrote = sum(len(cast("list[Json]", notes.get(name, []))) for name in HOLDERS)
    old = [as_written(name) for name in entry.removes]
    gone = retracted(history)
    known = {fact for one in mine for fact in one.facts}
    back = [fact for one in old for fact in one.facts if fact not in known]
    later = [fact.request for one in rest for fact in one.facts]
    if (
        len(mine) < wrote
        or any(fact.edit in gone for one in old for fact in one.facts)
        or any(fact.replaced_by(other) for fact in back for other in later)
        or meet(old, rest)
    ):
        return None
    return mine, old


def left_out(keeper: Keeper, edit: str, gone: Sequence[Fact]) -> Generator[Step, None, Outcome]:
    """An edit's facts left out of holders that others share by now.

    What it had replaced is written again beside them; where that cannot be, it is named, and the
    edit goes all the same.
    """
    live = [fact for fact in keeper.facts if fact not in gone]
    back = [
        old
        for old in replaced_by_order(keeper.history, edit)
        if not any(old.replaced_by(fact.request) for fact in live)
    ]
    if back:
        try:
            made = yield from keeper.rewritten(back, gone)
        except EditFailed:
            pass
        else:
            return returned(made, keeper.facts, back)
    made = yield from keeper.rewritten((), gone)
    lost = [fact.request.question for fact in back]
    return replace(made, notes={**made.notes, LOST: lost}) if lost else made


def returned(made: Outcome, live: Sequence[Fact], facts: Sequence[Fact]) -> Outcome:
    """The outcome with a note of the facts that were not live before it, and what lives by them."""
    known, edits = {*live}, {fact.edit for fact in live}
    back = [fact for fact in facts if fact not in known]
    holds = tuple(dict.fromkeys(fact.edit for fact in back if fact.edit not in edits))
    notes = {**made.notes, RETURNED: told_of(back)} if back else made.notes
    return replace(made, notes=notes, holds=holds)


def taken_back(edit: str, made: Outcome) -> Outcome:
    """The outcome with a note of the edit that it takes back."""
    return replace(made, notes={**made.notes, RETRACTED: edit})


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
        for place in replaced_in(entry.load()) if entry else ():
            if place[0] in gone:
                waiting.append(place[0])
            elif (fact := _fact(history, place)) is not None:
                found.append(fact)
    return [
        fact
        for number, fact in enumerate(found)
        if not any(fact.replaced_by(newer.request) for newer in found[:number])
    ]


def replaced_in(outcome: Outcome) -> list[tuple[str, int]]:
    """The live facts (edit, place in it) that an outcome answers otherwise, in whatever words.

    None of an editor that keeps no facts.
    """
    noted: Any = outcome.notes.get(REPLACED)  # of another method a text of its own
    return [(one["edit"], one["number"]) for one in noted] if isinstance(noted, list) else []


def _fact(history: History, place: tuple[str, int]) -> Fact | None:
    return next(
        (
            fact
            for entry in history.entries
            for fact in _facts(entry)
            if (fact.edit, fact.number) == place
        ),
        None,
    )


def _facts(entry: Entry) -> Iterator[Fact]:
    """The facts that an order has written, in the notes of a ledger or of a memory."""
    notes = entry.load().notes
    for name in HOLDERS:
        for one in cast("list[Json]", notes.get(name, [])):
            yield from read(one["facts"], entry.id)
