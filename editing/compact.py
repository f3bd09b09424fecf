"""A ledger told anew: all its live facts solved together from base, at the keys they have there.

Edits are solved one after another, each at keys as the edits below it in the band had left them;
later edits move those keys. Solved together, every fact has the key that it is asked at.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, cast

from .entry import loaded
from .history import History
from .model.state import State
from .outcome import Outcome
from .retract import metric_of
from .run import under
from .step import Step

if TYPE_CHECKING:
    from .model.view import ModelView
    from .walk import Plan


def compact(view: "ModelView", plan: "Plan", history: History) -> Generator[Step, None, Outcome]:
    """What all live facts of a plan's solution change together (`Outcome.holds`).

    It stands upon the base and what other editors of the lineage have changed, in the place of all
    entries of the solution. Raises KeyError where the method cannot, or no fact is live.
    """
    if not plan.method.compact:
        raise KeyError(plan.method.name)
    _, made_by = metric_of(view, plan)
    state = State()
    for entry in history.entries:
        outcome = entry.load()
        if not outcome.is_part_of(made_by):
            state = view.after(outcome.deltas, state)
    work = loaded(plan.method.compact)(view, plan.hparams, history)
    outcome = cast("Outcome", (yield from under(view, state, work)))
    outcome.require_finite()
    return outcome
