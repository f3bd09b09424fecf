"""What post-processors share: MEMIT's change is altered before it is added, and may be made up for.

A method that alters each change D to D' = post(D) leaves an error behind, and over many edits the
errors add up. With (OTE-SE, arXiv:2605.26670)

    A_t = lambda C + sum over live edits up to t of K KT
    D   = (R KT - E) A_t^-1,   D' = post(D),   E <- (D' - D) A_t

the next edit writes what the last one lost: W - E A_t^-1 is the solution of one joint batch. E is
never stored. It is a fold over the live edits: an edit of ours adds D' A_before - (V - W K) KT, V
what it was asked to answer at K and W K what it answers. Where one of them is left out of the
lineage the fold is made anew of the rest, whose targets count as moved by what is gone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.delta import Dense
from editing.history import Entry, History
from editing.hparams import MemitHparams

from .band import Solve, Solved, everyday, remembering, second_moment_weight
from .site import Spot

if TYPE_CHECKING:
    from editing.model.view import ModelView

# weight, what earlier edits of ours added [d_v, d_k], D [d_v, d_k] -> D'
Post = Callable[[str, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class _Memory:
    """A [d_k, d_k]; E [d_v, d_k]; added [d_v, d_k], the changes of ours so far. float64."""

    A: Tensor
    E: Tensor
    added: Tensor


def compensated(
    view: "ModelView", hparams: MemitHparams, history: History, mark: str, post: Post
) -> Solve:
    """MEMIT's write with history, altered by `post`, making up for what it altered before.

    mark: the note by which an outcome of this method is known.
    """
    made_by = own(mark, hparams)
    metric_of = remembering(view, history, everyday(view, hparams), made_by)

    def solve(spot: Spot, K: Tensor, R: Tensor) -> Solved:
        kind, layer = spot
        name = view.written_at(layer, kind)
        C = view.stats.second_moment(layer, hparams.statistics, kind)
        E = torch.zeros(R.shape[0], K.shape[0], dtype=C.dtype, device=C.device)
        start = _Memory(second_moment_weight(view, hparams, spot) * C, E, E)
        memory = history.folded(name, (mark, made_by), start, _folding(name, made_by))
        metric = metric_of(spot)
        inverse = metric.with_keys(K).inverse
        D = (R @ K.mT - memory.E) @ inverse
        change = Dense(post(name, memory.added, D).float())
        return Solved(change, float(metric.leverage(K).median()))

    return solve


def own(mark: str, hparams: MemitHparams) -> object:
    """What names the solution that the edits of one method write into."""
    return mark, hparams.second_moment_weight, hparams.statistics


def _folding(name: str, made_by: object) -> Callable[[_Memory, Sequence[Entry]], _Memory]:
    def fold(memory: _Memory, entries: Sequence[Entry]) -> _Memory:
        A, E, added = memory.A, memory.E, memory.added
        for entry in entries:
            outcome = entry.load()
            pair = outcome.written.get(name)
            if pair is None or not outcome.is_part_of(made_by):
                continue
            K, D = pair.keys.to(A), outcome.changes[name].matrix().to(A)
            E = E + D @ A - pair.missing.to(A) @ K.mT
            added = added + D
            A = A + K @ K.mT
        return _Memory(A, E, added)

    return fold
