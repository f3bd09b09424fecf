"""MEND - a trained network turns the gradient of an edit into the change of weights.

Mitchell, Lin, Bosselut, Finn, Manning. "Fast Model Editing at Scale", arXiv:2110.11309.

    for every matrix W of the MLPs of the last blocks
        u_t, delta_t   input of W, and which way its answer should move, at each token t of the
                       prompt with its target, in one backward pass          (token_gradients.py)
        u~_t, delta~_t = g(u_t, delta_t)          the trained network, with alpha_W (hypernet.py)
        D   = alpha_W  sum over t of  delta~_t u~_tT

Several facts: the sum over the tokens of all of them. Differs from every other method in that g has
to be trained first, on other facts about the same model (editing/training). It holds no memory of
earlier edits, and was trained on the untouched model: after tens of edits it decays.
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import torch

from editing.delta import LowRank
from editing.history import History
from editing.hparams import MendHparams
from editing.outcome import Outcome
from editing.step import Step
from editing.training.artefact import load_net

from .lessons import Lessons, texts_of
from .token_gradients import TokenGradient, token_gradients

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

_ROWS = 32  # texts in one backward pass


def edit(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    hparams: MendHparams,
    _: History,
) -> Generator[Step, None, Outcome]:
    """Compute the change. Raises HypernetworkMissing, HypernetworkDamaged or BadRequest."""
    trained = load_net(view, hparams.layers, hparams.net)
    texts = [text for request in requests for text in texts_of(view, request)]
    gradients: dict[str, TokenGradient] = {}
    for start in range(0, len(texts), _ROWS):
        lessons = Lessons.of(view, texts[start : start + _ROWS], hparams.layers[0])
        found, loss = token_gradients(view, lessons, trained.net.names)
        gradients = {n: gradients[n].then(g) if n in gradients else g for n, g in found.items()}
        yield Step("train", min(start + _ROWS, len(texts)), len(texts), loss)
    with torch.no_grad():
        changes = trained.net(gradients)
    deltas = {name: LowRank.of(left, right) for name, (left, right) in changes.items()}
    return Outcome(deltas, notes={"net": trained.id})
