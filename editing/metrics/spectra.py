"""How far one weight moved from base: its size, its spectrum, and how its rows are spread.

change   |W - W0| / |W0|, Frobenius
felt     |(W - W0) C^1/2| / |W0 C^1/2|, as everyday keys feel it
overlap  |U0T U|^2 / k of the spaces of the top 5 % singular vectors: 1 is the same space, and
         collapse goes with its loss (REVIVE, arXiv:2601.11042)
energy   hyperspherical: the mean of 1 / |w_i - w_j| over pairs of rows of length one; editing
         fails where it changes much (SPHERE, arXiv:2510.01172)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

SHARE = 0.05
_SHOWN = 8  # singular values that are told


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of one weight; singular values are the largest, before and after."""

    norm: float
    base_norm: float
    change: float
    felt: float | None
    singular: list[float]
    base_singular: list[float]
    overlap_left: float
    overlap_right: float
    energy: float
    base_energy: float

    @property
    def norm_ratio(self) -> float:
        """|W| / |W0|."""
        return self.norm / self.base_norm


@torch.no_grad()
def moved(base: Tensor, now: Tensor, C: Tensor | None = None) -> Moved:
    """Compare a weight [d_out, d_in] with what it was; C [d_in, d_in]: its keys' second moment."""
    old, new = base.double(), now.double()
    top = max(1, round(SHARE * min(old.shape)))
    before, after = _Top.of(old, top), _Top.of(new, top)
    size = float(old.norm())
    return Moved(
        norm=float(new.norm()),
        base_norm=size,
        change=float((new - old).norm()) / size,
        felt=None if C is None else _under(new - old, C) / _under(old, C),
        singular=after.values[:_SHOWN].tolist(),
        base_singular=before.values[:_SHOWN].tolist(),
        overlap_left=_overlap(before.left, after.left),
        overlap_right=_overlap(before.right, after.right),
        energy=energy(new),
        base_energy=energy(old),
    )


@dataclass(frozen=True, slots=True)
class _Top:
    """The largest singular values, and their vectors left [d_out, k] and right [d_in, k]."""

    values: Tensor
    left: Tensor
    right: Tensor

    @classmethod
    def of(cls, matrix: Tensor, count: int) -> "_Top":
        """By the smaller Gram matrix: one side of a weight is a few times the other."""
        if matrix.shape[0] > matrix.shape[1]:
            turned = cls.of(matrix.mT, count)
            return cls(turned.values, turned.right, turned.left)
        squares, vectors = torch.linalg.eigh(matrix @ matrix.mT)
        values = squares.flip(0)[: max(count, _SHOWN)].clamp(min=0).sqrt()
        left = vectors.flip(1)[:, :count]
        right = torch.nn.functional.normalize(matrix.mT @ left, dim=0)
        return cls(values, left, right)


def _overlap(one: Tensor, other: Tensor) -> float:
    """Of the spaces of two orthonormal bases [d, k]."""
    return float((one.mT @ other).square().sum()) / one.shape[1]


def _under(matrix: Tensor, C: Tensor) -> float:
    """|M C^1/2|, Frobenius, without the root."""
    return float(((matrix @ C.double()) * matrix).sum().clamp(min=0).sqrt())


def energy(matrix: Tensor) -> float:
    """Mean of 1 / distance over pairs of unit rows; rows that are one and the same are left out."""
    unit = torch.nn.functional.normalize(matrix, dim=1)
    apart = torch.triu_indices(len(unit), len(unit), offset=1)
    distances = (2 - 2 * (unit @ unit.mT)[apart[0], apart[1]]).clamp(min=0).sqrt()
    distances = distances[distances > 1e-6]  # noqa: PLR2004 - less is rounding
    return float((1 / distances).mean()) if len(distances) else 0.0
