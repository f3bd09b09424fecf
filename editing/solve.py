"""The closed form behind every locate-then-edit method, as pure functions of tensors (EDITORS 0.1).

One notation for the whole package; columns are keys.

    W  [d_v, d_k]  down-projection of one MLP, read as a linear memory: W k = v
    K  [d_k, n]    keys being written
    R  [d_v, n]    what is still missing at those keys, R = V - W K
    C  [d_k, d_k]  second moment of the keys in everyday use, E[k kT] (not centred)
    A  [d_k, d_k]  the metric in which a change is small: lambda C + sum of earlier keys k kT

    D = R (rho I + KT A^-1 K)^-1 KT A^-1

With rho = 0 and one key it is ROME; with rho = 1 and A = lambda C it is MEMIT, written with an
n x n system instead of d_k x d_k. Each update is returned factored; nobody here builds a matrix of
the weight's size. Everything is float64: C is badly conditioned.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .delta import Change, LowRank
from .errors import SingularSystem

_JITTER = 1e-10  # of the mean diagonal, grown tenfold at each failure
_ATTEMPTS = 6
_RAREST = 1e4  # leverage of a key, above which it cannot be taken out without losing digits
_AT_ONCE = 512  # keys folded into a metric by one system


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A metric A, held as its inverse [d_k, d_k], float64."""

    inverse: Tensor

    @classmethod
    def of(cls, A: Tensor) -> "Metric":
        """Factor A once. Raises SingularSystem."""
        # Contiguous: LAPACK answers column by column, and a product of that with a few keys is 25
        # times slower.
        return cls(torch.cholesky_inverse(_cholesky(A.double())).contiguous())

    def scaled(self, weight: float) -> "Metric":
        """The metric weight * A."""
        return Metric(self.inverse / weight)

    def with_keys(self, K: Tensor) -> "Metric":
        """The metric A + K KT, by Woodbury's identity: d_k^2 n instead of d_k^3."""
        inverse = self.inverse
        for part in K.to(inverse).split(_AT_ONCE, dim=1):  # keeps the m x m system small
            F = inverse @ part  # [d_k, m]
            S = torch.eye(part.shape[1], dtype=F.dtype, device=F.device) + part.mT @ F
            half = torch.linalg.solve_triangular(_cholesky(S), F.mT, upper=False)  # [m, d_k]
            inverse = inverse - half.mT @ half
        return Metric(inverse)

    def without_keys(self, K: Tensor) -> "Metric":
        """The metric A - K KT of keys that are part of A. Raises SingularSystem where they are not.

        The rarer a key is without the others, the more digits this loses: a key of leverage g under
        A - K KT costs about log10(1 + g) of them (RLSEdit, arXiv:2601.15686).
        """
        if not K.shape[1]:
            return self
        K = K.to(self.inverse)
        F = self.inverse @ K  # [d_k, n]
        half = torch.linalg.solve_triangular(_cholesky(_rest(K, F)), F.mT, upper=False)
        return Metric(self.inverse + half.mT @ half)

    def leverage(self, K: Tensor) -> Tensor:
        """kT A^-1 k of each key [n]: how rare it is in everyday use."""
        K = K.to(self.inverse)
        return (K * (self.inverse @ K)).sum(0)


def write(K: Tensor, R: Tensor, metric: Metric, rho: float) -> LowRank:
    """The change of least size under the metric that moves W K by (nearly) R.

    rho = 0 writes R exactly and needs independent keys; rho > 0 leaves the more unwritten, the
    commoner a key is. Raises SingularSystem.
    """
    K, R = K.to(metric.inverse), R.to(metric.inverse)
    F = metric.inverse @ K  # [d_k, n]
    S = rho * torch.eye(K.shape[1], dtype=K.dtype, device=K.device) + K.mT @ F
    return LowRank.of(R, torch.cholesky_solve(F.mT.contiguous(), _cholesky(S)))


def write_evenly(K: Tensor, R: Tensor, ridge: float) -> LowRank:
    """The write under the metric ridge * I with rho = 1, without a matrix of the keys' size."""
    K, R = K.double(), R.double()
    S = ridge * torch.eye(K.shape[1], dtype=K.dtype, device=K.device) + K.mT @ K
    return LowRank.of(R, torch.cholesky_solve(K.mT.contiguous(), _cholesky(S)))


def take_out(K: Tensor, R: Tensor, metric: Metric) -> LowRank:
    """The change that undoes a write at keys K which are part of the metric (rho = 1).

    R [d_v, n] is what is missing there now, V - W K. What is left is the solution of one joint
    batch without these keys:  D = -R KT (A - K KT)^-1  (RLSEdit, arXiv:2601.15686). Raises
    SingularSystem.
    """
    K, R = K.to(metric.inverse), R.to(metric.inverse)
    F = metric.inverse @ K  # [d_k, n]
    return LowRank.of(-R, torch.cholesky_solve(F.mT.contiguous(), _cholesky(_rest(K, F))))


def _rest(K: Tensor, F: Tensor) -> Tensor:
    """I - KT A^-1 K, which is (I + KT (A - K KT)^-1 K)^-1. Raises SingularSystem near zero."""
    S = torch.eye(K.shape[1], dtype=K.dtype, device=K.device) - K.mT @ F
    lowest = float(torch.linalg.eigvalsh((S + S.mT) / 2)[0])
    if not lowest > 1 / _RAREST:
        raise SingularSystem(size=K.shape[1], jitter=0.0)
    return S


def size_under(delta: Change, C: Tensor) -> float:
    """|D C^1/2|, the root of tr(D C DT): how far everyday values move, by what C was taken from."""
    if isinstance(delta, LowRank):
        left, right = delta.left.to(C), delta.right.to(C)
        square = ((left.mT @ left) * (right @ C @ right.mT)).sum()
    else:
        D = delta.matrix().to(C)
        square = ((D @ C) * D).sum()
    return float(square.clamp(min=0).sqrt())


def _cholesky(A: Tensor) -> Tensor:
    """Lower Cholesky factor of a symmetric positive definite matrix. Raises SingularSystem."""
    A = (A + A.mT) / 2
    mean = float(A.diagonal().mean())
    jitter = 0.0
    for attempt in range(_ATTEMPTS):
        damped = A + jitter * torch.eye(A.shape[0], dtype=A.dtype, device=A.device)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not int(failed) and bool(factor.isfinite().all()):
            return factor
        jitter = _JITTER * mean * 10**attempt
    raise SingularSystem(size=A.shape[0], jitter=jitter)
