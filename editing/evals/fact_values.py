"""The rows of facts together: each measure with its interval, and their score. No torch.

A prompt counts within its fact, a fact within the set of all: every number is a mean over facts of
means over their prompts, and intervals draw facts.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from editing.metrics.values import Value, harmonic, interval, mean_of

from .catalogue import Json

_PROMPTS = {"paraphrase": "paraphrases", "neighborhood": "neighbors"}  # the field that counts them


def mean_value(rows: Sequence[Json], name: str, *, prompts: str | None = None) -> Value | None:
    """The mean of `name`_after over rows, with `name`_before; None where no row has it."""
    having = [row for row in rows if row.get(f"{name}_after") is not None]
    if not having:
        return None
    old = [[row[f"{name}_before"]] for row in having if row.get(f"{name}_before") is not None]
    found = mean_of([[row[f"{name}_after"]] for row in having], before=old or None)
    n = sum(row[prompts] for row in having) if prompts else len(having)
    return replace(found, n=n, n_testable=n)


def fact_values(rows: Sequence[Json]) -> dict[str, Value]:
    """`efficacy.success` and so on, and `score`: the harmonic mean of the three successes (S)."""
    found: dict[str, Value] = {}
    for part in ("efficacy", "paraphrase", "neighborhood"):
        for measure in ("success", "magnitude", "accuracy", "tokens", "generated"):
            value = mean_value(rows, f"{part}_{measure}", prompts=_PROMPTS.get(part))
            if value is not None:
                found[f"{part}.{measure}"] = value
    names = [f"{part}_success" for part in ("efficacy", "paraphrase", "neighborhood")]
    found["score"] = score_value(rows, names, harmonic)
    return found


def score_value(
    rows: Sequence[Json],
    names: Sequence[str],
    mean: Callable[[Sequence[float]], float | None],
) -> Value:
    """A mean of the means of several columns; None where one of them is nowhere."""

    def of(state: str) -> Callable[[Sequence[Json]], float | None]:
        def statistic(some: Sequence[Json]) -> float | None:
            columns = [[row.get(f"{name}_{state}") for row in some] for name in names]
            having = [[value for value in column if value is not None] for column in columns]
            return mean([sum(c) / len(c) for c in having]) if all(having) else None

        return statistic

    low, high = interval(rows, of("after"))
    return Value(
        value=of("after")(rows),
        n=len(rows),
        clusters=len(rows),
        low=low,
        high=high,
        before=of("before")(rows),
    )


def arithmetic(values: Sequence[float]) -> float:
    """The plain mean."""
    return sum(values) / len(values)
