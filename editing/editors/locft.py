"""LocFT-BF - one down-projection, fine-tuned breadth-first over all requests of an order.

Yang et al. "Fine-tuning Done Right in Model Editing", arXiv:2509.22072. The loss is FT-M's, with
the end token behind every target. What differs is the order of things: mini-batches over all
requests, shuffled anew in every pass, instead of one request after another until each is learned;
and nothing bounds the change. Give it all facts in one order. The loop is training.py's.
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from editing.history import History
from editing.hparams import LocftHparams
from editing.outcome import Outcome
from editing.step import Step

from .training import Copies, trained

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: LocftHparams, _: History
) -> Generator[Step, None, Outcome]:
    """Train all facts of an order into one matrix. Raises LossDiverged or TargetNotReached."""
    (layer,) = hparams.layers
    copies = Copies(view, [view.down_proj(layer)])
    return (yield from trained(view, requests, hparams, copies, first=layer))
