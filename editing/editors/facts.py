"""Live facts: what a ledger and a memory keep of the orders that they have written.

An order's own facts are replaced by a later one with the same question, and an edit has ended when
none of its facts is live.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from editing.errors import FactsInConflict
from editing.request import EditRequest

Json = dict[str, Any]


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


def last_word(requests: Sequence[EditRequest]) -> list[Fact]:
    """The facts of a batch, without those that a later one of it replaces."""
    facts = [Fact("", number, request) for number, request in enumerate(requests)]
    return [
        fact
        for number, fact in enumerate(facts)
        if not any(fact.replaced_by(later.request) for later in facts[number + 1 :])
    ]


def replaced(live: Sequence[Fact], new: Sequence[Fact]) -> list[Fact]:
    """The live facts that new ones replace."""
    return [fact for fact in live if any(fact.replaced_by(one.request) for one in new)]


def named(live: Sequence[Fact], asked: Sequence[tuple[str, int, EditRequest]]) -> list[Fact]:
    """The live facts that are asked for by order and place in it."""
    places = {(edit, number) for edit, number, _ in asked}
    return [fact for fact in live if (fact.edit, fact.number) in places]


def ended(live: Sequence[Fact], gone: Collection[Fact]) -> tuple[str, ...]:
    """The edits of which nothing is live any more when these facts are gone."""
    left = {fact.edit for fact in live if fact not in gone}
    return tuple(dict.fromkeys(fact.edit for fact in gone if fact.edit not in left))


def conflict(new: Sequence[Fact], live: Sequence[Fact]) -> FactsInConflict:
    """New facts that cannot be written, and the live ones that stand against them."""
    with_them = [
        {"edit": fact.edit, "question": fact.request.question, "says": fact.request.target_new}
        for fact in live
    ]
    return FactsInConflict([fact.request.question for fact in new], with_them)


def noted(facts: Sequence[Fact]) -> list[Json]:
    """What an outcome's notes keep of facts."""
    return [
        {"edit": fact.edit, "number": fact.number, "request": fact.request.to_dict()}
        for fact in facts
    ]


def read(told: Sequence[Json], entry: str) -> tuple[Fact, ...]:
    """The facts that the notes of an entry tell of; those of its own order bear its id."""
    return tuple(
        Fact(one["edit"] or entry, one["number"], EditRequest.from_dict(one["request"]))
        for one in told
    )


def told_of(gone: Sequence[Fact]) -> list[Json]:
    """What a report says of facts that were replaced: whose they were."""
    return [{"edit": one.edit, "number": one.number} for one in gone]
