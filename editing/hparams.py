"""Every method's knobs, built from shared blocks. Standard library only.

A default lives here once; what differs between two methods is what you see on this page. How a
mapping sent by a caller becomes one of these is knobs.py; what a paper tuned is tuned.py.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal


def knob(
    default: Any,  # noqa: ANN401 - like dataclasses.field, it stands for a value of any type
    says: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> Any:  # noqa: ANN401
    """Declare a field with its meaning and the closed range it may take."""
    return field(default=default, metadata={"says": says, "low": low, "high": high})


OWN_TEXT = "self"  # the model samples the text that its statistics are taken from


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The search for z (v* in ROME): Adam on one vector added at one position (EDITORS 0.3)."""

    steps: int = knob(25, "optimiser steps at most", low=1, high=1000)
    lr: float = knob(0.5, "Adam's learning rate", low=1e-6, high=100)
    kl_factor: float = knob(0.0625, "weight of KL on '{subject} is a'", low=0, high=100)
    weight_decay: float = knob(1e-3, "weight of |delta| / |h|^2", low=0, high=100)
    max_norm: float = knob(4.0, "|delta| <= max_norm * |h|", low=1e-3, high=100)
    stop_loss: float = knob(0.05, "a fact stops below this loss", low=0, high=10)
    rank_one_steps: int = knob(
        3, "a fact stops once its target was rank 1 in all contexts for so many steps; 0 = never",
        low=0, high=1000,
    )  # fmt: skip
    min_probability: float = knob(
        0.02, "a search that ends below this probability of the target failed", low=0, high=1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contexts:
    """The texts put before a prompt, so that a key holds in more than one place."""

    prefixes: int = knob(5, "sampled prefixes beside the bare prompt", low=0, high=64)
    prefix_tokens: int = knob(10, "length of a prefix", low=1, high=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """How the second moment C = E[k kT] of an untouched model is collected."""

    tokens_per_dimension: float = knob(
        10.0, "tokens read, as a multiple of the key's size", low=1, high=100_000
    )
    text: str = field(
        default=OWN_TEXT,
        metadata={
            # Another corpus is named where its texts are given, by Plan.of(corpus=...).
            "says": "'self': text that the model itself writes",
            "choices": (OWN_TEXT,),
        },
    )


def _one_layer() -> Any:  # noqa: ANN401
    return field(metadata={"says": "the edited layer, alone in a list", "length": 1})


@dataclass(frozen=True, slots=True, kw_only=True)
class RomeHparams:
    """ROME: one fact, one layer, one rank."""

    layers: tuple[int, ...] = _one_layer()
    search: Search = Search()
    contexts: Contexts = Contexts(prefixes=20)
    statistics: Statistics = Statistics()
    keys: Literal["context", "mean"] = field(
        default="context",
        metadata={"says": "'context': each context's own key; 'mean': one mean key everywhere"},
    )
    damping: float = knob(
        0.01,
        "with 'context': rho, as a share of the keys' mean leverage; 0 = exact",
        low=0,
        high=100,
    )
    bare_weight: float = knob(0.5, "with 'mean': share of the bare prompt", low=0, high=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RRomeHparams:
    """R-ROME: one fact, one layer, one mean key everywhere."""

    layers: tuple[int, ...] = _one_layer()
    search: Search = Search()
    contexts: Contexts = Contexts(prefixes=20)
    statistics: Statistics = Statistics()
    bare_weight: float = knob(0.5, "share of the bare prompt in the mean key", low=0, high=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemitHparams:
    """MEMIT with and without history: many facts, a band of layers, a soft write."""

    layers: tuple[int, ...] = field(metadata={"says": "the edited band, lowest first"})
    search: Search = Search()
    contexts: Contexts = Contexts()
    statistics: Statistics = Statistics()
    second_moment_weight: float | None = field(
        default=None,
        metadata={
            "says": "lambda: how heavily everyday keys count; null = by the rule of scale",
            "low": 1e-6,
            "high": 1e9,
        },
    )


Hparams = RomeHparams | RRomeHparams | MemitHparams
