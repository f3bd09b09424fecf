"""EMMET - many facts at one layer, written (nearly) as equalities.

Gupta, Sajnani, Anumanchipalli. "A Unified Framework for Model Editing", arXiv:2403.14236.

    D = R (rho I + KT A^-1 K)^-1 KT A^-1,   A = lambda C

With rho = 0 every key answers exactly what it was asked to, which is ROME for a batch; MEMIT is the
same with rho = 1. The published code damps the n x n system by a tenth.
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from editing.history import History
from editing.hparams import EmmetHparams
from editing.outcome import Outcome
from editing.step import Step

from .band import everyday, softly, spread

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: EmmetHparams, _: History
) -> Generator[Step, None, Outcome]:
    """Write a batch of facts. Raises SearchDiverged or SingularSystem."""
    solve = softly(everyday(view, hparams), hparams.damping)
    return (yield from spread(view, requests, hparams, solve))
