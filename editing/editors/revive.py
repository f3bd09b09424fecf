"""REVIVE: changes leave a weight's dominant directions alone; what that cuts off is made up for.

"Revive", ACL 2026 (EDITORS 3.2): many edits in a row move a weight's largest singular directions,
and the model collapses with them. With U_k, V_k those of the untouched weight that hold a share of
its energy,

    D' = (I - U_k U_kT) D (I - V_k V_kT)

What is cut off would be missing from the joint solution for good, so it is written by the next edit
as far as the filter lets it (OTE-SE, arXiv:2605.26670): with S the sum of the changes so far, A the
metric and T_i what the live keys K_i were asked to add to what the untouched weight answers there,

    E = S A - sum over live i of T_i K_iT        D = (R KT - E) A_t^-1

Departure: what makes up for E has no low rank, and a delta must not be as large as the weight; so
only its largest directions are kept, and the rest of it stays in E.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.delta import LowRank
from editing.history import Entry, History
from editing.hparams import LedgerHparams
from editing.model.state import State
from editing.outcome import Written
from editing.solve import Metric, write

from .band import Solve, Solved, second_moment_weight
from .site import Spot
from .solution import changed, wanted_of

if TYPE_CHECKING:
    from editing.model.view import ModelView

_MADE_UP = 16  # directions of what was cut off that one edit makes up for
_ROUNDS = 4  # of subspace iteration


@dataclass(frozen=True, slots=True)
class _Memory:
    """Of the live edits, float64: P = sum of K KT [d_k, d_k]; Q = sum of T KT [d_v, d_k]."""

    P: Tensor
    Q: Tensor


def revived(
    view: "ModelView",
    hparams: LedgerHparams,
    history: History,
    metric_of: Callable[[Spot], Metric],
    made_by: object,
) -> Solve:
    """The write under a metric that holds the live keys of one solution, filtered."""

    def solve(spot: Spot, K: Tensor, R: Tensor) -> Solved:
        kind, layer = spot
        name = view.written_at(layer, kind)
        metric = metric_of(spot)
        C = view.stats.second_moment(layer, hparams.statistics, kind)
        zero = torch.zeros(R.shape[0], K.shape[0], dtype=C.dtype, device=C.device)
        memory = _memory(history, name, made_by, _Memory(torch.zeros_like(C), zero))
        A = second_moment_weight(view, hparams, spot) * C + memory.P
        S = changed(history, name, made_by)
        E = (zero if S is None else S.to(zero)) @ A - memory.Q
        plain = write(K, R, metric, rho=1.0)
        D = plain.matrix().double() - E @ metric.with_keys(K).inverse
        U, V = _dominant(view, name, hparams.filtered_energy)
        D = D - U @ (U.mT @ D)
        D = D - (D @ V) @ V.mT
        change = _largest(D, K.shape[1] + _MADE_UP)
        return Solved(change, float(metric.leverage(K).median()))

    return solve


def _memory(history: History, name: str, made_by: object, start: _Memory) -> _Memory:
    """What the edits of one solution have left of themselves in a weight."""

    def fold(memory: _Memory, entries: Sequence[Entry]) -> _Memory:
        P, Q = memory.P, memory.Q

        def moments(edit: str, pair: Written) -> tuple[Tensor, Tensor]:
            K, T = pair.keys.to(P), wanted_of(history, edit, name, pair, made_by)
            return K @ K.mT, T.to(P) @ K.mT

        for entry in entries:
            outcome = entry.load()
            if not outcome.is_part_of(made_by):
                continue
            for made, pair in history.taken_out(entry, name):
                KK, TK = moments(made.id, pair)
                P, Q = P - KK, Q - TK
            if (pair := outcome.written.get(name)) is not None:
                KK, TK = moments(entry.id, pair)
                P, Q = P + KK, Q + TK
        return _Memory(P, Q)

    return history.folded(name, ("revive", made_by), start, fold)


def _dominant(view: "ModelView", name: str, energy: float) -> tuple[Tensor, Tensor]:
    """U_k [d_v, k] and V_k [d_k, k] of the untouched weight, made once for a model."""
    what = f"dominant directions {name}"
    if f"{what} s" not in view.remembered:
        U, s, Vh = torch.linalg.svd(view.master(name, State()).double(), full_matrices=False)
        view.remembered |= {f"{what} U": U, f"{what} s": s, f"{what} V": Vh.mT}
    U, s, V = (view.remembered[f"{what} {part}"] for part in "UsV")
    shares = (s**2).cumsum(0) / (s**2).sum()
    count = int((shares <= energy).sum())  # at most the share that was named
    return U[:, :count], V[:, :count]


def _largest(D: Tensor, rank: int) -> LowRank:
    """The largest directions of a change [d_v, d_k], by subspace iteration from its own columns."""
    if rank >= min(D.shape):
        return LowRank.of(D, torch.eye(D.shape[1], dtype=D.dtype, device=D.device))
    order = (D**2).sum(0).argsort(descending=True, stable=True)[:rank]
    basis, _ = torch.linalg.qr(D[:, order])
    for _ in range(_ROUNDS):
        basis, _ = torch.linalg.qr(D @ (D.mT @ basis))
    return LowRank.of(basis, basis.mT @ D)
