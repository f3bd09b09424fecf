"""PRUNE - the singular values of all changes together are held near those of the weight.

Ma, Wang, Xu, Ling, Gu. "Perturbation-Restrained Sequential Model Editing", arXiv:2405.16821.

    S = sum of all changes = U diag(s) VT
    s_i -> log(s_i) - log(s_max) + s_max  where s_i > s_max, the largest singular value of W_0

over MEMIT's changes. As published the restraint is laid on the sum of the changes as MEMIT made
them, each time anew. With `compensate` each edit takes the restrained sum as it stands, and writes
what the restraint took before (processed.py).
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.delta import Dense
from editing.history import Entry, History
from editing.hparams import PruneHparams
from editing.model.state import State
from editing.outcome import Outcome
from editing.solve import Metric, write
from editing.step import Step

from .band import Solved, everyday, softly, spread
from .processed import compensated, own
from .site import Spot
from .solution import signed

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

_MARK = "prune"


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: PruneHparams, history: History
) -> Generator[Step, None, Outcome]:
    """Write a batch of facts. Raises SearchDiverged or SingularSystem."""
    cut: dict[str, int] = {}

    def restrain(name: str, total: Tensor) -> Tensor:
        found, cut[name] = restrained(total, _largest(view, name), hparams.log_base)
        return found

    def post(name: str, added: Tensor, D: Tensor) -> Tensor:
        return restrain(name, added + D) - added

    metric_of = everyday(view, hparams)
    plain = softly(metric_of)

    def published(spot: Spot, K: Tensor, R: Tensor) -> Solved:
        solved = plain(spot, K, R)
        name = view.written_at(spot[1], spot[0])
        D = solved.change.matrix().double()
        start = _Sums(torch.zeros_like(D), torch.zeros_like(D))
        made = own(_MARK, hparams)
        fold = _folding(name, metric_of(spot), made)
        sums = history.folded(name, ("raw", made), start, fold)
        total = restrain(name, sums.raw + D)
        return Solved(Dense((total - sums.added).float()), solved.leverage)

    solve = published
    if hparams.compensate:
        solve = compensated(view, hparams, history, _MARK, post)
    outcome = yield from spread(view, requests, hparams, solve)
    about = {"restrained": cut, "compensated": hparams.compensate}
    notes = {**outcome.notes, _MARK: about}
    return signed(Outcome(outcome.deltas, outcome.written, notes), own(_MARK, hparams))


def restrained(total: Tensor, limit: float, base: float) -> tuple[Tensor, int]:
    """A sum of changes [d_v, d_k] with its large singular values held down, and how many were."""
    if float(total.norm()) <= limit:  # no singular value is larger than the norm
        return total, 0
    U, s, Vh = torch.linalg.svd(total, full_matrices=False)
    held = (s.log() - math.log(limit)) / math.log(base) + limit
    count = int((s > limit).sum())
    if not count:
        return total, 0
    return U @ (torch.where(s > limit, held, s)[:, None] * Vh), count


def _largest(view: "ModelView", name: str) -> float:
    """The largest singular value of a weight of the untouched model, computed once."""
    what = f"spectral norm {name}"
    if what not in view.remembered:
        W = view.master(name, State()).double()
        view.remembered[what] = torch.linalg.matrix_norm(W, ord=2)
    return float(view.remembered[what])


@dataclass(frozen=True, slots=True)
class _Sums:
    """Of earlier edits of ours, float64 [d_v, d_k]: MEMIT's changes, and what was added of them."""

    raw: Tensor
    added: Tensor


def _folding(name: str, metric: Metric, made: object):  # noqa: ANN202 - a fold
    def fold(sums: _Sums, entries: Sequence[Entry]) -> _Sums:
        raw, added = sums.raw, sums.added
        for entry in entries:
            outcome = entry.load()
            pair = outcome.written.get(name)
            if pair is None or not outcome.is_part_of(made):
                continue
            K, D = pair.keys.to(raw), outcome.changes[name].matrix().to(raw)
            R = pair.missing.to(raw) + D @ K
            raw = raw + write(K, R, metric, rho=1.0).matrix()
            added = added + D
        return _Sums(raw, added)

    return fold
