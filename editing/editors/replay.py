"""Past facts that a training method goes over again: a fixed-size sample of all live edits.

An outcome's notes name the texts it taught under "replay"; the sample is folded over the live edits
of a lineage (history.py), so that a restore gives it back as it was. Which texts it holds depends
on their number and order alone.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from editing.history import Entry, History

if TYPE_CHECKING:
    from editing.request import EditRequest

NOTE = "replay"


@dataclass(frozen=True, slots=True)
class Past:
    """One text that was taught: a question, and the target behind it."""

    question: str
    target: str


@dataclass(frozen=True, slots=True)
class Reservoir:
    """At most `size` of the texts seen, each equally likely to be among them."""

    size: int
    texts: tuple[Past, ...] = ()
    seen: int = 0

    def and_then(self, past: Past) -> "Reservoir":
        """With one text more; a question that is here already has a new answer."""
        known = [one.question for one in self.texts]
        seen = self.seen + 1
        at = len(known)
        if past.question in known:
            at, seen = known.index(past.question), self.seen
        elif at == self.size:
            at = random.Random(seen).randrange(seen)  # noqa: S311 - a sample is no secret
            if at >= self.size:
                return Reservoir(self.size, self.texts, seen)
        texts = (*self.texts[:at], past, *self.texts[at + 1 :])
        return Reservoir(self.size, texts, seen)

    def drawn(self, count: int, turn: int) -> list[Past]:
        """Some of them; another turn draws others."""
        chance = random.Random(f"{self.seen}:{turn}")  # noqa: S311 - as above
        return chance.sample(self.texts, min(count, len(self.texts)))


def note_of(requests: Sequence["EditRequest"]) -> list[dict[str, str]]:
    """What an outcome's notes keep under NOTE for later edits."""
    return [
        {"question": prompt.replace("{}", request.subject), "target": target}
        for request in requests
        for prompt, target in request.texts
    ]


def remembered(history: History, requests: Sequence["EditRequest"], size: int) -> Reservoir:
    """A sample of what live edits taught, without what `requests` ask anew."""

    def fold(kept: Reservoir, fresh: Sequence[Entry]) -> Reservoir:
        for entry in fresh:
            found = cast("Sequence[Mapping[str, str]]", entry.load().notes.get(NOTE, ()))
            for text in found:
                kept = kept.and_then(Past(text["question"], text["target"]))
        return kept

    if not size:
        return Reservoir(0)
    kept = history.folded(NOTE, size, Reservoir(size), fold)
    asked = {text["question"] for text in note_of(requests)}
    texts = tuple(past for past in kept.texts if past.question not in asked)
    return Reservoir(size, texts, kept.seen)
