"""Full-C - every matrix of every MLP is fine-tuned within a bound.

Zhu et al. "Modifying Memories in Transformer Models", arXiv:2012.00363:

    minimise L   subject to   |theta - theta_0|_inf <= epsilon

with L the loss of the target's tokens (FT-M's) and theta the up-, gate- and down-projections of all
layers, which is how the tables of CTP are read here. The loop is training.py's.
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from editing.history import History
from editing.hparams import FullCHparams
from editing.outcome import Outcome
from editing.step import Step

from .training import Copies, trained

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: FullCHparams, _: History
) -> Generator[Step, None, Outcome]:
    """Train a batch of facts into the MLPs of the chosen layers.

    Raises LossDiverged, TargetNotReached or UnsupportedArchitecture.
    """
    names: list[str] = []
    for layer in hparams.layers:
        gate = view.gate_proj(layer)
        names += [view.up_proj(layer), *([gate] if gate else []), view.down_proj(layer)]
    copies = Copies(view, names, hparams.bound)
    return (yield from trained(view, requests, hparams, copies, first=hparams.layers[0]))
