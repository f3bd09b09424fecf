"""Knobs of the method whose editor is a trained network, and of its training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .blocks import knob, layer_band, option

# What MEND changes in each of its layers: every matrix of the MLP.
MEND_WRITES: tuple[Literal["gate_proj", "up_proj", "down_proj"], ...] = (
    "gate_proj",
    "up_proj",
    "down_proj",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MendHparams:
    """MEND: a trained hypernetwork turns the gradient of an edit into the change of weights."""

    layers: tuple[int, ...] = layer_band("the blocks whose MLP matrices are changed, lowest first")
    net: str | None = option(
        None,
        "id of a trained hypernetwork, or how it begins; null = the newest one for this model and "
        "these layers",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MendRecipe:
    """How a hypernetwork of MEND is trained; the defaults are the published ones."""

    rank: int = knob(
        1920,
        "rank of each layer of the network; in models smaller than GPT-2 XL at most half of a "
        "matrix's short side",
        low=1,
        high=1e5,
    )
    alpha: float = knob(1e-4, "step size of each matrix at the start", low=0, high=10)
    lr: float = knob(1e-6, "Adam's learning rate for the network", low=0, high=1)
    alpha_lr: float = knob(1e-4, "Adam's learning rate for the step sizes", low=0, high=1)
    clip: float = knob(100.0, "the gradient's norm is cut to this", low=1e-6, high=1e9)
    accumulate: int = knob(10, "records whose gradients make one step", low=1, high=1000)
    iterations: int = knob(100_000, "records trained on at most, each as often as it comes", low=1,
                           high=1e7)  # fmt: skip
    edit_weight: float = knob(
        0.1, "weight of the loss on the edit and a paraphrase", low=0, high=100
    )
    locality_weight: float = knob(1.0, "weight of KL on other subjects' prompts", low=0, high=100)
    divergence: Literal["from_base", "from_edited"] = option(
        "from_base",
        "KL(base || edited), as in the authors' code, or KL(edited || base)",
    )
    pool: int = knob(1, "records that are learned in turns before others come", low=1, high=10_000)
    passes: int = knob(
        1,
        "turns that a pool is learned in; what the untouched model says of it is found out once",
        low=1,
        high=1000,
    )
    paraphrases: int = knob(1, "paraphrases of a record learned at a time", low=0, high=16)
    neighbors: int = knob(1, "prompts of other subjects watched at a time", low=1, high=64)
    check_records: int = knob(
        32, "records kept apart, on which the net is judged", low=1, high=10_000
    )
    check_every: int = knob(1000, "iterations between two looks at them", low=1, high=1e7)
    keep_by: Literal["loss", "success"] = option(
        "loss",
        "which network is kept: the one with the lowest loss on them, or with the highest harmonic "
        "mean of efficacy, paraphrase and neighborhood",
    )
    patience: int = knob(
        20_000, "training ends when so many iterations brought nothing better", low=1, high=1e7
    )


# What a recipe differs in from the published one. "quick" was found for SmolLM2-135M within 45
# minutes of one CPU core (docs/methods/mend.md).
RECIPES: Mapping[str, Mapping[str, object]] = {
    "published": {},
    "quick": {
        "lr": 1e-5,
        "alpha_lr": 2e-5,
        "accumulate": 6,
        "divergence": "from_edited",
        "locality_weight": 4.0,
        "pool": 96,
        "passes": 4,
        "neighbors": 3,
        "check_records": 64,
        "keep_by": "success",
        "check_every": 400,
        "patience": 4000,
    },
}
