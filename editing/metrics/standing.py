"""What a promotion does to the facts of live edits: who answered before, and does not now."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from editing.model.scoring import score
from editing.model.state import State
from editing.run import under
from editing.step import Step

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Live:
    """A fact of a live edit: which of its requests, and whether its subject is edited now."""

    request: "EditRequest"
    edit: str = ""
    number: int = 0
    same_subject: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A fact of a live edit, and whether the model says it, greedily."""

    fact: Live
    before: bool
    now: bool

    @property
    def disturbed(self) -> bool:
        """Whether the model said it before, and does not now."""
        return self.before and not self.now


def ask_live(
    view: "ModelView", facts: Sequence[Live], after: State
) -> Generator[Step, None, list[Asked]]:
    """Ask what is served now, and the state after it."""
    pairs = [(fact.request.question, fact.request.target_new) for fact in facts]
    was = yield from score(view, pairs)
    now = yield from under(view, after, score(view, pairs))
    found = zip(facts, was, now, strict=True)
    return [Asked(fact, one.greedy, two.greedy) for fact, one, two in found]


def live_report(asked: Sequence[Asked]) -> Json:
    """By edits: a value is the share of those asked of which every fact asked is said."""
    return {
        "same_subject": _kept([one for one in asked if one.fact.same_subject]),
        "others": _kept([one for one in asked if not one.fact.same_subject]),
        "disturbed": [
            {"edit": edit, "facts": [one.fact.number for one in ours], "same_subject": same}
            for (edit, same), facts in _by_edit(asked).items()
            if (ours := [one for one in facts if one.disturbed])
        ],
        "asked": [
            {
                "edit": one.fact.edit,
                "fact": one.fact.number,
                "before": one.before,
                "now": one.now,
            }
            for one in asked
        ],
    }


def _by_edit(asked: Sequence[Asked]) -> dict[tuple[str, bool], list[Asked]]:
    found: dict[tuple[str, bool], list[Asked]] = {}
    for one in asked:
        found.setdefault((one.fact.edit, one.fact.same_subject), []).append(one)
    return found


def _kept(asked: Sequence[Asked]) -> Json:
    edits = list(_by_edit(asked).values())
    if not edits:
        return {"value": None, "n": 0, "before": None}
    return {
        "value": sum(all(one.now for one in facts) for facts in edits) / len(edits),
        "n": len(edits),
        "before": sum(all(one.before for one in facts) for facts in edits) / len(edits),
    }
