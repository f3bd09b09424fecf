"""NAS: what a layer is asked to answer is held to one length, whatever edits came before.

"Norm-anchored scaling", arXiv:2602.02543: every edit makes weights a little longer, longer weights
make the next search end at longer values, and so the growth feeds itself. The values v* = v + d of
the first edits give the length a, their mean without the longest twentieth; a later v* is brought
to it.

Departures. The pilots are the lineage's own first edits, which are searched on a nearly untouched
model and cost nothing besides. Only a value longer than a is changed: one that says its fact with
less needs no more. What is longer than 2 a is brought to a as well, where the paper gives it up.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor

from editing.history import Entry, History

NOTE = "lengths"  # |v*| of each value that an outcome's search has found
_PILOTS = 64  # values that set the length
_FEWEST = 16  # of them, before anything is held to it
_LONGEST = 0.05  # share of the pilots that does not count


def pilots(history: History, made_by: object) -> tuple[float, ...]:
    """The lengths of a solution's first values, oldest first."""

    def fold(known: tuple[float, ...], fresh: Sequence[Entry]) -> tuple[float, ...]:
        for entry in fresh:
            if len(known) >= _PILOTS:
                break
            outcome = entry.load()
            if outcome.is_part_of(made_by):
                known += tuple(cast("list[float]", outcome.notes.get(NOTE, [])))
        return known[:_PILOTS]

    start: tuple[float, ...] = ()
    return history.folded(NOTE, made_by, start, fold)


def anchor(history: History, made_by: object) -> float | None:
    """The length a of a solution's values; None while too few are known."""
    known = pilots(history, made_by)
    if len(known) < _FEWEST:
        return None
    kept = sorted(known)[: len(known) - int(_LONGEST * len(known))]
    return sum(kept) / len(kept)


def held(v: Tensor, d: Tensor, longest: float | None) -> Tensor:
    """d [n, d_v] so changed that no v + d is longer than the anchor."""
    if longest is None:
        return d
    whole = v + d
    length = whole.norm(dim=1, keepdim=True).clamp(min=1e-30)
    return whole * (longest / length).clamp(max=1.0) - v
