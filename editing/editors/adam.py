"""Adam on the nodes of one weight, some of which are chosen at each step.

    masked   a node's moments and its count of steps move when it is chosen, and only then: each
             node is trained as if it were alone
    legacy   one Adam over all of them, whose gradient is zero where a node is not chosen; its
             momentum goes on moving such nodes, as in the published code of CTP

A weight outside all nodes that were ever chosen has no momentum in either, so it never moves.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_BETA_1, _BETA_2, _EPS = 0.9, 0.999, 1e-8


@dataclass(slots=True)
class NodeAdam:
    """Moments of n nodes: first and second [n, d], steps [n]."""

    first: Tensor
    second: Tensor
    steps: Tensor
    legacy: bool
    taken: int = 0  # steps of the whole, of which a node that comes later has missed some

    @classmethod
    def empty(cls, width: int, device: torch.device, *, legacy: bool) -> "NodeAdam":
        """Of no nodes yet."""
        none = torch.zeros(0, width, device=device)
        steps = torch.zeros(0, dtype=torch.float64, device=device)
        return cls(none, none.clone(), steps, legacy)

    def grow(self, count: int) -> None:
        """Take `count` nodes more."""
        new = self.first.new_zeros(count, self.first.shape[1])
        self.first = torch.cat([self.first, new])
        self.second = torch.cat([self.second, new])
        # One Adam over all has one count, with which a late node's first step is not corrected.
        start = float(self.taken) if self.legacy else 0.0
        self.steps = torch.cat([self.steps, self.steps.new_full((count,), start)])

    def step(self, values: Tensor, gradient: Tensor, chosen: Tensor, lr: float) -> None:
        """Move `values` [n, d] in place, along a gradient of which only chosen [n] nodes count."""
        self.taken += 1
        if self.legacy:
            gradient = torch.where(chosen[:, None], gradient, 0)
            chosen = torch.ones_like(chosen)
        at = chosen.nonzero()[:, 0]
        g = gradient[at]
        steps = self.steps[at] + 1
        first = _BETA_1 * self.first[at] + (1 - _BETA_1) * g
        second = _BETA_2 * self.second[at] + (1 - _BETA_2) * g.square()
        self.steps[at], self.first[at], self.second[at] = steps, first, second
        # In float64: 1 - 0.999 has four good digits in float32.
        correct_1, correct_2 = (1 - beta ** steps[:, None] for beta in (_BETA_1, _BETA_2))
        moved = lr / correct_1 * first / ((second / correct_2).sqrt() + _EPS)
        values[at] -= moved.to(values.dtype)
