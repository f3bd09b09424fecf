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
_ROUNDING = 1e-12

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
    return Correlations(clusters, draws=draws, seed=seed).of(x, y)


class Correlations:
    """Correlations of many columns over the same pairs; what two of them share is drawn once."""

    def __init__(self, clusters: Sequence[Hashable], *, draws: int = DRAWS, seed: int = 0) -> None:
        self.clusters, self.draws, self.seed = clusters, draws, seed
        self._samples: dict[tuple[int, ...], _Sample] = {}

    def of(self, x: Sequence[float | None], y: Sequence[float | None]) -> Correlated:
        """See `correlated`."""
        kept = tuple(i for i, both in enumerate(zip(x, y, strict=True)) if None not in both)
        if kept not in self._samples:
            chosen = [self.clusters[i] for i in kept]
            self._samples[kept] = _Sample(chosen, self.draws, self.seed)
        sample = self._samples[kept]
        xs, ys = (np.array([side[i] for i in kept], dtype=float) for side in (x, y))
        r, slope = sample.correlation(sample.column(xs), sample.column(ys))
        rho, _ = sample.correlation(sample.ranks(xs), sample.ranks(ys))

        def value(found: Numbers) -> Value:
            known = len(kept) >= LEAST and bool(np.isfinite(found[0]))
            low, high = _interval(found[1:], sample.clusters) if known else (None, None)
            return Value(
                value=float(found[0]) if known else None,
                n=len(x),
                n_testable=len(kept),
                clusters=sample.clusters,
                low=low,
                high=high,
            )

        line = value(slope)
        start = None if line.value is None else float(ys.mean() - line.value * xs.mean())
        return Correlated(value(r), value(rho), line, start)


@dataclass(frozen=True, slots=True)
class _Column:
    """Numbers of pairs in each draw [draws or 1, pairs], with their mean and variance there.

    The variance is NaN where they are all the same.
    """

    values: Numbers
    weighed: Numbers  # [draws, pairs]: the values, times how often the pair was drawn
    mean: Numbers
    variance: Numbers


class _Sample:
    """The pairs that two columns have, and draws of their clusters; the first is all of them."""

    def __init__(self, clusters: Sequence[Hashable], draws: int, seed: int) -> None:
        members = list(dict.fromkeys(clusters))
        number = {name: at for at, name in enumerate(members)}
        owner = np.array([number[name] for name in clusters], dtype=int)
        self.clusters = len(members)
        drawn = _drawn(owner, len(members), draws, seed)
        self.weights = np.concatenate([np.ones((1, len(owner))), drawn])
        self.size = self.weights.sum(1)
        self._known: dict[tuple[str, bytes], _Column] = {}

    def column(self, values: Numbers) -> _Column:
        """The numbers themselves."""
        return self._kept("values", values)

    def ranks(self, values: Numbers) -> _Column:
        """Their mean ranks, anew in each draw."""
        return self._kept("ranks", values)

    def correlation(self, x: _Column, y: _Column) -> tuple[Numbers, Numbers]:
        """r and the slope of y on x in each draw; NaN where x or y does not change."""
        both = np.einsum("ij,ij->i", x.weighed, np.broadcast_to(y.values, x.weighed.shape))
        with np.errstate(invalid="ignore", divide="ignore"):
            shared = both / self.size - x.mean * y.mean
            r = shared / np.sqrt(x.variance * y.variance)
            slope = np.where(np.isnan(r), np.nan, shared / x.variance)
        return r, slope

    def _kept(self, kind: str, values: Numbers) -> _Column:
        key = (kind, values.tobytes())
        if key not in self._known:
            # Around the middle, so that little is lost where squares are taken off each other.
            middle = values.mean() if len(values) else 0.0
            laid = (values - middle)[None]
            if kind == "ranks":
                laid = _ranks(values, self.weights) - (len(values) + 1) / 2
            weighed = self.weights * laid
            with np.errstate(invalid="ignore", divide="ignore"):
                mean, square = (part.sum(1) / self.size for part in (weighed, weighed * laid))
            variance = square - mean**2
            # What is left of the squares of equal numbers is rounding.
            variance[variance <= _ROUNDING * square] = np.nan
            self._known[key] = _Column(laid, weighed, mean, variance)
        return self._known[key]


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


def _interval(many: Numbers, clusters: int) -> tuple[float | None, float | None]:
    found = many[np.isfinite(many)]
    if clusters < 2 or 2 * len(found) < len(many):  # noqa: PLR2004 - as metrics.values has it
        return None, None
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(found, [tail, 100 - tail])
    return float(low), float(high)
