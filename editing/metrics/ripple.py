"""What an edit moved beside itself: what follows from it, and what must stay (METRICS 2).

Cohen, Biran, Yoran, Globerson, Geva. "Evaluating the Ripple Effects of Knowledge Editing in
Language Models", arXiv:2307.12976 (TACL 2024).

    testable   every condition is answered by the unedited model; where the criterion asks for what
               must stay, the test itself is answered too
    passed     the greedy continuation of the edited model names an answer
    failed     no_effect (it says what it said), abstain (it says nothing), or noise

A condition that is the test itself asks, in RippleEdits' files, for the new answer before the edit:
it is ignored where something should follow. Where something must stay, it is required anyway.
"""

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from editing.datasets.ripple_types import UNNAMED, RippleCase, RippleQuery, RippleTest
from editing.delta import PREFACE, Preface
from editing.model.scoring import Score
from editing.model.state import State
from editing.run import under
from editing.step import Step

from .answers import MAX_TOKENS, answers, likeliest, replies, sayable, says_any

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

Several = Literal["auto", "any", "all"]
Failure = Literal["no_effect", "abstain", "noise"]

_NAMES = 3  # names of an answer whose probability a report takes
_REFUSALS = re.compile(
    r"\b(i (do not|don't|cannot|can't) (know|say|tell)|i'?m not sure|i am not sure|unknown|unclear|"
    r"not (known|clear|specified|available|mentioned|given)|no information)\b",
    re.IGNORECASE,
)


def imagined(view: "ModelView", request: "EditRequest") -> State:
    """The in-context baseline: the new fact stands before every prompt, and no weight changes."""
    fact = f"Imagine that {request.question} {request.target_new.strip()}.\n"
    return view.after({PREFACE: Preface(fact)})


def every_value(test: RippleTest, query: RippleQuery, several: Several) -> bool:
    """Whether a query with several values asks for every one of them.

    auto: where a logical consequence is asked for in the plural ("The names of the siblings of ...
    are"). Elsewhere the values are things of which any one is right.
    """
    if several != "auto":
        return several == "all"
    plural = query.prompt.rstrip(" :").endswith(" are")
    return test.criterion == "logical_generalization" and plural


@dataclass(frozen=True, slots=True)
class Reading:
    """What one state of the model gives for a query: its own words, and the likeliest name."""

    text: str
    right: bool
    score: Score


@dataclass(frozen=True, slots=True)
class Asked:
    """A query with the names that this model could say."""

    query: RippleQuery
    every: bool
    names: Sequence[str]


def sayable_tests(
    view: "ModelView", tests: Sequence[RippleTest], several: Several, names: int, max_tokens: int
) -> list[list[Asked] | None]:
    """The queries of each test; None for one with an answer that cannot be said."""
    found: list[list[Asked] | None] = []
    for test in tests:
        asked: list[Asked] = []
        for query in test.queries:
            # The names of the values before their aliases, so that each value has its turn.
            firsts = [group[0] for group in query.answers]
            others = [name for group in query.answers for name in group[1:]]
            said = sayable(view, query.prompt, firsts + others, names, max_tokens)
            asked.append(Asked(query, every_value(test, query, several), said))
        found.append(asked if all(one.names for one in asked) else None)
    return found


def read(
    view: "ModelView", asked: Sequence[Asked], max_tokens: int
) -> Generator[Step, None, list[Reading]]:
    """Ask queries of what the model serves while this runs."""
    texts = yield from replies(view, [one.query.prompt for one in asked], max_tokens)
    scores = yield from likeliest(view, [(one.query.prompt, one.names) for one in asked])
    return [
        Reading(text, answers(text, one.query.answers, every=one.every), score)
        for one, score in zip(asked, scores, strict=True)
        for text in [texts[one.query.prompt]]
    ]


def conditions_of(test: RippleTest) -> list[RippleQuery]:
    """What the unedited model must answer for the test to count."""
    asked = {query.prompt for query in test.queries}
    found = [query for query in test.conditions if query.prompt not in asked]
    return [*test.queries, *found] if test.preserves else found


def conditions_met(
    view: "ModelView", tests: Sequence[RippleTest], several: Several, max_tokens: int
) -> Generator[Step, None, list[RippleQuery | None]]:
    """For each test the first condition that the model does not answer; None: it is testable."""
    needed = [conditions_of(test) for test in tests]
    prompts = [query.prompt for queries in needed for query in queries]
    texts = yield from replies(view, prompts, max_tokens)

    def met(test: RippleTest, query: RippleQuery) -> bool:
        every = query in test.queries and every_value(test, query, several)
        return answers(texts[query.prompt], query.answers, every=every)

    return [
        next((query for query in queries if not met(test, query)), None)
        for test, queries in zip(tests, needed, strict=True)
    ]


def passes(test: RippleTest, right: Sequence[bool]) -> bool:
    """Whether a test is passed, by its queries."""
    return all(right) if test.condition == "and" else any(right)


def failure_of(text: str, before: str, prompt: str, old: Sequence[str] = ()) -> Failure:
    """The kind of a wrong answer: what it was before, nothing, or something else.

    `old` are names of what was true before the edit, where the query asks for the edited fact.
    """
    said = _opening(text)
    if not said or _REFUSALS.search(text) or prompt.strip().casefold() in text.casefold():
        return "abstain"
    if said == _opening(before) or says_any(text, old):
        return "no_effect"
    return "noise"


def _opening(text: str) -> str:
    """The first clause that says something, without what makes no difference."""
    clauses = (re.findall(r"\w+", clause) for clause in re.split(r"[.,;:!?\n]", text.casefold()))
    return next((" ".join(words) for words in clauses if words), "")


@dataclass(frozen=True, slots=True)
class Direct:
    """The edit's own question under one state."""

    text: str
    says_new: bool
    says_old: bool
    new: Score
    old: Score | None

    @property
    def prefers(self) -> bool | None:
        """Whether the new target is likelier than the old one; None without an old one."""
        if self.old is None:
            return None
        return self.new.mean_probability > self.old.mean_probability


def direct(view: "ModelView", case: RippleCase, max_tokens: int) -> Generator[Step, None, Direct]:
    """Ask the edit's own question of what the model serves while this runs."""
    request = case.request
    question, old = request.question, request.target_true
    texts = yield from replies(view, [question], max_tokens)
    targets = [request.target_new, *([] if old is None else [old])]
    scores = yield from likeliest(view, [(question, [target]) for target in targets])
    text = texts[question]
    return Direct(
        text,
        says_new=says_any(text, [request.target_new, *case.aliases]),
        says_old=old is not None and says_any(text, [old]),
        new=scores[0],
        old=scores[1] if old is not None else None,
    )


# ---- of an edit order, and of one probe ----------------------------------------------------------


def request_ripples(
    view: "ModelView", requests: Sequence["EditRequest"], after: State, max_tokens: int = MAX_TOKENS
) -> Generator[Step, None, dict[str, object] | None]:
    """How the `ripples` that requests carry are answered under `after`, and were by what is served.

    The share answered in the model's own words, and the mean log-probability of the likeliest name
    in nats, over all and by criterion; None where no request carries any. Nothing is left out
    because the model did not know it: `before` says how much it did.
    """
    given = [ripple for request in requests for ripple in request.ripples]
    if not given:
        return None
    asked: list[Asked] = []
    names: list[str] = []
    for one in given:
        if said := sayable(view, one.prompt, one.answers, _NAMES, max_tokens):
            query = RippleQuery(prompt=one.prompt, answers=(one.answers,))
            asked.append(Asked(query, every=False, names=said))
            names.append(one.criterion or UNNAMED)
    old = yield from read(view, asked, max_tokens)
    new = yield from under(view, after, read(view, asked, max_tokens))
    criteria: dict[str, object] = {}
    for name in dict.fromkeys(names):
        mine = [number for number, other in enumerate(names) if other == name]
        criteria[name] = _told([new[i] for i in mine], [old[i] for i in mine])
    return {**_told(new, old), "skipped": len(given) - len(asked), "criteria": criteria}


def _told(new: Sequence[Reading], old: Sequence[Reading]) -> dict[str, object]:
    def mean(values: Sequence[float]) -> float | None:
        return sum(values) / len(values) if values else None

    logprob = {
        "value": mean([one.score.logprob for one in new]),
        "n": len(new),
        "before": mean([one.score.logprob for one in old]),
    }
    right = {
        "value": mean([one.right for one in new]),
        "n": len(new),
        "before": mean([one.right for one in old]),
    }
    return {**right, "logprob": logprob}


def ripple_of(
    view: "ModelView", prompt: str, answer: str, before: State, after: State
) -> Generator[Step, None, dict[str, object]]:
    """How one answer to one prompt moved from one state to another.

    `logprob` in nats over the whole answer; `answers` whether the model writes it of itself.
    Raises EmptyField or TargetTooLong.
    """
    states: Mapping[str, State] = {"_before": before, "": after}
    told: dict[str, object] = {}
    query = Asked(RippleQuery(prompt=prompt, answers=((answer,),)), every=False, names=[answer])
    logprobs: list[float] = []
    for name, state in states.items():
        (found,) = yield from under(view, state, read(view, [query], MAX_TOKENS))
        told |= {f"logprob{name}": found.score.logprob, f"answers{name}": found.right}
        logprobs.append(found.score.logprob)
    return {**told, "gain": logprobs[1] - logprobs[0]}
