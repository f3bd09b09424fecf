"""What can be chosen of each suite, as blocks of knobs. Standard library only."""

from dataclasses import dataclass
from typing import Literal

from editing.hparams.blocks import knob, maybe, option


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingOptions:
    """Causal tracing."""

    corrupt: Literal["subject", "relation"] = option(
        "subject", "whose tokens are corrupted: the subject's (ROME) or the relation's (RaKE)"
    )
    copies: int = knob(10, "corrupted copies, each with noise of its own", low=1, high=100)
    noise: float = knob(
        3.0,
        "size of the noise, in standard deviations of the subjects' embeddings",
        low=0,
        high=100,
    )
    window: int | None = maybe(
        "layers in which an MLP's or attention's output is restored; null = a fifth, at least 3",
        low=1,
        high=1000,
    )
    severed: bool = option(
        default=False, says="trace states with the later MLPs, or attention, cut off as well"
    )
    every: int = knob(1, "trace every n-th layer", low=1, high=1000)
    seed: int = knob(0, "of the noise", low=0, high=2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RippleOptions:
    """Ripples of an edit."""

    max_tokens: int = knob(20, "tokens of a greedy answer", low=1, high=200)
    several: Literal["auto", "any", "all"] = option(
        "auto",
        "of an answer with several values: any one, or all; auto = all where a logical consequence "
        "is asked for in the plural, else any",
    )
    names: int = knob(3, "names of an answer whose probability is taken", low=1, high=50)
    in_context: bool = option(
        default=True, says="ask also with the new fact before the prompt, in words"
    )
    untestable: bool = option(
        default=False, says="ask also what does not count, because a condition is not met"
    )
