"""A measured number with all that it needs to be read: n, what it was before, and an interval.

Intervals are percentile bootstraps over clusters (METRICS 0): what is drawn anew is the edit, never
the single query, because the queries of one edit succeed and fail together. No torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np

DRAWS = 1000
LEVEL = 0.95

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One number of a summary; `value` is None where nothing could be measured.

    n            how many things it is taken from (queries, tests, pairs)
    n_testable   how many of those could be tested; the others are left out of the value
    clusters     how many edits (or subjects, or facts) they belong to: what the interval draws
    low, high    95 % interval; None with fewer than two clusters
    before       the same number of the model before the edit
    """

    value: float | None
    n: int
    n_testable: int | None = None
    clusters: int | None = None
    low: float | None = None
    high: float | None = None
    before: float | None = None

    def to_dict(self) -> dict[str, object]:
        """As JSON; `n_testable` is `n` unless some could not be tested."""
        said: dict[str, object] = asdict(self)
        said["n_testable"] = self.n if self.n_testable is None else self.n_testable
        return said


def interval(
    clusters: Sequence[T],
    statistic: Callable[[Sequence[T]], float | None],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float | None, float | None]:
    """The 95 % percentile bootstrap of any statistic of clusters, each drawn whole.

    Draws for which the statistic is None or not finite are left out; (None, None) where fewer than
    two clusters, or fewer than half of the draws, are left.
    """
    if len(clusters) < 2:  # noqa: PLR2004 - one cluster says nothing of the next
        return None, None
    chance = np.random.default_rng(seed)
    found: list[float] = []
    for _ in range(draws):
        drawn = statistic([clusters[i] for i in chance.integers(len(clusters), size=len(clusters))])
        if drawn is not None and np.isfinite(drawn):
            found.append(drawn)
    if 2 * len(found) < draws:
        return None, None
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(found, [tail, 100 - tail])
    return float(low), float(high)


def mean_of(
    clusters: Sequence[Sequence[float]],
    *,
    before: Sequence[Sequence[float]] | None = None,
    n: int | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Value:
    """The mean over all entries of all clusters, each cluster an edit's numbers.

    `n` counts what was asked, where some of it could not be tested and is not among the entries.
    """
    kept = [list(map(float, cluster)) for cluster in clusters if len(cluster)]
    sums = np.array([[sum(cluster), len(cluster)] for cluster in kept]).reshape(-1, 2)
    low, high = interval(
        list(sums), lambda some: _ratio(np.sum(some, axis=0)), draws=draws, seed=seed
    )
    flat = None if before is None else [value for cluster in before for value in cluster]
    size = int(sums[:, 1].sum())
    return Value(
        value=_ratio(sums.sum(axis=0)),
        n=size if n is None else n,
        n_testable=size,
        clusters=len(kept),
        low=low,
        high=high,
        before=float(np.mean(flat)) if flat else None,
    )


def harmonic(parts: Sequence[float | None]) -> float | None:
    """The harmonic mean; 0 where any is 0, None where any was not measured."""
    found = [part for part in parts if part is not None]
    if len(found) < len(parts) or not found:
        return None
    return len(found) / sum(1 / part for part in found) if all(found) else 0.0


def as_json(values: Mapping[str, Value]) -> dict[str, object]:
    """Values by their names, as JSON."""
    return {name: value.to_dict() for name, value in values.items()}


def _ratio(pair: "np.ndarray") -> float | None:
    return float(pair[0] / pair[1]) if pair[1] else None
