"""The blocks that methods' knobs are built from. Standard library only."""

import math
from dataclasses import dataclass, field
from typing import Any


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
    paraphrases: bool = field(
        default=False,
        metadata={
            "says": "learn in the request's paraphrases too; they then measure what was trained"
        },
    )


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


def one_layer() -> Any:  # noqa: ANN401
    """Declare the field of the one edited layer."""
    return field(metadata={"says": "the edited layer, alone in a list", "length": 1})


def layer_band(says: str = "the edited band, lowest first") -> Any:  # noqa: ANN401
    """Declare the field of the edited layers."""
    return field(metadata={"says": says})


def option(default: Any, says: str, *, choices: tuple[object, ...] = ()) -> Any:  # noqa: ANN401
    """Declare a field that is a choice or a switch; `choices`, where its type has more."""
    return field(default=default, metadata={"says": says, "choices": choices})


def maybe(says: str, *, low: float = -math.inf, high: float = math.inf) -> Any:  # noqa: ANN401
    """Declare a number that is left to a rule where it is null."""
    return field(default=None, metadata={"says": says, "low": low, "high": high})
