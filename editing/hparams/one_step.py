"""Knobs of the methods that write one step along a normalised gradient."""

from dataclasses import dataclass
from typing import Literal

from .blocks import knob, layer_band, maybe, option


@dataclass(frozen=True, slots=True, kw_only=True)
class UltraHparams:
    """UltraEdit, with and without history: one backward pass, one step."""

    layers: tuple[int, ...] = layer_band("the edited layers, lowest first")
    matrices: Literal["down", "up", "gate_up", "mlp"] = option(
        "down", "which of their MLPs' matrices; a gate only where it is a matrix of its own"
    )
    eta: float | None = maybe(
        "how far a step goes: a token is answered by eta |h^|^2 times its normalised gradient; "
        "null = by the rule of scale, 0.6 / d_in",
        low=0,
        high=100,
    )
    ridge: float = knob(
        1.0, "weight of the change's own size beside the keys; 1 = as published", low=1e-6, high=1e9
    )
    prior: float = knob(
        10.0,
        "tokens that are counted in means and deviations before the first, with mean 0 and one "
        "deviation for all dimensions",
        low=0.01,
        high=1e9,
    )
