"""AlphaEdit - changes that everyday keys do not feel, since they lie in the null space of C.

Fang, Jiang, Wang, Ma, Jie, Wang, He, Chua. "AlphaEdit: Null-Space Constrained Knowledge Editing for
Language Models", arXiv:2410.02355.

    P = U UT, U the eigenvectors of C with the smallest eigenvalues                 (nullspace.py)
    D = R KT P (K_p K_pT P + K KT P + lambda_2 I)^-1

which is the kernel's write under the metric with A^-1 = U (lambda_2 I + UT K_p K_pT U)^-1 UT; K_p
are the keys of earlier live edits.

Departures. The null space is the largest that holds `null_mass` of C's trace; the paper's fixed
threshold (`threshold`) depends on the model's scale. lambda_2 by the rule of scale, from what
everyday keys have in the null space. Keys enter the history as they were when the edit was solved,
the published code reads them anew after the edit.
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from editing.errors import NullSpaceTooSmall
from editing.history import History
from editing.hparams import AlphaEditHparams
from editing.outcome import Outcome
from editing.solve import Metric
from editing.stats.nullspace import null_basis
from editing.step import Step

from .band import MetricOf, remembering, softly, spread, weight_by_scale
from .site import Spot
from .solution import signed

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

_ROOM = 4  # dimensions of null space for each fact of a batch


def edit(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    hparams: AlphaEditHparams,
    history: History,
) -> Generator[Step, None, Outcome]:
    """Write a batch of facts. Raises SearchDiverged, SingularSystem or NullSpaceTooSmall."""
    metric_of, made_by = metric(view, hparams)
    ranks: dict[str, int] = {}

    def roomy(spot: Spot) -> Metric:
        kind, layer = spot
        rank = _basis(view, spot, hparams).shape[1]
        ranks[view.written_at(layer, kind)] = rank
        if rank < _ROOM * len(requests):
            raise NullSpaceTooSmall(layer=layer, rank=rank, facts=len(requests), room=_ROOM)
        return metric_of(spot)

    solve = softly(remembering(view, history, roomy, made_by))
    outcome = yield from spread(view, requests, hparams, solve)
    notes = {**outcome.notes, "null_rank": ranks}
    return signed(Outcome(outcome.deltas, outcome.written, notes), made_by)


def metric(view: "ModelView", hparams: AlphaEditHparams) -> tuple[MetricOf, object]:
    """A without earlier edits, and what made it: A^-1 = U UT / lambda_2."""

    def null_metric(spot: Spot) -> Metric:
        kind, layer = spot
        C = view.stats.second_moment(layer, hparams.statistics, kind)
        U = _basis(view, spot, hparams)
        damping = hparams.damping
        if damping is None:
            damping = weight_by_scale(float(((U.mT @ C) * U.mT).sum()))  # E[kT P k] = tr(P C)
        return Metric((U @ U.mT) / damping)

    made_by = (hparams.null_mass, hparams.threshold, hparams.damping, hparams.statistics)
    return null_metric, made_by


def _basis(view: "ModelView", spot: Spot, hparams: AlphaEditHparams) -> Tensor:
    """U of a layer; an eigendecomposition is made once for a model."""
    what = (*spot, hparams.statistics, hparams.null_mass, hparams.threshold)
    name = f"null space {what}"
    if name not in view.remembered:
        kind, layer = spot
        C = view.stats.second_moment(layer, hparams.statistics, kind)
        view.remembered[name] = null_basis(C, hparams.null_mass, hparams.threshold)
    return view.remembered[name]
