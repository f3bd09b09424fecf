"""One edit taken out of a lineage, the later ones kept where they are.

Methods whose metric holds the keys of earlier live edits leave, layer by layer, the solution of one
joint batch (OTE-SE, arXiv:2605.26670; RLSEdit, arXiv:2601.15686), so that one edit with keys K and
targets V can be taken out of it in closed form:

    A' = A - K KT            W' = W - (V - W K) KT A'^-1

W' is the joint solution of the other edits, with their keys and targets as they were written. What
editors of another kind changed in between is no part of that solution and stays: their changes F
move the targets too, V <- V + F K, so that only what kin has changed since counts as missing.
"""

from collections.abc import Collection, Generator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from .delta import Change, LowRank
from .entry import loaded
from .errors import SingularSystem
from .history import Entry, History
from .model.view import layer_of
from .outcome import Outcome
from .solve import Metric, take_out
from .step import Step

if TYPE_CHECKING:
    from .editors.band import MetricOf
    from .editors.site import Spot
    from .model.view import ModelView
    from .walk import Plan

_READ = 16  # outcomes read in one step


def metric_of(view: "ModelView", plan: "Plan") -> "tuple[MetricOf, object]":
    """The metric under which a plan writes, without earlier edits, and what made it.

    Two plans with an equal second part write into one joint solution. Raises KeyError where the
    method keeps no such metric.
    """
    if not plan.method.metric:
        raise KeyError(plan.method.name)
    return loaded(plan.method.metric)(view, plan.hparams)


def retract(
    view: "ModelView", plan: "Plan", history: History, edit: str, kin: Collection[str]
) -> Generator[Step, None, Outcome]:
    """The change that takes an edit of this plan out of the state that is shown.

    kin: the later edits, and takings-out, that are part of the same joint solution. Raises KeyError
    where the history has no such edit, SingularSystem where what is left cannot be solved.
    """
    bases, made_by = metric_of(view, plan)
    made = history.entry(edit).load()
    later = history.entries[[entry.id for entry in history.entries].index(edit) + 1 :]
    missing = yield from _missing(made, [entry for entry in later if entry.id in kin])
    deltas: dict[str, Change] = {}
    for number, (weight, pair) in enumerate(made.written.items()):
        base = bases(_spot(view, weight))
        K, R = pair.keys.to(base.inverse), missing[weight].to(base.inverse)
        try:
            deltas[weight] = take_out(K, R, history.metric(weight, made_by, base))
        except SingularSystem:
            rest = _without(history, edit, weight, base)
            deltas[weight] = LowRank.of(-R, K.mT @ rest.inverse)
        yield Step("solve", number + 1, len(made.written))
    outcome = Outcome(deltas, removes=(edit,))
    outcome.require_finite()
    return outcome


def _missing(made: Outcome, kin: Sequence[Entry]) -> Generator[Step, None, dict[str, Tensor]]:
    """V - W K as it is now: by weight, [d_v, n], float64.

    From what was missing when the edit was written and what its kin have changed since. The weight
    itself is too rough: it was rounded at every edit, and what is missing is small beside it.
    """
    found = {weight: pair.missing.double() for weight, pair in made.written.items()}
    for number, entry in enumerate(kin):
        changes = entry.load().changes
        for weight, pair in made.written.items():
            if weight in changes:
                found[weight] = found[weight] - changes[weight].at(pair.keys)
        if number % _READ == _READ - 1:
            yield Step("keys", number + 1, len(kin))
    return found


def _without(history: History, edit: str, weight: str, base: Metric) -> Metric:
    """The metric of all live edits but one, made anew: where taking it out would lose digits."""
    rest = History([entry for entry in history.live if entry.id != edit])
    keys = rest.keys(weight)
    return base if keys is None else base.with_keys(keys)


def _spot(view: "ModelView", weight: str) -> "Spot":
    layer = layer_of(weight)
    return ("mlp" if weight == view.down_proj(layer) else "attention"), layer
