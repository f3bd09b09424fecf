"""The rows of suite `failures` together, kind by kind. No torch."""

from collections.abc import Callable, Sequence

from editing.metrics.correlation import correlated
from editing.metrics.values import Value, as_json, mean_of

from .catalogue import Json

_NEARER = 0.1  # by how much the wrong answer must be the more alike one to be called so


def summarise(rows: Sequence[Json], _options: object) -> Json:
    """Values of each kind, and the tables `languages` and `skipped`."""
    kinds = {
        kind: [row for row in rows if row["kind"] == kind]
        for kind in ("negation", "over_ripple", "cross_lingual")
    }
    edits = {row["case"]: row for some in kinds.values() for row in some}
    values = {
        "success": mean_of([[row["success"]] for row in edits.values()]),
        "edit_gain": mean_of([[row["edit_gain"]] for row in edits.values()]),
        **_negation(kinds["negation"]),
        **_over(kinds["over_ripple"]),
        **_foreign(kinds["cross_lingual"], "cross_lingual"),
    }
    foreign = kinds["cross_lingual"]
    languages = dict.fromkeys(row["language"] for row in foreign)
    for language in languages:
        mine = [row for row in foreign if row["language"] == language]
        values |= _foreign(mine, f"cross_lingual.{language}")
    return {
        "values": as_json(values),
        "tables": {"relations": _relations(foreign), "skipped": _skipped(rows)},
        "fit": _fit(kinds["negation"]),
    }


def _negation(rows: Sequence[Json]) -> dict[str, Value]:
    """How alike the negated statement is, and how much it gains beside the edit itself."""
    clusters = [row["case"] for row in rows]
    denied = correlated(_all(rows, "logprob_edit_after"), _all(rows, "logprob_after"), clusters)
    gained = correlated(_all(rows, "edit_gain"), _all(rows, "gain"), clusters)
    return {
        "negation.gradsim": _mean(rows, "gradsim"),
        "negation.gain": _mean(rows, "gain"),
        "negation.says": _mean(rows, "says_after", "says_before"),
        "negation.logprob.pearson": denied.pearson,
        "negation.logprob.slope": denied.slope,
        "negation.gain.pearson": gained.pearson,
        "negation.gain.slope": gained.slope,
    }


def _fit(rows: Sequence[Json]) -> Json:
    """log P(not x) = intercept + slope log P(x), of the edited model."""
    clusters = [row["case"] for row in rows]
    found = correlated(_all(rows, "logprob_edit_after"), _all(rows, "logprob_after"), clusters)
    return {"slope": found.slope.value, "intercept": found.intercept}


def _over(rows: Sequence[Json]) -> dict[str, Value]:
    """Ripple queries: the right answer beside the edit's own, which is wrong there."""

    def nearer(row: Json) -> bool:
        return row["gradsim_wrong"] > row["gradsim_right"] + _NEARER

    near = [row for row in rows if nearer(row)]
    return {
        "over_ripple.gradsim_right": _mean(rows, "gradsim_right"),
        "over_ripple.gradsim_wrong": _mean(rows, "gradsim_wrong"),
        "over_ripple.gain_right": _mean(rows, "gain_right"),
        "over_ripple.gain_wrong": _mean(rows, "gain_wrong"),
        "over_ripple.nearer": mean_of(_by_case(rows, nearer)),
        "over_ripple.says_wrong": _mean(rows, "says_wrong_after", "says_wrong_before"),
        "over_ripple.says_right": _mean(rows, "says_right_after", "says_right_before"),
        "over_ripple.prefers_wrong": _mean(rows, "prefers_wrong_after", "prefers_wrong_before"),
        "over_ripple.says_wrong.where_nearer": _mean(near, "says_wrong_after", "says_wrong_before"),
    }


def _foreign(rows: Sequence[Json], name: str) -> dict[str, Value]:
    return {
        f"{name}.gradsim": _mean(rows, "gradsim"),
        f"{name}.gain": _mean(rows, "gain"),
        f"{name}.says": _mean(rows, "says_after", "says_before"),
        f"{name}.forced": _mean(rows, "forced_after", "forced_before"),
    }


def _relations(rows: Sequence[Json]) -> Json:
    """One row for each relation and language."""
    keys = dict.fromkeys((row["relation"], row["language"]) for row in rows)
    cells: list[list[object]] = []
    for relation, language in keys:
        mine = [r for r in rows if (r["relation"], r["language"]) == (relation, language)]
        means = [_mean(mine, name).value for name in ("gradsim", "gain", "says_after")]
        cells.append([relation, language, len(mine), *means])
    columns = ["relation", "language", "n", "gradsim", "gain", "says"]
    return {"columns": columns, "rows": sorted(cells, key=lambda row: (str(row[0]), str(row[1])))}


def _skipped(rows: Sequence[Json]) -> Json:
    whys = [(row["of"], row["why"]) for row in rows if row["kind"] == "skipped"]
    cells = [[of, why, whys.count((of, why))] for of, why in dict.fromkeys(whys)]
    return {"columns": ["kind", "why", "n"], "rows": cells}


def _all(rows: Sequence[Json], name: str) -> list[float | None]:
    return [row[name] for row in rows]


def _mean(rows: Sequence[Json], name: str, before: str | None = None) -> Value:
    old = None if before is None else _by_case(rows, lambda row: row[before])
    return mean_of(_by_case(rows, lambda row: row[name]), before=old)


def _by_case(rows: Sequence[Json], pick: Callable[[Json], float]) -> list[list[float]]:
    cases: dict[int, list[float]] = {}
    for row in rows:
        cases.setdefault(row["case"], []).append(float(pick(row)))
    return list(cases.values())
