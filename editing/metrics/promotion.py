"""The report made of an edit before it may become the head: what it moved, against the parent."""

import math
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, cast

from editing.model.state import State
from editing.run import under
from editing.step import Step

from .canary import measure_canary
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
from .standing import Live, ask_live, live_report

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

Json = dict[str, object]


def promotion_report(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    after: State,
    earlier: Sequence["EditRequest | Live"] = (),
) -> Generator[Step, None, dict[str, object]]:
    """Measure `after` against what is served now.

    Every number has its `n` and its value `before`; null where there was nothing to measure, or
    where it is no number (then `canary.finite` is false). `earlier` are facts of earlier live
    edits: the share still answered, greedily, is reported, and by edits under `live`. Where
    requests carry ripples, so is the share of those (`ripple`, with its criteria).
    """
    head = view.current
    rival = yield from rivals(view, requests)
    old = yield from measure_facts(view, requests, rival)
    new = yield from under(view, after, measure_facts(view, requests, rival))
    facts = [fact if isinstance(fact, Live) else Live(fact) for fact in earlier]
    kept = yield from ask_live(view, facts, after)
    base = base_logprobs(view)
    yield Step("measure", 1, 1)
    drift_before = yield from measure_drift(view, head, base)
    drift = yield from under(view, after, measure_drift(view, after, base))
    canary = yield from measure_canary(view, after, drift, drift_before)
    ripple = yield from request_ripples(view, requests, after)
    report: Json = {
        "efficacy": {
            "success": _rate(success_rate, [f.prompt for f in new], [f.prompt for f in old]),
            "accuracy": _rate(accuracy_rate, [f.prompt for f in new], [f.prompt for f in old]),
        },
        "paraphrase": _both(new, old, lambda fact: fact.paraphrases),
        "neighborhood": _both(new, old, lambda fact: fact.neighborhood),
        "earlier": _value(
            sum(one.now for one in kept) / len(kept) if kept else None,
            len(kept),
            sum(one.before for one in kept) / len(kept) if kept else None,
        ),
        "live": live_report(kept),
        "drift": _drift(drift, drift_before),
        "canary": canary,
        "requests": [
            _row(request, text, now, was)
            for request, text, now, was in zip(requests, rival, new, old, strict=True)
        ],
        **({} if ripple is None else {"ripple": ripple}),
    }
    return cast("Json", _finite(report))


def _finite(value: object) -> object:
    """The same, with null for what is no number: JSON has no word for it."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in cast("Json", value).items()}
    if isinstance(value, list):
        return [_finite(part) for part in cast("list[object]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
