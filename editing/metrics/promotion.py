"""The report made of an edit before it may become the head: what it moved, against the parent."""

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

from editing.model.scoring import score
from editing.model.state import State
from editing.run import under
from editing.step import Step

from .counterfact import (
    Compared,
    FactScores,
    accuracy_rate,
    measure_facts,
    rivals,
    success_rate,
)
from .drift import Drift, base_logprobs, measure_drift
from .ripple import request_ripples

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


def promotion_report(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    after: State,
    earlier: Sequence["EditRequest"] = (),
) -> Generator[Step, None, dict[str, object]]:
    """Measure `after` against what is served now.

    Every number has its `n` and its value `before`; null where there was nothing to measure.
    `earlier` are facts of earlier live edits: the share still answered, greedily, is reported.
    Where requests carry ripples, so is the share of those (`ripple`, with its criteria).
    """
    head = view.current
    rival = yield from rivals(view, requests)
    old = yield from measure_facts(view, requests, rival)
    new = yield from under(view, after, measure_facts(view, requests, rival))
    asked = [(fact.question, fact.target_new) for fact in earlier]
    kept_before = yield from score(view, asked)
    kept = yield from under(view, after, score(view, asked))
    base = base_logprobs(view)
    yield Step("measure", 1, 1)
    drift_before = yield from measure_drift(view, head, base)
    drift = yield from under(view, after, measure_drift(view, after, base))
    ripple = yield from request_ripples(view, requests, after)
    return {
        "efficacy": {
            "success": _rate(success_rate, [f.prompt for f in new], [f.prompt for f in old]),
            "accuracy": _rate(accuracy_rate, [f.prompt for f in new], [f.prompt for f in old]),
        },
        "paraphrase": _both(new, old, lambda fact: fact.paraphrases),
        "neighborhood": _both(new, old, lambda fact: fact.neighborhood),
        "earlier": _value(
            sum(s.greedy for s in kept) / len(kept) if kept else None,
            len(kept),
            sum(s.greedy for s in kept_before) / len(kept) if kept else None,
        ),
        "drift": _drift(drift, drift_before),
        "requests": [
            _row(request, text, now, was)
            for request, text, now, was in zip(requests, rival, new, old, strict=True)
        ],
        **({} if ripple is None else {"ripple": ripple}),
    }


def _value(value: float | None, n: int, before: float | None) -> dict[str, object]:
    return {"value": value, "n": n, "before": before}


def _rate(
    rate: Callable[[Sequence[Compared]], float | None],
    new: Sequence[Compared],
    old: Sequence[Compared],
) -> dict[str, object]:
    return _value(rate(new), len(new), rate(old))


def _both(
    new: Sequence[FactScores],
    old: Sequence[FactScores],
    part: Callable[[FactScores], list[Compared]],
) -> dict[str, object]:
    """Success as the headline, accuracy beside it."""
    now = [one for fact in new for one in part(fact)]
    was = [one for fact in old for one in part(fact)]
    return {**_rate(success_rate, now, was), "accuracy": _rate(accuracy_rate, now, was)}


def _drift(now: Drift, was: Drift) -> dict[str, object]:
    names = ("kl", "perplexity", "norm_ratio")
    return {name: _value(getattr(now, name), now.tokens, getattr(was, name)) for name in names}


def _row(request: "EditRequest", rival: str, now: FactScores, was: FactScores) -> dict[str, object]:
    """One fact's probabilities, geometric means per token."""
    return {
        "subject": request.subject,
        "rival": rival,
        "p_new": now.prompt.wanted.mean_probability,
        "p_new_before": was.prompt.wanted.mean_probability,
        "p_rival": now.prompt.rival.mean_probability,
        "p_rival_before": was.prompt.rival.mean_probability,
        "answers": now.prompt.wanted.greedy,
    }
