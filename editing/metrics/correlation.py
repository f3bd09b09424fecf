"""How one number goes with another over pairs of edit and query (METRICS 1.3).

Pearson's r, Spearman's rho and the slope of a straight line, each with a 95 % interval from drawing
the edits anew with all their queries: the queries of one edit go up and down together. No torch.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .values import DRAWS, LEVEL, Value

Numbers = NDArray[np.float64]

LEAST = 3  # pairs, below which nothing is said

# From what GradSim on an answer is called likely to follow an edit. Near the threshold at which the
# suite `correlation` tells answers that gain a nat from the others (docs/measures/correlation.md).
LIKELY = 0.3


@dataclass(frozen=True, slots=True)
class Correlated:
    """y against x: correlation, rank correlation, and y = intercept + slope x by least squares."""

    pearson: Value
    spearman: Value
    slope: Value
    intercept: float | None


def correlated(
    x: Sequence[float | None],
    y: Sequence[float | None],
    clusters: Sequence[Hashable],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Correlated:
    """Pairs in which either number is missing are left out, and counted in `n` alone.

    The values are None where fewer than three pairs are left or one side never changes.
    """
    kept = [i for i, both in enumerate(zip(x, y, strict=True)) if None not in both]
    xs, ys = (np.array([side[i] for i in kept], dtype=float) for side in (x, y))
    members = list(dict.fromkeys(clusters[i] for i in kept))
    number = {name: at for at, name in enumerate(members)}
    owner = np.array([number[clusters[i]] for i in kept], dtype=int)
    once = np.ones((1, len(kept)))
    drawn = _drawn(owner, len(members), draws, seed)
    ranked = [_ranks(side, weights) for weights in (once, drawn) for side in (xs, ys)]

    def value(point: Numbers, many: Numbers) -> Value:
        known = len(kept) >= LEAST and bool(np.isfinite(point[0]))
        low, high = _interval(many, len(members)) if known else (None, None)
        return Value(
            value=float(point[0]) if known else None,
            n=len(x),
            n_testable=len(kept),
            clusters=len(members),
            low=low,
            high=high,
        )

    r, slope = _moments(xs, ys, once)
    drawn_r, drawn_slope = _moments(xs, ys, drawn)
    rho, _ = _moments(ranked[0], ranked[1], once)
    drawn_rho, _ = _moments(ranked[2], ranked[3], drawn)
    line = value(slope, drawn_slope)
    start = None if line.value is None else float(ys.mean() - line.value * xs.mean())
    return Correlated(value(r, drawn_r), value(rho, drawn_rho), line, start)


def winsorised(values: Sequence[float | None], tail: float = 1.0) -> list[float | None]:
    """The values, those beyond the `tail`-th percentile from either end brought back to it."""
    known = [value for value in values if value is not None]
    if not known:
        return list(values)
    low, high = np.percentile(known, [tail, 100 - tail])
    return [None if value is None else float(np.clip(value, low, high)) for value in values]


def separation(
    scores: Sequence[float], followed: Sequence[bool]
) -> tuple[float | None, float | None]:
    """How well a score tells what followed from what did not: AUC, and the best threshold.

    The AUC is the chance that one that followed has the higher score; the threshold is where the
    share of the followed at or above it, less that of the others, is largest. None for both where
    all or none followed.
    """
    good = np.array([s for s, yes in zip(scores, followed, strict=True) if yes])
    bad = np.array([s for s, yes in zip(scores, followed, strict=True) if not yes])
    if not len(good) or not len(bad):
        return None, None
    auc = (good[:, None] > bad).mean() + 0.5 * (good[:, None] == bad).mean()
    marks = np.unique(good)
    gains = [(good >= mark).mean() - (bad >= mark).mean() for mark in marks]
    return float(auc), float(marks[int(np.argmax(gains))])


def _drawn(owner: NDArray[np.int_], count: int, draws: int, seed: int) -> Numbers:
    """How often each pair comes in each draw [draws, pairs]."""
    if not count:
        return np.ones((draws, 0))
    chance = np.random.default_rng(seed)
    return chance.multinomial(count, [1 / count] * count, size=draws)[:, owner].astype(float)


def _ranks(values: Numbers, weights: Numbers) -> Numbers:
    """Mean ranks [draws, pairs] in samples that hold each pair as often as its weight says."""
    distinct, group = np.unique(values, return_inverse=True)
    size = len(distinct)
    sums = np.array([np.bincount(group, row, minlength=size) for row in weights])
    below = sums.cumsum(1) - sums
    return (below + (sums + 1) / 2)[:, group]


def _moments(x: Numbers, y: Numbers, weights: Numbers) -> tuple[Numbers, Numbers]:
    """r and the slope of y on x in each draw; NaN where x or y does not change."""
    size = weights.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        off_x = x - ((weights * x).sum(1) / size)[:, None]
        off_y = y - ((weights * y).sum(1) / size)[:, None]
        xx, yy, xy = ((weights * p).sum(1) for p in (off_x**2, off_y**2, off_x * off_y))
        flat = (xx <= _FLAT * size) | (yy <= _FLAT * size)
        return np.where(flat, np.nan, xy / np.sqrt(xx * yy)), np.where(flat, np.nan, xy / xx)


_FLAT = 1e-24  # a variance below this is rounding


def _interval(many: Numbers, clusters: int) -> tuple[float | None, float | None]:
    found = many[np.isfinite(many)]
    if clusters < 2 or 2 * len(found) < len(many):  # noqa: PLR2004 - as metrics.values has it
        return None, None
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(found, [tail, 100 - tail])
    return float(low), float(high)
