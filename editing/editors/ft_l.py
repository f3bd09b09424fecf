"""FT-L - one down-projection is fine-tuned within a bound; the loss sees the prompt's end only.

Zhu et al. "Modifying Memories in Transformer Models", arXiv:2012.00363, in the form of the baseline
of arXiv:2202.05262: all target tokens are asked for where the prompt ends,

    L = mean over target tokens of -log p(token | prompt)

so that a target of several tokens is learned as a bag of them. Kept as it was published; FT-M is
the one to use. The loop is training.py's.
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import torch

from editing.history import History
from editing.hparams import FtHparams
from editing.model.partial import pause
from editing.model.tokens import Continuation
from editing.outcome import Outcome
from editing.step import Step

from .lessons import Lessons
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
    return (yield from trained(view, requests, hparams, copies, first=layer, lessons=bags))


def bags(view: "ModelView", rows: Sequence[Continuation], first: int) -> Lessons:
    """Prompts halted below block `first`, each asked for all its target's tokens at its end."""
    prompts = [row.ids[: row.start] for row in rows]
    end = max(map(len, prompts)) - 1  # rows end together
    where = [(number, end) for number, row in enumerate(rows) for _ in row.targets]
    return Lessons(
        view,
        pause(view, prompts, first=first, stop=len(view.blocks)),
        torch.tensor(where, device=view.device),
        torch.tensor([t for row in rows for t in row.targets], device=view.device),
        torch.tensor([len(row.targets) for row in rows], device=view.device),
    )
