"""Whether a model is damaged, whatever was asked of it: seen before it is served.

perplexity_ratio  on the neutral texts, over that of the untouched model (METRICS 7)
norm_ratio        the largest |W| / |W0| of an edited weight (EDITORS 5.9)
distinct          different trigrams of words in a few greedy texts, over those of the untouched
                  model, since small models repeat themselves anyway; a text without any has none
finite            whether all of this is a number

Each with its value before: what a model was already is not this order's doing.
"""

import math
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import torch

from editing.errors import TextTooLong
from editing.model.generate import greedily
from editing.model.state import State
from editing.run import under
from editing.step import Step

from .drift import Drift, base_logprobs, neutral_gold, perplexity
from .fluency import words

if TYPE_CHECKING:
    from editing.model.view import ModelView

Json = dict[str, object]

PROMPTS = (
    "In the morning the people of the village",
    "The first thing that one needs to know is",
    "My grandmother used to tell me that",
    "Scientists have found out that",
)
_TOKENS = 24
_N = 3
_DISTINCT = "distinct trigrams"


def measure_canary(
    view: "ModelView", after: State, now: Drift, before: Drift
) -> Generator[Step, None, Json]:
    """The canary of `after`; `now` and `before` are the drift of it and of what is served."""
    base = perplexity(base_logprobs(view), neutral_gold(view))
    if _DISTINCT not in view.remembered:
        found = yield from _distinct(view, State())
        view.remembered[_DISTINCT] = torch.tensor(math.nan if found is None else found)
    usual = float(view.remembered[_DISTINCT])
    was = yield from _distinct(view, view.current)
    share = yield from _distinct(view, after)
    varied = _over(share, usual)
    return {
        "perplexity_ratio": {
            "value": now.perplexity / base,
            "n": now.tokens,
            "before": before.perplexity / base,
        },
        "norm_ratio": {
            "value": now.norm_ratio,
            "n": len(after.masters),
            "before": before.norm_ratio,
        },
        "distinct": {
            "value": varied,
            "n": 0 if varied is None else len(PROMPTS),
            "before": _over(was, usual),
        },
        "finite": all(map(math.isfinite, (now.perplexity, now.kl, now.norm_ratio))),
    }


def distinct_share(texts: Sequence[str], n: int = _N) -> float:
    """Different n-grams of words among those of a text, in the mean; 0 for a text without any."""
    grams = [list(zip(*(words(text)[i:] for i in range(n)), strict=False)) for text in texts]
    return sum(len(set(each)) / len(each) for each in grams if each) / len(texts)


def _over(share: float | None, usual: float) -> float | None:
    """A share over that of base; None where one of them was not measured."""
    if share is None or math.isnan(usual):
        return None
    return share / usual if usual else 1.0  # a base that says nothing has nothing to lose


def _distinct(view: "ModelView", state: State) -> Generator[Step, None, float | None]:
    """Of what a state writes; None where a text before every prompt leaves no room for it.

    The state keeps it: four texts a promotion are enough.
    """
    if _DISTINCT not in state.measured:
        try:
            texts, _ = yield from under(view, state, greedily(view, PROMPTS, _TOKENS))
            state.measured[_DISTINCT] = distinct_share(texts)
        except TextTooLong:
            state.measured[_DISTINCT] = None
    return state.measured[_DISTINCT]
