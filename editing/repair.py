"""A repair: an edit that disturbs live ones is computed anew, together with what it disturbs.

From the state before it, in one joint batch, so that its outcome replaces the first one. The
disturbed edits stay where they are; their facts are written once more. A method that keeps count of
live facts (Method.again) writes them in the place of what said them: they stay their edits' own.
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, cast

from . import walk
from .entry import loaded
from .history import History
from .outcome import Outcome
from .step import Step

if TYPE_CHECKING:
    from .model.view import ModelView
    from .request import EditRequest
    from .walk import Plan

Disturbed = tuple[str, int, "EditRequest"]  # an edit, which of its requests, and the request


def repair(
    view: "ModelView",
    plan: "Plan",
    history: History,
    requests: Sequence["EditRequest"],
    disturbed: Sequence[Disturbed],
) -> Generator[Step, None, Outcome]:
    """What the requests change when the disturbed facts of live edits are written with them.

    The view shows the state before the edit. Raises EditFailed or BadRequest.
    """
    if plan.method.again:
        again = loaded(plan.method.again)
        work = again(view, plan.hparams, history, requests, disturbed)
        outcome = cast("Outcome", (yield from work))
        outcome.require_finite()
        return outcome
    facts = [*requests, *(request for _, _, request in disturbed)]
    return (yield from walk.edit(view, plan, facts, history))
