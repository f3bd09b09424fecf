"""Knobs of the method that keeps facts beside a weight instead of writing them into it."""

from dataclasses import dataclass
from typing import Literal

from .blocks import Contexts, Search, knob, maybe, one_layer, option


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryHparams:
    """A gated key-value memory: one layer, an entry a subject, no weight changed."""

    layers: tuple[int, ...] = one_layer()
    search: Search = Search()
    contexts: Contexts = Contexts()
    key_site: Literal["subject_last", "prompt_last"] = option(
        "subject_last",
        "the token whose key is kept: the subject's last, or the prompt's last (in `late_layers`)",
    )
    late_layers: tuple[int, ...] | None = option(
        None, "the layer of keys at the prompt's last token; null = by the rule of depth"
    )
    gate: float | None = maybe(
        "the cosine above which an entry claims a key; null = calibrated, entry by entry",
        low=0,
        high=1,
    )
    least_gate: float = knob(0.3, "no calibrated gate is lower", low=0, high=1)
    neighborhood: bool = option(
        False,
        "calibrate on the request's neighborhood prompts too; they then measure what was shown",
    )
    merge_above: float = knob(
        0.9,
        "facts whose keys have at least this cosine share one entry, searched for all of them",
        low=0,
        high=0.999,
    )
    joint_probability: float = knob(
        0.5,
        "facts that share a key are refused where a joint search ends below this probability",
        low=0,
        high=1,
    )
