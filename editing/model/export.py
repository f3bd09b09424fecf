"""A state written down as a model of its own, which whoever loads models can load.

Such a folder holds weights. What stands beside them is nobody else's form, so a state with any of
it is refused: without it the model would say something else than what was measured here.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from editing.errors import NotInWeights

from .state import State

if TYPE_CHECKING:
    from .view import ModelView


def export(view: "ModelView", state: State, folder: Path) -> None:
    """Write a state's weights, with configuration and tokenizer, into a folder.

    The weights are those that are served, in the model's own format. Raises NotInWeights.
    """
    if state.memories or state.preface:
        raise NotInWeights(entries=state.entries, preface=len(state.preface))
    with view.showing(state):
        view.model.save_pretrained(folder)
    view.tokenizer.save_pretrained(folder)
