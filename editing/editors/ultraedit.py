"""UltraEdit - one backward pass: no subject, no search, no training.

Gu, Chen, Li, Gu, Hu, Zhang. "UltraEdit: Training-, Subject-, and Memory-Free Lifelong Editing in
Language Models", arXiv:2505.14679.

    for every edited matrix W, all of them read in one backward pass
        H    what enters W at the tokens that predict the target, [d_in, n]   (token_gradients.py)
        V    - eta |h^|^2 g^ of each: what W shall answer besides, [d_out, n]        (lifelong.py)
        D  = V HT (H HT + ridge I)^-1                                       (solve.write_evenly)

Means and deviations go over all turns, and are all that is remembered: no key of an earlier edit is
kept where it is. That is what ultra-rls adds.
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from editing.delta import LowRank
from editing.history import History
from editing.hparams import UltraHparams
from editing.outcome import Outcome
from editing.solve import write_evenly
from editing.step import Step

from .lifelong import stepped

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


def edit(
    view: "ModelView", requests: Sequence["EditRequest"], hparams: UltraHparams, history: History
) -> Generator[Step, None, Outcome]:
    """Write a batch of facts. Raises SingularSystem, NumericOverflow or BadRequest."""

    def solve(_: str, H: Tensor, V: Tensor) -> LowRank:
        return write_evenly(H, V, hparams.ridge)

    return (yield from stepped(view, requests, hparams, history, solve))
