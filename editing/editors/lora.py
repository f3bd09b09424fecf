"""LoRA - a low-rank adapter beside a few matrices is trained, then told as their change.

Hu et al. "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685:

    h = W x + (alpha / r) B A x        A [r, d_in] random,  B [d_out, r] = 0

with dropout on x while training. A begins as in the LoRA authors' own code (Kaiming-uniform): the
paper's Gaussian has no deviation named, and one that goes by r alone is far too large. The layers
are the peft library's, in float32 whatever the model serves in. They stand in the model's places
only for the length of a pass; at every yield the model's own modules do. Each edit trains an
adapter of its own, and its product is the delta. The loop is training.py's.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from editing.delta import Delta, LowRank
from editing.history import History
from editing.hparams import LoraHparams
from editing.outcome import Outcome
from editing.step import Step

from .training import trained

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

_NAME = "edit"  # of the adapter inside peft's layers


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: LoraHparams, _: History
) -> Generator[Step, None, Outcome]:
    """Train a batch of facts into adapters. Raises LossDiverged or TargetNotReached."""
    adapter = Adapter(view, hparams)
    return (yield from trained(view, requests, hparams, adapter, first=hparams.layers[0]))


class Adapter:
    """peft's layers around some of the model's modules, outside the model until they are used."""

    def __init__(self, view: "ModelView", hparams: LoraHparams) -> None:
        self.view = view
        self.steps = 0
        names = [name for layer in hparams.layers for name in _targets(view, hparams, layer)]
        with self._draws():
            self._layers = {name: _layer(view.module(name), hparams) for name in names}

    @property
    def leaves(self) -> list[Tensor]:
        """A and B of every layer."""
        return [factor for one in self._layers.values() for factor in (_down(one), _up(one))]

    @contextmanager
    def used(self) -> Generator[None]:
        """Passes inside this go through the adapter, dropout included."""
        try:
            for name, layer in self._layers.items():
                self._place(name, layer)
            with self._draws():
                yield
        finally:
            for name, layer in self._layers.items():
                self._place(name, layer.base_layer)

    def _place(self, weight: str, module: nn.Module) -> None:
        parent, _, attribute = weight.removesuffix(".weight").rpartition(".")
        # Not by setattr: the modules keep their order, and nothing is registered anew.
        self.view.model.get_submodule(parent)._modules[attribute] = module  # noqa: SLF001

    def settle(self) -> None:
        """Let the next step draw other inputs to leave out."""
        self.steps += 1

    def deltas(self) -> dict[str, Delta]:
        """(alpha / r) B A of every layer whose B moved."""
        return {
            name: LowRank.of(_up(one).detach() * one.scaling[_NAME], _down(one).detach())
            for name, one in self._layers.items()
            if bool(_up(one).any())
        }

    @contextmanager
    def _draws(self) -> Generator[None]:
        """Random numbers of this step alone; everybody else's go on as if there had been none."""
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(self.steps)
            yield


def _targets(view: "ModelView", hparams: LoraHparams, layer: int) -> list[str]:
    if hparams.targets == "attention":
        return view.attention_in(layer)
    return [view.up_proj(layer), view.down_proj(layer)]


def _layer(module: nn.Module, hparams: LoraHparams) -> Linear:
    """peft's layer around a module; the module itself is left as it is."""
    stored_transposed = isinstance(module, Conv1D)
    config = LoraConfig(
        r=hparams.rank,
        lora_alpha=hparams.alpha,  # pyright: ignore[reportArgumentType] - a quotient's numerator
        lora_dropout=hparams.dropout,
        init_lora_weights=True,
        fan_in_fan_out=stored_transposed,
    )
    layer = Linear(
        module,
        _NAME,
        config,
        r=hparams.rank,
        lora_alpha=hparams.alpha,  # pyright: ignore[reportArgumentType]
        is_target_conv_1d_layer=stored_transposed,
    )
    layer.lora_A.float()  # peft follows the module's format
    layer.lora_B.float()
    return layer


def _down(layer: Linear) -> Tensor:
    return layer.lora_A[_NAME].weight  # pyright: ignore[reportReturnType]


def _up(layer: Linear) -> Tensor:
    return layer.lora_B[_NAME].weight  # pyright: ignore[reportReturnType]
