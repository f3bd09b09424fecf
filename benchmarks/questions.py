"""What a long run of edits writes and is asked: the records in their order, and their scores.

CounterFact: first the records of the authors' own form (several paraphrases and neighbors), then
those that are only at hand in the flat form (one of each), both shuffled by the seed. zsRE: MEND's
records, shuffled. A record that a later one contradicts (the same subject and relation, or the same
question) is asked for the later one's answer from then on.
"""

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from benchmarks.ledger import Entry, digest
from benchmarks.measuring import fact_from, harmonic, intervals, prompts, rates
from benchmarks.together import facts_of
from editing.datasets import zsre
from editing.datasets.counterfact import counterfact_request
from editing.datasets.files import read_records
from editing.datasets.zsre import ZsreRecord
from editing.errors import BadRequest
from editing.evals.options import ZsreOptions
from editing.metrics.counterfact import Compared, FactScores, rivals
from editing.metrics.tokens_accuracy import Choices
from editing.metrics.values import interval, mean_of
from editing.metrics.zsre import ZsreScores, measure_zsre
from editing.model.scoring import Score
from editing.model.state import State
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.run import finish, under

Json = dict[str, Any]
_NEVER = Score(-float("inf"), 1, 0)
_UNASKED = FactScores(Compared(_NEVER, Score(0.0, 1, 1)), [], [])
_AGES = 10  # parts of a run, oldest first, whose success is told apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a run is asked.

    neighbors: of each record, at most. tokens: of running text for perplexity. target: of zsRE.
    """

    neighbors: int = 3
    tokens: int = 4096
    target: Literal["alt", "answers"] = "alt"


class Questions(Protocol):
    """Records of one benchmark in the order they are written in."""

    @property
    def requests(self) -> Sequence[EditRequest]:
        """The facts, in order."""
        ...

    def asked(self, number: int, answer: EditRequest) -> str:
        """A name for what record `number` is asked when `answer` is what holds."""
        ...

    def scored(
        self, view: ModelView, asked: Sequence[tuple[int, EditRequest]], state: State
    ) -> list[Entry]:
        """Ask records of a state; an entry each."""
        ...

    def values(
        self, now: Sequence[Entry], before: Sequence[Entry], failed: Sequence[bool], seed: int
    ) -> Json:
        """The benchmark's measures: value, low, high, n, before. A failed edit answers nothing."""
        ...

    def ages(self, now: Sequence[Entry], failed: Sequence[bool]) -> list[float]:
        """Efficacy of tenths of the records, those that were written first in front."""
        ...


class CounterFact:
    """ES, PS, NS, EA in percent and S, as benchmarks.editors takes them."""

    def __init__(self, requests: Sequence[EditRequest]) -> None:
        self.requests = requests

    def _asked(self, number: int, answer: EditRequest) -> EditRequest:
        return replace(self.requests[number], target_new=answer.target_new)

    def asked(self, number: int, answer: EditRequest) -> str:
        """By the whole request, as it is asked."""
        return digest(json.dumps(self._asked(number, answer).to_dict(), sort_keys=True))

    def scored(
        self, view: ModelView, asked: Sequence[tuple[int, EditRequest]], state: State
    ) -> list[Entry]:
        """Every prompt with its two answers; `why` where an answer is none that can be scored."""
        requests = [self._asked(*one) for one in asked]
        try:
            with view.showing(State()):
                rival = finish(rivals(view, requests))
            found = facts_of(view, requests, rival, state)
        except BadRequest as error:
            if len(asked) == 1:
                return [{"fact": None, "why": str(error)}]
            return [self.scored(view, [one], state)[0] for one in asked]
        return [{"fact": asdict(fact)} for fact in found]

    def values(
        self, now: Sequence[Entry], before: Sequence[Entry], failed: Sequence[bool], seed: int
    ) -> Json:
        """Intervals draw records anew, with all their prompts."""
        facts, was = _facts(now, failed), _facts(before, [False] * len(before))
        old, new = rates(was), rates(facts)
        old, new = {"S": harmonic(old), **old}, {"S": harmonic(new), **new}
        ends = intervals(facts, seed)
        sizes = dict(zip(("ES", "PS", "NS"), _sizes(facts), strict=True))
        greedy = mean_of([[100.0 * fact.prompt.wanted.greedy] for fact in facts], seed=seed)
        ends["EA"] = (greedy.low or 0.0, greedy.high or 0.0)
        return {
            name: {
                "value": value,
                "low": ends[name][0],
                "high": ends[name][1],
                "n": sizes.get(name, len(facts)),
                "before": old[name],
            }
            for name, value in new.items()
        }

    def ages(self, now: Sequence[Entry], failed: Sequence[bool]) -> list[float]:
        """ES."""
        return _by_age([100.0 * fact.prompt.success for fact in _facts(now, failed)])


def _facts(entries: Sequence[Entry], failed: Sequence[bool]) -> list[FactScores]:
    facts = [fact_from(entry["fact"]) if entry["fact"] else _UNASKED for entry in entries]
    return [unanswered(fact) if lost else fact for fact, lost in zip(facts, failed, strict=True)]


def unanswered(fact: FactScores) -> FactScores:
    """A fact that was never written: neither its prompt nor a paraphrase counts as answered."""

    def never(one: Compared) -> Compared:
        return replace(one, wanted=_NEVER)

    return replace(
        fact, prompt=never(fact.prompt), paraphrases=[never(one) for one in fact.paraphrases]
    )


def _sizes(facts: Sequence[FactScores]) -> list[int]:
    return [sum(map(len, part)) for part in zip(*map(prompts, facts), strict=True)]


def _by_age(each: Sequence[float]) -> list[float]:
    parts = np.array_split(np.array(each), min(_AGES, len(each)))
    return [float(part.mean()) for part in parts]


class Zsre:
    """Efficacy, generality, and both localities in percent, and CTP's score, as suite zsre."""

    _NAMES = ("efficacy", "generality", "loc_gt", "loc_agree")
    _SCORED = ("efficacy", "generality", "loc_agree")

    def __init__(self, records: Sequence[ZsreRecord]) -> None:
        self._records = records
        self.requests = [record.request for record in records]

    def _asked(self, number: int, answer: EditRequest) -> ZsreRecord:
        record = self._records[number]
        return replace(record, request=replace(record.request, target_new=answer.target_new))

    def asked(self, number: int, answer: EditRequest) -> str:
        """By the whole record, as it is asked."""
        return digest(json.dumps(asdict(self._asked(number, answer)), sort_keys=True))

    def scored(
        self, view: ModelView, asked: Sequence[tuple[int, EditRequest]], state: State
    ) -> list[Entry]:
        """Teacher-forced, as its evaluations are."""
        works = [measure_zsre(view, self._asked(*one), 0) for one in asked]
        return [{"zsre": asdict(finish(under(view, state, work)))} for work in works]

    def values(
        self, now: Sequence[Entry], before: Sequence[Entry], failed: Sequence[bool], seed: int
    ) -> Json:
        """Intervals draw records anew."""
        figures = _figures(now, before, failed)
        old = _figures(before, before, [False] * len(before))
        found: Json = {}
        for name in self._NAMES:
            value = mean_of(
                [[one[name]] for one in figures], before=[[one[name]] for one in old], seed=seed
            )
            found[name] = _part(value.to_dict())
        found["score"] = {
            "value": self._score(figures),
            **dict(zip(("low", "high"), interval(figures, self._score, seed=seed), strict=True)),
            "n": len(figures),
            "before": self._score(old),
        }
        return found

    def ages(self, now: Sequence[Entry], failed: Sequence[bool]) -> list[float]:
        """Efficacy."""
        return _by_age([one["efficacy"] for one in _figures(now, now, failed)])

    def _score(self, figures: Sequence[Mapping[str, float]]) -> float:
        return float(np.mean([[one[name] for name in self._SCORED] for one in figures]))


def _figures(
    now: Sequence[Entry], before: Sequence[Entry], failed: Sequence[bool]
) -> list[dict[str, float]]:
    found: list[dict[str, float]] = []
    for new, old, lost in zip(now, before, failed, strict=True):
        one = _zsre_from(new["zsre"]).figures(_zsre_from(old["zsre"]))
        if lost:
            one |= {"efficacy": 0.0, "generality": 0.0}
        found.append({name: 100 * value for name, value in one.items()})
    return found


def _zsre_from(data: Mapping[str, Any]) -> ZsreScores:
    names = ("question", "rephrase", "locality", "own")
    parts = (Choices(tuple(data[n]["gold"]), tuple(data[n]["chosen"])) for n in names)
    return ZsreScores(*parts, text=None, said=None)


def _part(value: Mapping[str, object]) -> Json:
    return {name: value[name] for name in ("value", "low", "high", "n", "before")}


# ---- the records in their order ------------------------------------------------------------------


def questions(
    dataset: str, data: Path, options: Options, *, start: int, count: int, seed: int
) -> Questions:
    """Records start .. start + count of a dataset's order."""
    if dataset == "zsre":
        return Zsre(_zsre(data, options, seed)[start : start + count])
    return CounterFact(counterfact(data, options, seed)[start : start + count])


def counterfact(data: Path, options: Options, seed: int) -> list[EditRequest]:
    """All of CounterFact that is at hand.

    The flat form has lost the relations; a record whose template the other form knows has its
    relation back.
    """
    folder = data / "counterfact"
    whole = _records(folder / "counterfact_full.json")
    seen = {record.get("case_id") for record in whole} - {None}
    flat = [
        record
        for record in _records(folder / "counterfact-edit.json")
        if record.get("case_id") not in seen
    ]
    parts = [_requests(whole, seed), _requests(flat, seed)]
    relations = {one.prompt: one.relation for one in parts[0]}
    return [
        replace(
            one,
            relation=one.relation or relations.get(one.prompt),
            neighborhood=one.neighborhood[: options.neighbors],
        )
        for part in parts
        for one in part
    ]


def _requests(records: Sequence[Json], seed: int) -> list[EditRequest]:
    found = [counterfact_request(number, record) for number, record in enumerate(records)]
    random.Random(seed).shuffle(found)  # noqa: S311 - an order, not a secret
    return found


def _zsre(data: Path, options: Options, seed: int) -> list[ZsreRecord]:
    records = _records(data / "zsre" / "zsre_mend_eval.json")
    cases = zsre.cases(records, ZsreOptions(target=options.target))
    kept = [record for case in cases for record in case.records]
    random.Random(seed).shuffle(kept)  # noqa: S311 - an order, not a secret
    return kept


def _records(file: Path) -> list[Json]:
    return read_records(file) if file.exists() else []


# ---- what contradicts what -----------------------------------------------------------------------


def holding(requests: Sequence[EditRequest], failed: Sequence[bool]) -> list[EditRequest]:
    """For each request the one whose answer holds after all of them: the last of one question.

    A failed one changes nothing, so it takes no earlier one's place.
    """
    found: list[EditRequest] = []
    by: dict[tuple[str, str], EditRequest] = {}
    for request, lost in zip(reversed(requests), reversed(failed), strict=True):
        names = _names(request)
        later = next((by[name] for name in names if name in by), None)
        found.append(later or request)
        if later is None and not lost:
            by.update(dict.fromkeys(names, request))
    return found[::-1]


def alone(requests: Sequence[EditRequest]) -> list[int]:
    """The numbers of requests that no other one contradicts."""
    shared = Counter(name for request in requests for name in _names(request))
    return [n for n, one in enumerate(requests) if all(shared[name] == 1 for name in _names(one))]


def _names(request: EditRequest) -> list[tuple[str, str]]:
    """What a later request that contradicts this one shares with it."""
    names = [("question", request.question)]
    if request.relation is not None:
        names.append(("relation", f"{request.subject}\n{request.relation}"))
    return names
