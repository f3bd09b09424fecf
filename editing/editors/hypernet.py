"""The network g of MEND: it turns the terms of a gradient into the terms of a change.

Mitchell, Lin, Bosselut, Finn, Manning. "Fast Model Editing at Scale", arXiv:2110.11309, 3.1-3.2.

    [u, delta]  ->  x = [norm(u), norm(delta)]                 mean and deviation seen in training
    h           =   x + relu(s_1 (A_1 B_1 x + b_1) + o_1)
    [u~, delta~] =  h + relu(s_2 (A_2 B_2 h + b_2) + o_2)
    W           <-  W + alpha_W sum over tokens of  delta~ u~T

Matrices of one shape share A, B, b and the norm; each has its own s, o and alpha. A is zero at the
start, so that g is the identity, and the change a step along the (normalised) gradient. `delta`
points downhill here, so that alpha > 0 descends; the published code leaves the sign to be learned.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from .token_gradients import TokenGradient

# A direction that never varied in training would be divided by nothing at all when it does.
_FLOOR = 1e-3  # of the mean deviation
# The short side of GPT-2 XL's matrices, the smallest model with a published rank.
_PUBLISHED = 1600


class Running(nn.Module):
    """Mean and deviation of all rows seen so far, for each dimension (Welford, a batch at once)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.count: Tensor
        self.mean: Tensor
        self.squares: Tensor
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(size, dtype=torch.float64))

    def see(self, rows: Tensor) -> None:
        """Count rows [t, size]."""
        if not len(rows):
            return
        exact = rows.double()
        mean = exact.mean(0)
        apart = mean - self.mean
        whole = self.count + len(rows)
        self.squares += (exact - mean).square().sum(0)
        self.squares += apart.square() * (self.count * len(rows) / whole)
        self.mean += apart * (len(rows) / whole)
        self.count += len(rows)

    @property
    def deviation(self) -> Tensor:
        """Standard deviation of each dimension; one for all before there are two rows."""
        if self.count < 2:  # noqa: PLR2004 - of one row there is none
            return torch.ones_like(self.mean)
        found = (self.squares / (self.count - 1)).sqrt()
        return found + _FLOOR * found.mean()

    def forward(self, rows: Tensor) -> Tensor:
        """Rows with mean 0 and deviation 1."""
        return ((rows.double() - self.mean) / self.deviation).float()


class LowRankResidual(nn.Module):
    """x + relu(s (A B x + b) + o), the identity at the start."""

    def __init__(self, width: int, rank: int, matrices: int, chance: torch.Generator) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.zeros(width, rank))
        self.B = nn.Parameter(torch.randn(rank, width, generator=chance))
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(matrices, width))
        self.shift = nn.Parameter(torch.zeros(matrices, width))

    def forward(self, x: Tensor, number: int) -> Tensor:
        """Rows [t, width] of matrix `number`."""
        inner = (x @ self.B.mT) @ self.A.mT + self.bias
        inner = inner * self.scale[number] + self.shift[number]
        # clamp and not relu: at the start everything is 0, and relu's gradient there is none.
        return x + inner.clamp(min=0)


class Transform(nn.Module):
    """g for all matrices of one shape [d_out, d_in]."""

    def __init__(
        self, shape: tuple[int, int], rank: int, matrices: int, chance: torch.Generator
    ) -> None:
        super().__init__()
        d_out, d_in = shape
        self.d_in = d_in
        self.u = Running(d_in)
        self.delta = Running(d_out)
        limit = max(1, min(shape) // 2) if min(shape) < _PUBLISHED else rank
        self.layers = nn.ModuleList(
            LowRankResidual(d_in + d_out, min(rank, limit), matrices, chance) for _ in range(2)
        )

    def forward(self, tokens: TokenGradient, number: int) -> tuple[Tensor, Tensor]:
        """u~ [t, d_in] and delta~ [t, d_out]."""
        x = torch.cat([self.u(tokens.u), self.delta(tokens.delta)], dim=1)
        for layer in self.layers:
            x = layer(x, number)
        return x[:, : self.d_in], x[:, self.d_in :]


class Hypernet(nn.Module):
    """g for every edited matrix of a model, with their step sizes."""

    def __init__(
        self, shapes: Mapping[str, tuple[int, int]], *, rank: int, alpha: float, seed: int
    ) -> None:
        super().__init__()
        chance = torch.Generator().manual_seed(seed)
        self.names = tuple(shapes)
        sharing: dict[tuple[int, int], list[str]] = {}
        for name, shape in shapes.items():
            sharing.setdefault(shape, []).append(name)
        self.transforms = nn.ModuleList(
            Transform(shape, rank, len(names), chance) for shape, names in sharing.items()
        )
        self._place = {
            name: (kind, number)
            for kind, names in enumerate(sharing.values())
            for number, name in enumerate(names)
        }
        self.alpha = nn.Parameter(torch.full((len(self.names),), alpha))

    def see(self, gradients: Mapping[str, TokenGradient]) -> None:
        """Let the norms count these tokens; in training only."""
        for name, tokens in gradients.items():
            transform = cast("Transform", self.transforms[self._place[name][0]])
            transform.u.see(tokens.u)
            transform.delta.see(tokens.delta)

    def forward(self, gradients: Mapping[str, TokenGradient]) -> dict[str, tuple[Tensor, Tensor]]:
        """The change of each matrix as left [d_out, t] and right [t, d_in]."""
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for at, name in enumerate(self.names):
            kind, number = self._place[name]
            u, delta = self.transforms[kind](gradients[name], number)
            found[name] = (self.alpha[at] * delta.mT, u)
        return found
