"""PMET - the MLP's share of a fact, told from the attention's.

Li, Li, Song, Yang, Ma, Yu. "PMET: Precise Model Editing in a Transformer", arXiv:2308.08742.

    d_attn, d_mlp   what the modules of layer L must answer besides, searched together: the same
                    loss, each bounded and decayed by its own module's answer          (zsearch.py)
    R_l = (v_mlp + d_mlp - V) / root of the layers left,  V what layer L's MLP answers now
    D_l = R KT (lambda C_l + K KT)^-1

Only the MLP's change is written (`write` = "mlp"): attention is searched so that the MLP is not
asked for what attention brings. `write` = "both" writes W_o too, each layer's attention before the
MLP that reads it.

Departure: the search ends as everywhere here; the paper lowers the target's weight to a tenth once
it is the first choice and waits for the KL.
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from editing.history import History
from editing.hparams import PmetHparams
from editing.outcome import Outcome
from editing.stats.store import SiteKind
from editing.step import Step

from .band import Band, everyday, softly, spread
from .goal import at_the_modules

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

_BOTH: tuple[SiteKind, ...] = ("attention", "mlp")


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: PmetHparams, _: History
) -> Generator[Step, None, Outcome]:
    """Write a batch of facts. Raises SearchDiverged or SingularSystem."""
    written: tuple[SiteKind, ...] = _BOTH if hparams.write == "both" else ("mlp",)
    band = Band(searched=_BOTH, written=written, goal=at_the_modules(written))
    solve = softly(everyday(view, hparams))
    return (yield from spread(view, requests, hparams, solve, band))
