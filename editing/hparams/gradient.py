"""Knobs of the methods that train weights or an adapter by gradients, and of knowledge neurons."""

from dataclasses import dataclass
from typing import Literal

from .blocks import Contexts, knob, layer_band, maybe, one_layer, option


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Adam on float32 copies of what a method owns."""

    contexts: Contexts = Contexts(prefixes=0)
    epochs: int = knob(
        25, "passes over all texts at most; each is one optimiser step unless `batch` splits them",
        low=1, high=1000,
    )  # fmt: skip
    batch: int = knob(128, "texts in a mini-batch", low=1, high=4096)
    lr: float = knob(5e-4, "Adam's learning rate", low=1e-8, high=1)
    weight_decay: float = knob(0.0, "Adam's weight decay", low=0, high=10)
    stop_loss: float = knob(
        1e-2, "a mini-batch below this loss takes no step, a pass below it is the last",
        low=0, high=10,
    )  # fmt: skip
    end_token: bool = option(False, "put the end token behind the target, to be learned with it")
    min_probability: float = knob(
        0.0, "an edit that ends below this probability of a target failed", low=0, high=1
    )


def _bound(default: float | None) -> float | None:
    return knob(
        default,
        "epsilon: no entry goes further than this from its value in the untouched model, however "
        "many edits came before; null = unbounded",
        low=1e-8,
        high=100,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded(Training):
    """Training within a bound around the untouched model."""

    bound: float | None = _bound(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FtHparams(Bounded):
    """FT-L and FT-M: one down-projection is trained; its bound goes by the model's width."""

    layers: tuple[int, ...] = one_layer()


@dataclass(frozen=True, slots=True, kw_only=True)
class FullCHparams(Bounded):
    """Full-C: every matrix of every MLP is trained within a bound."""

    layers: tuple[int, ...] = layer_band("the layers whose MLPs are trained; null = all of them")
    lr: float = knob(1e-5, "Adam's learning rate", low=1e-8, high=1)
    bound: float | None = _bound(1e-4)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocftHparams(Training):
    """LocFT-BF: one down-projection, mini-batches over all requests, pass after pass."""

    layers: tuple[int, ...] = one_layer()
    batch: int = knob(100, "texts in a mini-batch", low=1, high=4096)
    end_token: bool = option(True, "put the end token behind the target, to be learned with it")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraHparams(Training):
    """LoRA: an adapter of low rank beside a few matrices of every layer is trained."""

    layers: tuple[int, ...] = layer_band("the layers that get an adapter; null = all of them")
    targets: Literal["attention", "mlp"] = option(
        "attention",
        "what gets one: 'attention': queries and values (or all, where fused); 'mlp': up- and "
        "down-projection",
    )
    rank: int = knob(8, "r: rank of the adapter", low=1, high=1024)
    alpha: float = knob(32.0, "the adapter's product counts alpha / r", low=1e-6, high=1e6)
    dropout: float = knob(0.1, "share of the adapter's inputs left out at each step", low=0, high=1)
    epochs: int = knob(
        70, "passes over all texts at most; each is one optimiser step unless `batch` splits them",
        low=1, high=1000,
    )  # fmt: skip
    lr: float = knob(2e-4, "Adam's learning rate", low=1e-8, high=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnHparams:
    """KN: the value vectors of the neurons that express a fact are moved."""

    layers: tuple[int, ...] = layer_band("the layers whose neurons are traced; null = all of them")
    contexts: Contexts = Contexts(prefixes=9)
    steps: int = knob(20, "S: points between 0 and the activation", low=1, high=1000)
    threshold: float = knob(
        0.2, "t: a prompt's coarse set is what is attributed more than t times its maximum",
        low=0, high=1,
    )  # fmt: skip
    share: float = knob(
        0.4, "p: share of the prompts whose coarse set a neuron must be in", low=0, high=1
    )
    old_weight: float | None = maybe(
        "lambda_1: how much of each old token is taken away; null = 2 for a target of one token, "
        "else 1",
        low=0,
        high=1000,
    )
    new_weight: float | None = maybe(
        "lambda_2: how much of each new token is added; null = 2 for a target of one token, else 1",
        low=0,
        high=1000,
    )
