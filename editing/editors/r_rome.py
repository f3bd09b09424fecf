"""R-ROME - ROME with one and the same key in every place of the formula.

Gupta, Baskaran, Anumanchipalli. "Rebuilding ROME: Resolving Model Collapse during Sequential Model
Editing", arXiv:2403.07175.

    D = (v* - W k) (C^-1 k)T / (kT C^-1 k),   k the mean over contexts, also in v* - W k

Mixing the mean key with the bare prompt's key, as the published code of ROME does, gives now and
then a huge change that disables the model. Departure: the bare prompt counts `bare_weight` of the
mean instead of 1/c, so that a short subject at the start of a text is not missed (see rome.py).
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from editing.delta import LowRank
from editing.history import History
from editing.hparams import RRomeHparams
from editing.outcome import Outcome
from editing.solve import write
from editing.step import Step

from .one_fact import Learned, mean_key, write_one

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: RRomeHparams, _: History
) -> Generator[Step, None, Outcome]:
    """Write one fact. Raises SearchDiverged or SingularSystem."""

    def change_of(fact: Learned) -> LowRank:
        k = mean_key(fact.keys, hparams.bare_weight)  # [d_k, 1]
        return write(k, fact.delta[:, None], fact.metric, rho=0.0)

    return (yield from write_one(view, requests, hparams, change_of))
