"""RECT - only the entries that change most, relative to the weight, are changed.

Gu, Xu, Ma, Lu, Ling, Chang, Peng. "Model Editing Harms General Abilities of Large Language Models:
Regularization to the Rescue", arXiv:2401.04700.

    D' = D where |D / W| is among the largest `keep` of all entries, else 0

over MEMIT's D. As published each edit is cut by itself, and what is cut is lost; with `compensate`
the next edit writes it (processed.py).
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.delta import Dense
from editing.history import History
from editing.hparams import RectHparams
from editing.outcome import Outcome
from editing.step import Step

from .band import Solved, everyday, softly, spread
from .processed import compensated, own
from .site import Spot
from .solution import signed

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

_MARK = "rect"


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: RectHparams, history: History
) -> Generator[Step, None, Outcome]:
    """Write a batch of facts. Raises SearchDiverged or SingularSystem."""

    def post(name: str, _: Tensor, D: Tensor) -> Tensor:
        return most_changed(D, view.master(name).to(D), hparams.keep)

    plain = softly(everyday(view, hparams))

    def cut(spot: Spot, K: Tensor, R: Tensor) -> Solved:
        solved = plain(spot, K, R)
        name = view.written_at(spot[1], spot[0])
        D = solved.change.matrix().double()
        return Solved(Dense(post(name, D, D).float()), solved.leverage)

    solve = compensated(view, hparams, history, _MARK, post) if hparams.compensate else cut
    outcome = yield from spread(view, requests, hparams, solve)
    notes = {**outcome.notes, _MARK: {"kept": hparams.keep, "compensated": hparams.compensate}}
    return signed(Outcome(outcome.deltas, outcome.written, notes), own(_MARK, hparams))


def most_changed(D: Tensor, W: Tensor, keep: float) -> Tensor:
    """D [d_v, d_k] with only the share `keep` of its entries, those with the largest |D / W|."""
    relative = (D / W).abs()
    relative = torch.where(D == 0, 0.0, relative)  # 0 / 0 is no change, however small the weight
    count = max(1, round(keep * D.numel()))
    least = relative.flatten().topk(count).values[-1]
    return torch.where(relative >= least, D, 0.0)
