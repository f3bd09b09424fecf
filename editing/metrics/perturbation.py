"""How edits of one subject disturb each other: scores, and what two changes have in common.

S2RKE (Duan et al. 2025, arXiv:2502.06868), section 5. Two changes of one weight:

    Jaccard    |T1 n T2| / |T1 u T2|, T the largest 1 % of a change's entries by magnitude (and .1 %
               and 5 %): a change of rank one touches every entry, so without a bound it is 1
    cosine     <D1, D2> / (|D1| |D2|), of the matrices as vectors
    overlap    |Q1T Q2|^2 / min(r1, r2), Q bases of the spaces that factored changes write into
"""

import torch
from torch import Tensor

from editing.delta import Change, LowRank

SHARES = (0.001, 0.01, 0.05)
_NOTHING = 1e-6  # relative: a direction that is less than this is none


def jaccard(one: Tensor, other: Tensor, share: float) -> float | None:
    """Of the largest entries of two matrices; None where neither has any.

    Entries that are zero are not touched, however few there are. Two sets drawn by chance have
    share / (2 - share) in common.
    """
    first, second = (_largest(part, share) for part in (one, other))
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else None


def _largest(matrix: Tensor, share: float) -> Tensor:
    """Which entries [all] are the largest share, as booleans."""
    sizes = matrix.abs().flatten()
    count = min(max(1, round(share * len(sizes))), int((sizes > 0).sum()))
    found = torch.zeros(len(sizes), dtype=torch.bool, device=sizes.device)
    found[sizes.topk(count).indices] = True
    return found


def cosine(one: Tensor, other: Tensor) -> float | None:
    """Frobenius cosine of two matrices; None where one is zero."""
    left, right = one.double().flatten(), other.double().flatten()
    size = float(left.norm() * right.norm())
    return float(left @ right) / size if size else None


def overlap(one: Change, other: Change) -> float | None:
    """Of the column spaces of two factored changes, from 0 to 1; None for others."""
    if not (isinstance(one, LowRank) and isinstance(other, LowRank)):
        return None
    bases = [_basis(part.left.double()) for part in (one, other)]
    ranks = min(basis.shape[1] for basis in bases)
    return float((bases[0].mT @ bases[1]).square().sum()) / ranks if ranks else None


def _basis(columns: Tensor) -> Tensor:
    """An orthonormal basis [d, r] of the columns' span."""
    left, sizes, _ = torch.linalg.svd(columns, full_matrices=False)
    return left[:, sizes > _NOTHING * sizes.max()] if len(sizes) else left


def compared(one: Change, other: Change) -> dict[str, float | None]:
    """What two changes of one weight have in common."""
    left, right = one.matrix(), other.matrix()
    found: dict[str, float | None] = {
        f"jaccard_{share:g}": jaccard(left, right, share) for share in SHARES
    }
    return {**found, "cosine": cosine(left, right), "overlap": overlap(one, other)}
