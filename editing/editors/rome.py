"""ROME - one fact, written as one rank-one change of one MLP.

Meng, Bau, Andonian, Belinkov. "Locating and Editing Factual Associations in GPT", arXiv:2202.05262.

    k*  keys of the subject's last token, in contexts                                (keys.py)
    d   what the layer must add there so that the model says o*                      (zsearch.py)
    D = (v* - W k*) (C^-1 k*)T / (k*T C^-1 k*), with v* - W k* = d                   (solve.write)

Departure (keys = "context", the default): the paper averages the key over contexts. A short
subject at the very start of a text has a key far from that average, and the bare prompt is then
missed. Here every context keeps its own key and all are asked to add the same d; the change stays
rank one, since its left factor is d. `damping` keeps nearly equal keys solvable. keys = "mean" is
the paper's form, with the bare prompt counting `bare_weight`. `legacy_keys` is the published code's
mixture: u = C^-1 k* of the mean key, but D = (v* - W k) uT / (kT u) with k the bare prompt's.
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import torch

from editing.delta import LowRank
from editing.errors import SingularSystem
from editing.history import History
from editing.hparams import RomeHparams
from editing.outcome import Outcome
from editing.solve import write
from editing.step import Step

from .one_fact import Learned, mean_key, write_one

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: RomeHparams, _: History
) -> Generator[Step, None, Outcome]:
    """Write one fact. Raises SearchDiverged or SingularSystem."""

    def change_of(fact: Learned) -> LowRank:
        if hparams.legacy_keys:
            return _legacy(fact, hparams.bare_weight)
        if hparams.keys == "mean":
            K, rho = mean_key(fact.keys, hparams.bare_weight), 0.0  # [d_k, 1]
        else:
            K = fact.keys  # [d_k, c]
            rho = hparams.damping * float(fact.metric.leverage(K).mean())
        ones = torch.ones(1, K.shape[1], dtype=K.dtype, device=K.device)
        direction = write(K, ones, fact.metric, rho)  # a row [1, d_k] that answers 1 at every key
        row = direction.left.double() @ direction.right.double()
        return LowRank.of(fact.delta[:, None], row)

    return (yield from write_one(view, requests, hparams, change_of))


def _legacy(fact: Learned, bare_weight: float) -> LowRank:
    """The mean key's direction, divided by how far the bare prompt's key goes along it."""
    u = fact.metric.inverse @ mean_key(fact.keys, bare_weight)  # [d_k, 1]
    along = float(fact.keys[:, 0] @ u[:, 0])
    if along == 0.0:
        raise SingularSystem(size=1, jitter=0.0)
    return LowRank.of(fact.delta[:, None], u.mT / along)
