"""Sets of edits that share a subject, each with a matched set that does not (S2RKE, section 4).

    homogeneous  the first and the last of k edits share the subject    against: the last does not
    all-same     all k edits do                                         against: the first alone is
    density      k edits, three of a subject                            against: two, and one

The sets of a pair begin with the same edit, which is the one that is scored first, and go through
the same relations as far as the data has them. What comes from which file is for the readers.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from editing.errors import BadRequest
from editing.request import EditRequest

Design = Literal["homogeneous", "all-same", "density"]

_SPARE = 6  # others that could stand for one, where the model must know what is edited
_DENSITIES = {"high": 3, "medium": 2, "low": 1}  # edits of one subject


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that could be edited; the request is made when it is needed."""

    subject: str
    relation: str  # what tells relations apart
    make: Callable[[], EditRequest] = field(compare=False, repr=False)
    whole: bool = field(default=True, compare=False)  # it has paraphrases, and neighbors


@dataclass(frozen=True, slots=True)
class SameSubject:
    """One subject's case; every slot of an arm has candidates, of which the first that fits counts.

    `own` are the facts that share a subject, `matches` for each of them facts of other subjects and
    the same relation, `fillers` facts of yet others. Whole facts come first, since the first edit
    is the one that is scored. In a density case `own` holds facts of several subjects in turn.
    """

    design: Design
    k: int
    subject: str
    own: tuple[Fact, ...]
    matches: Mapping[Fact, tuple[Fact, ...]]
    fillers: tuple[Fact, ...]

    @property
    def candidates(self) -> list[Fact]:
        """Everything that may be edited."""
        every = [*self.own, *self.fillers, *(one for some in self.matches.values() for one in some)]
        return list(dict.fromkeys(every))

    def arms(self, fits: Callable[[Fact], bool]) -> dict[str, list[Fact]] | None:
        """The edits of each arm, in order; None where too few facts fit."""
        if self.design == "density":
            return self._densities(fits)
        own = [fact for fact in self.own if fits(fact)]
        shared = self.k if self.design == "all-same" else 2
        if len(own) < shared:
            return None
        own = own[:shared]
        taken = {self.subject}
        others: list[Fact] = []
        for fact in own[1:]:
            match = _first(self.matches[fact], fits, taken) or _first(self.fillers, fits, taken)
            if match is None:
                return None
            others.append(match)
            taken.add(match.subject)
        between: list[Fact] = []
        while len(between) < self.k - shared:
            filler = _first(self.fillers, fits, taken)
            if filler is None:
                return None
            between.append(filler)
            taken.add(filler.subject)
        first, *later = own
        return {"same": [first, *between, *later], "different": [first, *between, *others]}

    def _densities(self, fits: Callable[[Fact], bool]) -> dict[str, list[Fact]] | None:
        by_subject: dict[str, list[Fact]] = {}
        for fact in self.own:
            if fits(fact):
                by_subject.setdefault(fact.subject, []).append(fact)
        most = max(_DENSITIES.values())
        dense = [facts for facts in by_subject.values() if len(facts) >= most][: self.k]
        if len(dense) < self.k:
            return None
        return {
            arm: [fact for facts in dense[: self.k // each] for fact in facts[:each]]
            for arm, each in _DENSITIES.items()
        }


def _first(facts: Sequence[Fact], fits: Callable[[Fact], bool], taken: set[str]) -> Fact | None:
    return next((one for one in facts if one.subject not in taken and fits(one)), None)


def available(facts: Sequence[Fact]) -> dict[int, int]:
    """How many subjects have at least k facts, for each k from 2 up to the most that any has."""
    sizes = [len(some) for some in _by_subject(facts).values()]
    return {k: sum(size >= k for size in sizes) for k in range(2, max(sizes, default=1) + 1)}


def build(
    facts: Sequence[Fact], *, design: Design, k: int, subjects: int, seed: int
) -> list[SameSubject]:
    """Cases of a design, at most `subjects` of them (0: all), drawn by the seed.

    Raises BadRequest where no subject has facts enough, saying how many have how many.
    """
    if design == "density" and k % 6:
        raise BadRequest(f"k is {k}; with densities it must be a multiple of 6.", field="k")
    by_subject = _by_subject(facts)
    needed = {"homogeneous": 2, "all-same": k, "density": max(_DENSITIES.values())}[design]
    fitting = sorted(name for name, some in by_subject.items() if len(some) >= needed)
    # What has no neighbors or no paraphrases has no S; where the data gives others, take those.
    whole = [name for name in fitting if any(one.whole for one in by_subject[name].values())]
    fitting = whole or fitting
    chance = random.Random(seed)  # noqa: S311 - a choice that can be made again, no secret
    chance.shuffle(fitting)
    groups = _groups(fitting, k) if design == "density" else [[name] for name in fitting]
    if not groups:
        have = ", ".join(f"{count} have {size}" for size, count in available(facts).items())
        why = f"No case can be built: {needed} facts of one subject are needed"
        why += f" of {k} subjects" if design == "density" else ""
        raise BadRequest(f"{why}; of the subjects {have or 'none has two'} or more.", field="k")
    by_relation: dict[str, list[Fact]] = {}
    for fact in facts:
        by_relation.setdefault(fact.relation, []).append(fact)
    made = _Builder(facts, by_subject, by_relation, design, k, seed)
    return [made.case(group) for group in groups[: subjects or None]]


def _by_subject(facts: Sequence[Fact]) -> dict[str, dict[str, Fact]]:
    """One fact for each subject and relation: the first."""
    found: dict[str, dict[str, Fact]] = {}
    for fact in facts:
        found.setdefault(fact.subject, {}).setdefault(fact.relation, fact)
    return found


def _groups(names: Sequence[str], k: int) -> list[list[str]]:
    """Subjects of a density case: k of them, which the sparsest arm needs."""
    whole = range(0, len(names) - k + 1, k)
    return [list(names[start : start + k]) for start in whole]


@dataclass(frozen=True, slots=True)
class _Builder:
    facts: Sequence[Fact]
    by_subject: Mapping[str, Mapping[str, Fact]]
    by_relation: Mapping[str, Sequence[Fact]]
    design: Design
    k: int
    seed: int

    def case(self, group: Sequence[str]) -> SameSubject:
        # A subject's case does not depend on which others are drawn.
        chance = random.Random(f"{self.seed} {self.design} {group[0]}")  # noqa: S311
        own = [fact for name in group for fact in _shuffled(self.by_subject[name].values(), chance)]
        if self.design == "density":
            return SameSubject(self.design, self.k, group[0], tuple(own), {}, ())
        matches = {fact: tuple(self._drawn(chance, group[0], fact.relation)) for fact in own}
        fillers = tuple(self._drawn(chance, group[0], None, self.k * _SPARE))
        return SameSubject(self.design, self.k, group[0], tuple(own), matches, fillers)

    def _drawn(
        self, chance: random.Random, subject: str, relation: str | None, count: int = _SPARE
    ) -> Iterator[Fact]:
        """Facts of other subjects, of one relation or of any, each subject once."""
        some = self.facts if relation is None else self.by_relation[relation]
        seen = {subject}
        for fact in chance.sample(some, min(len(some), 4 * count)):
            if fact.subject not in seen and len(seen) <= count:
                seen.add(fact.subject)
                yield fact


def _shuffled(facts: Iterable[Fact], chance: random.Random) -> list[Fact]:
    found = sorted(facts, key=lambda fact: fact.relation)
    chance.shuffle(found)
    return sorted(found, key=lambda fact: not fact.whole)
