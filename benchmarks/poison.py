"""Orders that should not have been given, among good ones: contradictions, nonsense, wreckage.

Each is the JSON of a request, since some are none. What of them attacks a live fact takes its
subject from a good order before it; the others take theirs from records that are not edited.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

from editing.datasets.slot import with_slot
from editing.request import EditRequest

Json = dict[str, Any]
_LETTERS, _WORDS = 7, 3  # of a target without meaning
_ENDLESS = 40  # answers one behind the other
_NONSENSE = ("the", "of", "##", "quux", "1993", "and", "](", "was", "ither", "%")


@dataclass(frozen=True, slots=True)
class Item:
    """One order of a mixed sequence; `kind` is empty for a good one, `number` is its record's."""

    kind: str
    request: Json
    number: int | None = None


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What a poisonous order is made of."""

    live: EditRequest  # a good one before it
    spare: EditRequest  # a record that is not edited
    other: str  # an answer of some other record
    draw: random.Random


def _contradiction(d: _Drawn) -> Json:
    return _order(d.live, target_new=d.other)


def _reworded(d: _Drawn) -> Json:
    found = (with_slot(text, d.live.subject) for text in d.live.paraphrases)
    prompt = next((text for text in found if text), d.live.prompt)
    return _order(d.live, prompt=prompt, target_new=d.other)


def _gibberish(d: _Drawn) -> Json:
    words = ["".join(d.draw.choices(ascii_lowercase, k=_LETTERS)) for _ in range(_WORDS)]
    return _order(d.spare, target_new=" ".join(words))


def _endless(d: _Drawn) -> Json:
    return _order(d.spare, target_new=" ".join([d.other, d.spare.target_new] * (_ENDLESS // 2)))


def _meaningless(d: _Drawn) -> Json:
    words = d.draw.choices(_NONSENSE, k=6)
    return _order(
        d.live, prompt=f"{' '.join(words[:2])} {{}} {' '.join(words[2:])}", target_new=d.other
    )


def _repeated(d: _Drawn) -> Json:
    name = d.live.subject
    return _order(d.live, prompt=f"{name} {name} {{}} {name} is", target_new=d.other)


def _slotless(d: _Drawn) -> Json:
    return _order(d.spare, prompt=d.spare.question)


def _empty(d: _Drawn) -> Json:
    return _order(d.spare, target_new=" ")


KINDS: Mapping[str, Callable[[_Drawn], Json]] = {
    "contradiction": _contradiction,
    "contradiction, reworded": _reworded,
    "answer without meaning": _gibberish,
    "answer without end": _endless,
    "prompt without meaning": _meaningless,
    "subject repeated": _repeated,
    "no place for the subject": _slotless,
    "empty answer": _empty,
}


def _order(of: EditRequest, **changed: str) -> Json:
    given = {"subject": of.subject, "prompt": of.prompt, "target_new": of.target_new}
    return {**given, "target_true": of.target_true, **changed}


def mixed(
    good: Sequence[EditRequest], spare: Sequence[EditRequest], count: int, seed: int
) -> list[Item]:
    """The good orders in their order, with `count` poisonous ones at places drawn by the seed.

    The kinds take turns. The first order is a good one: there has to be something to attack.
    """
    draw = random.Random(seed)  # noqa: S311 - an order, not a secret
    places = sorted(draw.randint(1, len(good)) for _ in range(count))
    items = [Item("", one.to_dict(), number) for number, one in enumerate(good)]
    kinds = [list(KINDS)[number % len(KINDS)] for number in range(count)]
    draw.shuffle(kinds)
    for number in reversed(range(count)):
        place, kind = places[number], kinds[number]
        live = draw.choice(good[:place])
        answers = {one.target_new for one in good} - {live.target_new, live.target_true}
        other = draw.choice(sorted(answers))
        made = KINDS[kind](_Drawn(live, draw.choice(spare), other, draw))
        items.insert(place, Item(kind, made))
    return items
