"""FT-M - one down-projection is fine-tuned on the target's tokens alone.

Zhang et al. "A Comprehensive Study of Knowledge Editing for Large Language Models",
arXiv:2401.01286, section on FT-M: causal cross-entropy in which the prompt is masked,

    L = mean over target tokens of -log p(token | prompt, target tokens before it)

The loop is training.py's.
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from editing.history import History
from editing.hparams import FtHparams
from editing.outcome import Outcome
from editing.step import Step

from .training import Copies, trained

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: FtHparams, _: History
) -> Generator[Step, None, Outcome]:
    """Train a batch of facts into one matrix. Raises LossDiverged or TargetNotReached."""
    (layer,) = hparams.layers
    copies = Copies(view, [view.down_proj(layer)], hparams.bound)
    return (yield from trained(view, requests, hparams, copies, first=layer))
