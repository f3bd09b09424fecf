"""What is measured of an edited model: scores of facts, drift, and rates (METRICS 3 and 7)."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np

from editing.metrics import values
from editing.metrics.counterfact import Compared, FactScores, measure_facts, rivals, success_rate
from editing.metrics.drift import Drift, base_logprobs, measure_drift
from editing.model.scoring import Score
from editing.model.state import State
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.run import finish, under
from editing.step import Step

SUCCESSES = ("ES", "PS", "NS")  # S is their harmonic mean
_DRAWS = 2000


def measured(
    view: ModelView, requests: Sequence[EditRequest], state: State
) -> Generator[Step, None, list[FactScores]]:
    """Scores of the requests under a state."""
    rival = yield from rivals(view, requests)
    return (yield from under(view, state, measure_facts(view, requests, rival)))


def drifted(view: ModelView, state: State) -> Drift:
    """How far a state lies from the untouched model, on neutral text."""
    untouched = base_logprobs(view)
    return finish(under(view, state, measure_drift(view, state, untouched)))


def fact_from(data: Mapping[str, Any]) -> FactScores:
    """Scores from their JSON, which `dataclasses.asdict` makes."""

    def one(part: Mapping[str, Any]) -> Compared:
        return Compared(Score(**part["wanted"]), Score(**part["rival"]), part["same"])

    groups = ([one(part) for part in data[name]] for name in ("paraphrases", "neighborhood"))
    return FactScores(one(data["prompt"]), *groups)


def prompts(fact: FactScores) -> tuple[list[Compared], list[Compared], list[Compared]]:
    """The prompts that ES, PS and NS are taken from."""
    return [fact.prompt], fact.paraphrases, fact.neighborhood


def rates(facts: Sequence[FactScores]) -> dict[str, float]:
    """ES, EA, PS, NS in percent, each averaged over its prompts."""
    parts = zip(SUCCESSES, zip(*map(prompts, facts), strict=True), strict=False)
    found = {
        name: 100 * (success_rate([one for group in groups for one in group]) or 0.0)
        for name, groups in parts
    }
    accuracy = sum(f.prompt.wanted.greedy for f in facts) / max(len(facts), 1)
    return {**found, "EA": 100 * accuracy}


def harmonic(found: Mapping[str, float]) -> float:
    """S of the rates; 0 if any of the three is 0."""
    return values.harmonic([found[name] for name in SUCCESSES]) or 0.0


def intervals(facts: Sequence[FactScores], seed: int) -> dict[str, tuple[float, float]]:
    """Bootstrap 95 % intervals of S, ES, PS and NS: edits are drawn again, with their prompts."""
    counts = [[(sum(c.success for c in part), len(part)) for part in prompts(f)] for f in facts]
    won, asked = np.array(counts).transpose(2, 0, 1)  # [facts, 3] each
    picks = np.random.default_rng(seed).integers(len(facts), size=(_DRAWS, len(facts)))
    sums, totals = won[picks].sum(1), asked[picks].sum(1)  # [draws, 3]
    drawn = 100 * np.divide(sums, totals, out=np.zeros(sums.shape), where=totals > 0)
    with np.errstate(divide="ignore"):
        whole = drawn.shape[1] / (1 / drawn).sum(1)  # a rate of 0 makes 0 of it
    columns = dict(zip(SUCCESSES, drawn.T, strict=True), S=whole)
    return {
        name: (float(np.percentile(column, 2.5)), float(np.percentile(column, 97.5)))
        for name, column in columns.items()
    }
