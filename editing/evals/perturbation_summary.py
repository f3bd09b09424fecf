"""What the rows of a perturbation study say together: scores of each arm, and SD between two."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from editing.metrics.values import Value, as_json, harmonic, interval, mean_of

if TYPE_CHECKING:
    from .options import PerturbationOptions

Json = dict[str, Any]
Case = Mapping[str, Sequence[Json]]  # one case's rows of edits, by arm

_SCORES = ("es", "ps", "ns")
_BESIDE = ("accuracy", "generated", "p_new", "p_true", "ps_accuracy", "ns_accuracy")
_CONTRASTED = ("accuracy", "generated")  # ES may stay 1 where the answer is already lost
_ORDER = ("same", "different", "high", "medium", "low")
_CONTRASTS = (("same", "different"), ("high", "low"))


def summarise(rows: Sequence[Json], options: "PerturbationOptions") -> Json:
    """ES, PS, NS and S of the first edit and of all, SD, and what keys and changes share."""
    skipped: dict[str, int] = {}
    for row in rows:
        if "skipped" in row:
            skipped[row["skipped"]] = skipped.get(row["skipped"], 0) + 1
    edits = [row for row in rows if row.get("row") == "edit"]
    arms = [arm for arm in _ORDER if any(row["arm"] == arm for row in edits)]
    last = [row for row in edits if row["after"] == row["k"]]
    values: dict[str, Value] = {}
    for ending, some in (("", _firsts(last)), ("_all", last)):
        cases = _by_case(some)
        for arm in arms:
            values |= {f"{n}_{arm}{ending}": v for n, v in _of_arm(cases, arm).items()}
        for one, other in _CONTRASTS:
            if one in arms:
                values[f"sd{ending}"] = _difference(cases, one, other)
                for name in _CONTRASTED:
                    values[f"sd_{name}{ending}"] = _gap(cases, one, other, name)
    for arm in arms:
        values |= _beside(rows, arm)
    return {
        "design": options.design,
        "commits": options.commits,
        "k": options.k,
        "skipped": skipped,
        "values": as_json(values),
        "tables": {
            "by_k": _by_k(edits, arms),
            "retention": _retention(edits, arms),
            "spots": _spots(rows, arms),
            "weights": _weights(rows, arms),
        },
    }


def _firsts(rows: Iterable[Json]) -> list[Json]:
    return [row for row in rows if row["position"] == 0]


def _by_case(rows: Iterable[Json]) -> list[Case]:
    found: dict[int, dict[str, list[Json]]] = {}
    for row in rows:
        found.setdefault(row["case"], {}).setdefault(row["arm"], []).append(row)
    return list(found.values())


# ---- scores --------------------------------------------------------------------------------------


def _of_arm(cases: Sequence[Case], arm: str) -> dict[str, Value]:
    """Every score of an arm, and S of their means."""
    found = {
        name: mean_of(
            [_numbers(case[arm], name) for case in cases],
            before=[_numbers(case[arm], f"{name}_before") for case in cases],
            n=sum(len(case[arm]) for case in cases),
        )
        for name in (*_SCORES, *_BESIDE)
    }
    sums = [_sums(case[arm]) for case in cases]
    low, high = interval(sums, _s_of)
    found["s"] = Value(
        value=_s_of(sums),
        n=sum(len(case[arm]) for case in cases),
        clusters=len(cases),
        low=low,
        high=high,
        before=_s_of([_sums(case[arm], "_before") for case in cases]),
    )
    return found


def _numbers(rows: Sequence[Json], name: str) -> list[float]:
    return [float(row[name]) for row in rows if row.get(name) is not None]


def _sums(rows: Sequence[Json], ending: str = "") -> "np.ndarray":
    """Sum and count of ES, PS and NS [3, 2]: what means of many cases are made of."""
    found = [_numbers(rows, name + ending) for name in _SCORES]
    return np.array([[sum(numbers), len(numbers)] for numbers in found], dtype=float)


def _s_of(sums: Sequence["np.ndarray"]) -> float | None:
    """S of the means over these cases; None where one of the three was never measured."""
    if not sums:
        return None
    total = np.sum(sums, axis=0)
    return harmonic([float(part / count) if count else None for part, count in total])


def _difference(cases: Sequence[Case], one: str, other: str) -> Value:
    """SD = S(one) - S(other) in percentage points; whole cases are drawn, both arms with them."""
    pairs = [(_sums(case[one]), _sums(case[other])) for case in cases]

    def sd(some: Sequence[tuple["np.ndarray", "np.ndarray"]]) -> float | None:
        first, second = _s_of([a for a, _ in some]), _s_of([b for _, b in some])
        return None if first is None or second is None else 100 * (first - second)

    low, high = interval(pairs, sd)
    n = sum(len(case[one]) for case in cases)
    before = [(_sums(c[one], "_before"), _sums(c[other], "_before")) for c in cases]
    return Value(value=sd(pairs), n=n, clusters=len(cases), low=low, high=high, before=sd(before))


def _gap(cases: Sequence[Case], one: str, other: str, name: str) -> Value:
    """The same difference of one score alone, in percentage points."""

    def gap(some: Sequence[Case], ending: str = "") -> float | None:
        sides: list[float] = []
        for arm in (one, other):
            found = [n for case in some for n in _numbers(case[arm], name + ending)]
            if not found:
                return None
            sides.append(sum(found) / len(found))
        return 100 * (sides[0] - sides[1])

    low, high = interval(cases, gap)
    return Value(
        value=gap(cases),
        n=sum(len(case[one]) for case in cases),
        clusters=len(cases),
        low=low,
        high=high,
        before=gap(cases, "_before"),
    )


def _beside(rows: Sequence[Json], arm: str) -> dict[str, Value]:
    """Drift of an arm, and how alike the keys of its edits are."""
    arms = [row for row in rows if row.get("row") == "arm" and row["arm"] == arm]
    found = {
        f"{name}_{arm}": mean_of(
            [[row[name]] for row in arms], before=[[row[f"{name}_before"]] for row in arms]
        )
        for name in ("kl", "perplexity", "norm_ratio")
    }
    pairs = [row for row in rows if row.get("row") == "pair" and row["arm"] == arm]
    if pairs:
        by_case: dict[int, list[Json]] = {}
        for row in pairs:
            by_case.setdefault(row["case"], []).append(row)
        groups = list(by_case.values())
        found[f"key_cosine_{arm}"] = mean_of(
            [[one for row in group for one in row["key_cosine"]] for group in groups]
        )
        found[f"duplicates_{arm}"] = mean_of(
            [[row["duplicates"] / max(len(row["spots"]), 1) for row in group] for group in groups]
        )
    return found


# ---- tables --------------------------------------------------------------------------------------


def _by_k(edits: Sequence[Json], arms: Sequence[str]) -> Json:
    """S of each arm and SD after so many edits, of the first edit and of all."""
    lines: list[list[Any]] = []
    for after in sorted({row["after"] for row in edits}):
        here = [row for row in edits if row["after"] == after]
        for of, some in (("first", _firsts(here)), ("all", here)):
            cases = _by_case(some)
            for one, other in _CONTRASTS:
                if one in arms and after > 1:
                    sides = [_s_of([_sums(case[arm]) for case in cases]) for arm in (one, other)]
                    sd = _difference(cases, one, other)
                    lines.append([after, of, *sides, sd.value, sd.low, sd.high, len(cases)])
    columns = ["k", "of", "s_same", "s_different", "sd", "low", "high", "subjects"]
    return {"columns": columns, "rows": lines}


def _retention(edits: Sequence[Json], arms: Sequence[str]) -> Json:
    """ES of an edit after so many later ones of its arm."""
    lines: list[list[Any]] = []
    for arm in arms:
        mine = [row for row in edits if row["arm"] == arm]
        for later in sorted({row["after"] - 1 - row["position"] for row in mine}):
            some = [row for row in mine if row["after"] - 1 - row["position"] == later]
            found = mean_of([_numbers(case[arm], "es") for case in _by_case(some)])
            lines.append([arm, later, found.value, found.low, found.high, found.n, found.clusters])
    return {"columns": ["arm", "later", "es", "low", "high", "edits", "subjects"], "rows": lines}


def _spots(rows: Sequence[Json], arms: Sequence[str]) -> Json:
    """Mean key cosine at every edited layer."""
    names = ["key_cosine"]
    lines = [[arm, *line] for arm in arms for line in _means(rows, arm, "spots", names)]
    return {"columns": ["arm", "spot", *names, "pairs"], "rows": lines}


def _weights(rows: Sequence[Json], arms: Sequence[str]) -> Json:
    """What changes of every edited weight have in common."""
    names = ["jaccard_0.001", "jaccard_0.01", "jaccard_0.05", "cosine", "overlap"]
    lines = [[arm, *line] for arm in arms for line in _means(rows, arm, "weights", names)]
    return {"columns": ["arm", "weight", *names, "pairs"], "rows": lines}


def _means(rows: Sequence[Json], arm: str, label: str, names: Sequence[str]) -> Iterator[list[Any]]:
    """For each label of the pairs of an arm: the label, the mean of each named number, and n."""
    found: dict[str, list[list[float | None]]] = {}
    for row in rows:
        if row.get("row") == "pair" and row["arm"] == arm:
            columns = zip(*(row[name] for name in names), strict=True) if row.get(label) else ()
            for one, numbers in zip(row.get(label, ()), columns, strict=True):
                found.setdefault(one, []).append(list(numbers))
    for one, lines in found.items():
        columns = (
            [part for part in column if part is not None] for column in zip(*lines, strict=True)
        )
        means = [sum(column) / len(column) if column else None for column in columns]
        yield [one, *means, len(lines)]
