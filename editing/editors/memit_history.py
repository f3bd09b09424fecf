"""MEMIT for one edit after another: what earlier live edits wrote counts in the metric.

"OTE-SE", arXiv:2605.26670, and RLSEdit, arXiv:2601.15686: with

    A_l = lambda C_l + sum over earlier live edits of K_p K_pT

the updates made one by one give, layer by layer and for the keys as they were read, the solution of
one joint batch. The metric is kept as its inverse, folded edit by edit (history.py). Only keys
written under this metric count: what other editors wrote is no part of the solution (solution.py).
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from editing.history import History
from editing.hparams import MemitHparams
from editing.outcome import Outcome
from editing.step import Step

from .band import MetricOf, everyday, remembering, softly, spread
from .solution import signed

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: MemitHparams, history: History
) -> Generator[Step, None, Outcome]:
    """Write a batch of facts beside the earlier ones. Raises SearchDiverged or SingularSystem."""
    base, made_by = metric(view, hparams)
    solve = softly(remembering(view, history, base, made_by))
    return signed((yield from spread(view, requests, hparams, solve)), made_by)


def metric(view: "ModelView", hparams: MemitHparams) -> tuple[MetricOf, object]:
    """A without earlier edits, and what made it."""
    return everyday(view, hparams), (hparams.second_moment_weight, hparams.statistics)
