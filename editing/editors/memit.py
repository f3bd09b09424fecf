"""MEMIT - many facts at once, spread over a few neighbouring MLPs.

Meng, Sharma, Andonian, Belinkov, Bau. "Mass-Editing Memory in a Transformer", arXiv:2210.07229.

The walk over the band is band.py's; MEMIT's metric is A = lambda C, so that

    D_l = R KT (lambda C_l + K KT)^-1

Holds no memory of earlier edits: use it for one joint batch, or memit-history for one edit after
another.
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from editing.history import History
from editing.hparams import MemitHparams
from editing.outcome import Outcome
from editing.step import Step

from .band import everyday, softly, spread

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: MemitHparams, _: History
) -> Generator[Step, None, Outcome]:
    """Write a batch of facts. Raises SearchDiverged or SingularSystem."""
    return (yield from spread(view, requests, hparams, softly(everyday(view, hparams))))
