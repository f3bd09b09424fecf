"""What a memory beside a weight adds to its answers, at every position of every pass.

    i* = argmax_i cos(k, k_i)          out(k) = W k + value_i*   where cos(k, k_i*) > gate_i*

A position that no entry claims keeps its bits: nothing is added there, not even zero. Which entry
claims a position is a choice, and no gradient flows through it; through what it adds to, all do.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from editing.delta import Memory

# Cosines held at a time: all positions of a batch with all entries of a large memory are too many.
_COSINES = 1 << 26


def recalled(memory: "Memory", keys: Tensor, out: Tensor) -> Tensor:
    """The answers [..., d_out] of a weight at keys [..., d_in], with what the memory adds."""
    claimed, entry = claims(memory, keys.detach())
    added = memory.values[entry].to(out.dtype)
    return torch.where(claimed[..., None], out + added, out)


@torch.no_grad()
def claims(memory: "Memory", keys: Tensor) -> tuple[Tensor, Tensor]:
    """Whether an entry claims each of the keys [..., d_in], and which is the nearest."""
    flat = keys.flatten(0, -2)
    rows = max(1, _COSINES // max(1, len(memory)))
    found = [_nearest(memory, part) for part in flat.split(rows)]
    claimed, entry = (torch.cat(parts) for parts in zip(*found, strict=True))
    return claimed.view(keys.shape[:-1]), entry.view(keys.shape[:-1])


def _nearest(memory: "Memory", keys: Tensor) -> tuple[Tensor, Tensor]:
    unit = nn.functional.normalize(keys.float(), dim=-1)
    cosine, entry = (unit @ memory.keys.mT).max(-1)
    return cosine > memory.gates[entry], entry  # a key that is not finite claims nothing


def recalling(memory: "Memory"):  # noqa: ANN201 - a hook
    """The memory as a forward hook of the module that owns the weight."""

    def hook(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return recalled(memory, args[0], out)

    return hook
