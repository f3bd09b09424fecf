"""The choice of the token whose key is written: the subject's last, the prompt's last, or both.

At the prompt's last token two relations of one subject have different keys, but the lower layers
have not brought the subject there yet, so later layers are written (S2RKE, arXiv:2502.06868). With
"dual" half of what is missing is written at the subject, and under that change the rest is searched
and written at the prompt's last token.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from editing.hparams import Sited
from editing.outcome import Outcome, joined
from editing.run import under
from editing.step import Step

from .asking import KeyAt

if TYPE_CHECKING:
    from editing.model.view import ModelView

# (where the key is, the layers to write, the share of what is missing) -> what to do there
Once = Callable[[KeyAt, tuple[int, ...], float], Generator[Step, None, Outcome]]

_HALF = 0.5


def at_key_site(
    view: "ModelView", hparams: Sited, layers: tuple[int, ...], once: Once
) -> Generator[Step, None, Outcome]:
    """Run a method at the token, or the two tokens, that its hparams name."""
    if hparams.key_site != "dual":
        return (yield from once(hparams.key_site, layers, 1.0))
    first = yield from once("subject_last", layers, _HALF)
    later = once("prompt_last", hparams.late_layers or layers, 1.0)
    second = yield from under(view, view.after(first.deltas), later)
    return joined([first, second])
