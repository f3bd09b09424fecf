"""The rows of suite `gradsim` together: mean cosines over pairs of facts. No torch."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from editing.metrics.values import Value, as_json, interval

from .catalogue import Json

Matrix = NDArray[np.float64]


def summarise(rows: Sequence[Json], _options: object) -> Json:
    """Mean cosines over pairs of different facts, and tables of the parts of the model."""
    facts = {row["fact"]: row for row in rows if "question" in row}
    number = {fact: at for at, fact in enumerate(facts)}
    cosines = np.full((len(facts), len(facts)), np.nan)
    for row in rows:
        for at, cosine in enumerate(row["cosines"], start=row["from"]):
            if row["fact"] in number and at in number:
                here, there = number[row["fact"]], number[at]
                cosines[here, there] = cosines[there, here] = cosine
    np.fill_diagonal(cosines, np.nan)
    known = list(facts.values())
    values = {
        "cosine": _mean(cosines),
        **_told_apart(cosines, known, "relation"),
        **_told_apart(cosines, known, "subject"),
        **_told_apart(cosines, known, "answer"),
    }
    return {"values": as_json(values), "tables": {"layers": _layers(rows), "kinds": _kinds(rows)}}


def _told_apart(cosines: Matrix, facts: Sequence[Json], field: str) -> dict[str, Value]:
    """The mean over pairs that share a field, and over those that do not."""
    names = [fact[field] for fact in facts]
    known = np.array([name is not None for name in names], dtype=bool)
    same = np.array([[one == other for other in names] for one in names], dtype=bool)
    both = known[:, None] & known if names else same
    return {
        f"cosine.same_{field}": _mean(np.where(both & same, cosines, np.nan)),
        f"cosine.other_{field}": _mean(np.where(both & ~same, cosines, np.nan)),
    }


def _mean(cosines: Matrix) -> Value:
    """The mean over pairs; the interval draws facts, each with its pairs with those drawn."""
    pairs = int(np.isfinite(cosines).sum()) // 2
    sums, counts = np.nan_to_num(cosines), np.isfinite(cosines).astype(float)

    def mean(drawn: Sequence[int]) -> float | None:
        times = np.bincount(drawn, minlength=len(cosines)).astype(float)
        size = times @ counts @ times
        return float(times @ sums @ times / size) if size else None

    members = list(range(len(cosines)))
    low, high = interval(members, mean) if pairs else (None, None)
    value = mean(members) if members else None
    return Value(value=value, n=pairs, clusters=len(members), low=low, high=high)


def _layers(rows: Sequence[Json]) -> Json:
    depth = max((len(row["layers"]) for row in rows), default=0)
    cells = [[layer, *_weighted(rows, _at(layer))] for layer in range(depth)]
    return {"columns": ["layer", "cosine", "n"], "rows": cells}


def _at(layer: int) -> Callable[[Json], float | None]:
    return lambda row: row["layers"][layer]


def _kinds(rows: Sequence[Json]) -> Json:
    kinds = dict.fromkeys(kind for row in rows for kind in row["kinds"])
    cells = [[kind, *_weighted(rows, _of(kind))] for kind in kinds]
    return {"columns": ["kind", "cosine", "n"], "rows": cells}


def _of(kind: str) -> Callable[[Json], float | None]:
    return lambda row: row["kinds"].get(kind)


def _weighted(
    rows: Sequence[Json], pick: Callable[[Json], float | None]
) -> tuple[float | None, int]:
    """The mean over pairs of facts, and how many these are. A pair within a block comes twice."""
    total = weight = 0.0
    for row in rows:
        value = pick(row)
        if value is not None:
            size = row["others"] / (2 if "question" in row else 1)
            total, weight = total + size * value, weight + size
    return (total / weight if weight else None), int(weight)
