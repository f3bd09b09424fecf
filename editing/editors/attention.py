"""RaKE's proposal - relations are written into attention and MLP, at the relation's last token.

Wei, Yu, Ma, Lei, Weng, Song, Liu. "Assessing Knowledge Editing in Language Models via Relation
Perspective", arXiv:2311.09053, traces relations to MLPs and to the attention of middle layers at
the relation's last token, and proposes to edit attention as well; no method comes with it. Ours:

    d_s  what the attention and the MLP of layer L must answer besides at the prompt's last token,
         searched together                                                             (zsearch.py)
    Z    what block L answers under these
    for each layer of the band, its attention first, then its MLP, under what is written so far:
        R = (Z - H) / (writes left),  D = R KT (lambda_s C_s + K KT)^-1

Attention's keys are the inputs of W_o, with their own second moment. A relation edit may bring two
prompts, one to add and one to delete; their keys differ here, so each has its own d. `sites` leaves
one of the two out of search and write.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING

from editing.history import History
from editing.hparams import AttentionHparams
from editing.outcome import Outcome
from editing.stats.store import SiteKind
from editing.step import Step

from .band import Band, everyday, softly, spread
from .goal import under_the_moves

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

_SITES: Mapping[str, tuple[SiteKind, ...]] = {
    "mlp": ("mlp",),
    "attention": ("attention",),
    "both": ("attention", "mlp"),
}


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: AttentionHparams, _: History
) -> Generator[Step, None, Outcome]:
    """Write a batch of relations or facts. Raises SearchDiverged or SingularSystem."""
    sites = _SITES[hparams.sites]
    band = Band(searched=sites, written=sites, goal=under_the_moves)
    solve = softly(everyday(view, hparams))
    return (yield from spread(view, requests, hparams, solve, band))
