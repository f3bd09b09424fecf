"""UltraEdit's values, written so that earlier edits stay: recursive least squares.

RLSEdit, arXiv:2601.15686, with the values of UltraEdit, arXiv:2505.14679 (lifelong.py):

    A  = ridge I + sum over earlier live edits of H_p H_pT
    D  = V (I + HT A^-1 H)^-1 HT A^-1

Edits made one by one give, matrix by matrix, the solution of one joint batch for keys and targets
as they were written, and any of them can be taken out of it exactly (solution.py). The published
recursion begins with statistics of everyday keys; here it begins with the ridge of UltraEdit, which
needs none and holds for any matrix (docs/methods/ultra-rls.md).
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.delta import LowRank
from editing.history import History
from editing.hparams import UltraHparams
from editing.outcome import Outcome
from editing.solve import Metric, write
from editing.step import Step

from .band import MetricOf
from .lifelong import stepped
from .site import Spot
from .solution import signed, spot_of

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: UltraHparams, history: History
) -> Generator[Step, None, Outcome]:
    """Write a batch of facts beside the earlier ones. Raises as UltraEdit does."""
    base, made_by = metric(view, hparams)

    def solve(weight: str, H: Tensor, V: Tensor) -> LowRank:
        return write(H, V, history.metric(weight, made_by, base(spot_of(view, weight))), rho=1.0)

    return signed((yield from stepped(view, requests, hparams, history, solve)), made_by)


def metric(view: "ModelView", hparams: UltraHparams) -> tuple[MetricOf, object]:
    """A without earlier edits, and what made it: ridge I."""

    def even(spot: Spot) -> Metric:
        kind, layer = spot
        size = view.weight(view.written_at(layer, kind)).shape[1]
        return Metric(torch.eye(size, dtype=torch.float64, device=view.device) / hparams.ridge)

    return even, ("ridge", hparams.ridge)
