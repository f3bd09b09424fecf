"""One edit taken out of a lineage, the later ones kept where they are (editors/solution.py)."""

from collections.abc import Generator
from typing import TYPE_CHECKING, cast

from .delta import Change
from .editors.solution import missing_now, signed, spot_of, taken_out
from .entry import loaded
from .history import History
from .outcome import Outcome
from .step import Step

if TYPE_CHECKING:
    from .editors.band import MetricOf
    from .model.view import ModelView
    from .walk import Plan


def metric_of(view: "ModelView", plan: "Plan") -> "tuple[MetricOf, object]":
    """The metric under which a plan writes, without earlier edits, and what made it.

    Two plans with an equal second part write into one joint solution. Raises KeyError where the
    method keeps no such metric.
    """
    if not plan.method.metric:
        raise KeyError(plan.method.name)
    return loaded(plan.method.metric)(view, plan.hparams)


def retract(
    view: "ModelView", plan: "Plan", history: History, edit: str
) -> Generator[Step, None, Outcome]:
    """The change that takes an edit of this plan out of the state that is shown.

    Raises KeyError where the history has no such edit, SingularSystem where what is left cannot be
    solved, and EditFailed where something has to be searched anew and is not found.
    """
    if plan.method.without:
        work = loaded(plan.method.without)(view, plan.hparams, history, edit)
        outcome = cast("Outcome", (yield from work))
    else:
        outcome = yield from _solved(view, plan, history, edit)
    outcome.require_finite()
    return outcome


def _solved(
    view: "ModelView", plan: "Plan", history: History, edit: str
) -> Generator[Step, None, Outcome]:
    bases, made_by = metric_of(view, plan)
    made = history.entry(edit).load()
    deltas: dict[str, Change] = {}
    for number, (weight, pair) in enumerate(made.written.items()):
        base = bases(spot_of(view, weight))
        missing = missing_now(history, edit, weight, pair, made_by)
        deltas[weight] = taken_out(history, weight, pair.keys, missing, base, made_by)
        yield Step("solve", number + 1, len(made.written))
    return signed(Outcome(deltas, removes=(edit,)), made_by)
