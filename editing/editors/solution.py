"""The joint solution that edits under one metric write into, and what it takes to leave it.

Methods whose metric holds the keys of earlier live edits leave, layer by layer, the solution of one
joint batch (OTE-SE, arXiv:2605.26670; RLSEdit, arXiv:2601.15686), so that keys K with targets V can
be taken out of it in closed form:

    A' = A - K KT            W' = W - (V - W K) KT A'^-1

W' is the joint solution of the others, with their keys and targets as they were written. What
editors of another kind changed in between is no part of that solution and stays: their changes F
move the targets too, V <- V + F K, so that only what kin have changed since counts as missing. Nor
do their keys enter A: an edit of theirs that is dropped would leave a metric no solution fits.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from editing.delta import Change, LowRank
from editing.errors import SingularSystem
from editing.history import Entry, History
from editing.model.view import layer_of
from editing.outcome import SOLUTION, Outcome, Written
from editing.solve import Metric, take_out

from .site import Spot

if TYPE_CHECKING:
    from editing.model.view import ModelView


def signed(outcome: Outcome, made_by: object) -> Outcome:
    """The outcome with a note of the metric that it was written under: equal notes are kin."""
    return replace(outcome, notes={**outcome.notes, SOLUTION: str(made_by)})


def spot_of(view: "ModelView", weight: str) -> Spot:
    """The spot that a weight writes at, or that it reads."""
    layer = layer_of(weight)
    if weight == view.down_proj(layer):
        return "mlp", layer
    return ("attention" if weight == view.attention_out(layer) else "mlp_in"), layer


def missing_now(
    history: History, entry: str, weight: str, pair: Written, made_by: object
) -> Tensor:
    """V - W K as it is now, of what an edit has written into a weight: [d_v, n], float64.

    From what was asked of all changes of the solution there, and what they have come to. The weight
    itself is too rough: it was rounded at every edit, and what is missing is small beside it.
    """
    wanted = wanted_of(history, entry, weight, pair, made_by)
    S = changed(history, weight, made_by)
    return wanted if S is None else wanted - S @ pair.keys.to(S)


def wanted_of(history: History, entry: str, weight: str, pair: Written, made_by: object) -> Tensor:
    """What all changes of a solution were asked to add at an edit's keys [d_v, n], float64.

    Where the edit did not keep it, from what was missing behind it and what there was until then.
    """
    if pair.wanted is not None:
        return pair.wanted.double()
    found = pair.missing.double()
    for one in history.entries:
        outcome = one.load()
        if outcome.is_part_of(made_by) and weight in outcome.changes:
            found = found + outcome.changes[weight].at(pair.keys)
        if one.id == entry:
            break
    return found


def changed(history: History, weight: str, made_by: object) -> Tensor | None:
    """S [d_v, d_k], float64: all changes of one solution in a weight; None where there is none."""

    def fold(S: Tensor | None, entries: Sequence[Entry]) -> Tensor | None:
        for entry in entries:
            outcome = entry.load()
            if outcome.is_part_of(made_by) and weight in outcome.changes:
                D = whole(outcome.changes[weight])
                S = D if S is None else S + D
        return S

    start: Tensor | None = None
    return history.folded(weight, ("changed", made_by), start, fold)


def whole(change: Change) -> Tensor:
    """A change as a matrix [d_v, d_k], float64, to the last digit of its factors' product."""
    if isinstance(change, LowRank):
        return change.left.double() @ change.right.double()
    return change.matrix().double()


def taken_out(  # noqa: PLR0917 - each is one thing
    history: History, weight: str, K: Tensor, R: Tensor, base: Metric, made_by: object
) -> Change:
    """The change of a weight that takes keys K [d_k, n] out, R [d_v, n] = V - W K missing there.

    base: the metric without any edit. Raises SingularSystem.
    """
    K, R = K.to(base.inverse), R.to(base.inverse)
    try:
        return take_out(K, R, history.metric(weight, made_by, base))
    except SingularSystem:
        # Made anew: taking them out would lose digits.
        rest = rest_of(history, weight, K, base, made_by)
        return LowRank.of(-R, K.mT @ rest.inverse)


def rest_of(history: History, weight: str, K: Tensor, base: Metric, made_by: object) -> Metric:
    """The metric of all live keys but K."""
    every = history.keys(weight, made_by)
    if every is None:
        return base
    gone = Counter(tuple(column) for column in K.mT.tolist())  # another edit may have equal keys
    kept: list[int] = []
    for number, column in enumerate(map(tuple, every.mT.tolist())):
        if gone[column]:
            gone[column] -= 1
        else:
            kept.append(number)
    return base.with_keys(every[:, kept]) if kept else base
