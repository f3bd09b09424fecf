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
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from editing.delta import Change, LowRank
from editing.errors import SingularSystem
from editing.history import History
from editing.model.view import layer_of
from editing.outcome import SOLUTION, Outcome, Written
from editing.solve import Metric, take_out
from editing.step import Step

from .site import Spot

if TYPE_CHECKING:
    from editing.model.view import ModelView

_READ = 16  # outcomes read in one step


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
    history: History, entry: str, written: Mapping[str, Written], made_by: object
) -> Generator[Step, None, dict[str, Tensor]]:
    """V - W K as it is now, of what an edit has written: by weight, [d_v, n], float64.

    From what was missing when it was written, and what its kin have changed since. The weight
    itself is too rough: it was rounded at every edit, and what is missing is small beside it.
    """
    found = {weight: pair.missing.double() for weight, pair in written.items()}
    later = history.entries[[one.id for one in history.entries].index(entry) + 1 :]
    for number, one in enumerate(later):
        outcome = one.load()
        if outcome.is_part_of(made_by):
            for weight, pair in written.items():
                if weight in outcome.changes:
                    change = outcome.changes[weight]
                    found[weight] = found[weight] - change.at(pair.keys)
        if number % _READ == _READ - 1:
            yield Step("solve", number + 1, len(later))
    return found


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
        rest = _rest(history, weight, K, base, made_by)
        return LowRank.of(-R, K.mT @ rest.inverse)


def _rest(history: History, weight: str, K: Tensor, base: Metric, made_by: object) -> Metric:
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
