"""The rows of suite `correlation` together: every predictor against every outcome. No torch."""

from collections.abc import Callable, Sequence

from editing.metrics.correlation import LIKELY, Correlated, Correlations, separation, winsorised
from editing.metrics.values import Value, as_json, mean_of

from .catalogue import Json

PREDICTORS = (
    "gradsim",
    "gradsim_mlp",
    "gradsim_down_proj",
    "gradsim_edited",
    "embedding",
    "hidden",
    "key",
    "attention",
)
OUTCOMES = (
    "gain",
    "gain_per_token",
    "relative_gain",
    "relative_gain_winsorised",
    "sampled",
    "says_after",
    "forced_after",
)
GROUPS = ("all", "ripple", "preserve")
_DRAWS = 500  # for a table of hundreds of intervals
_FOLLOWS = 1.0  # nats that an answer must gain to have followed the edit


def summarise(rows: Sequence[Json], _options: object) -> Json:
    """Values of the headline, the table `correlations`, and the line through gain on GradSim."""
    edits = [row for row in rows if row["kind"] == "edit"]
    pairs = [row for row in rows if row["kind"] == "pair"]
    sets = {"all": pairs, "successful": [row for row in pairs if row["success"]]}
    found = {
        (*which, group, edited): one
        for edited, chosen in sets.items()
        for group in GROUPS
        for which, one in _correlations(chosen, group).items()
    }
    values: dict[str, Value] = {}
    for (predictor, outcome, group, edited), one in found.items():
        # GradSim with every outcome and every predictor with the gain, over all there is.
        if group == edited == "all" and (predictor == "gradsim" or outcome == "gain"):
            name = f"{predictor}.{outcome}"
            values |= {f"{name}.pearson": one.pearson, f"{name}.spearman": one.spearman}
    line = found.get(("gradsim", "gain", "all", "all"))
    return {
        "values": as_json({**values, **_levels(edits, pairs), **_likely(pairs)}),
        "tables": {
            "correlations": {
                "columns": _COLUMNS,
                "rows": [[*which, *_cells(one)] for which, one in found.items()],
            },
            "skipped": _skipped(rows),
        },
        "fit": line and {"slope": line.slope.value, "intercept": line.intercept},
    }


def _correlations(rows: Sequence[Json], group: str) -> dict[tuple[str, str], Correlated]:
    """Every predictor that was taken, with every outcome that was."""
    mine = [row for row in rows if group in {"all", row["group"]}]
    columns = _columns(mine)
    pairs = Correlations([row["case"] for row in mine], draws=_DRAWS)

    def taken(names: Sequence[str]) -> list[str]:
        return [name for name in names if any(value is not None for value in columns[name])]

    return {
        (predictor, outcome): pairs.of(columns[predictor], columns[outcome])
        for predictor in taken(PREDICTORS)
        for outcome in taken(OUTCOMES)
    }


_COLUMNS = [
    "predictor",
    "outcome",
    "group",
    "edits",
    "n",
    "n_testable",
    "clusters",
    *(f"{name}{end}" for name in ("pearson", "spearman", "slope") for end in ("", "_low", "_high")),
]


def _columns(rows: Sequence[Json]) -> dict[str, Sequence[float | None]]:
    """Predictors and outcomes by name; what a row lacks is None."""
    names = {*PREDICTORS, *OUTCOMES}
    found: dict[str, Sequence[float | None]] = {
        name: [None if row.get(name) is None else float(row[name]) for row in rows]
        for name in names
    }
    found["relative_gain_winsorised"] = winsorised(found["relative_gain"])
    return found


def _cells(found: Correlated) -> list[object]:
    first = found.pearson
    cells: list[object] = [first.n, first.n_testable, first.clusters]
    for value in (found.pearson, found.spearman, found.slope):
        cells += [value.value, value.low, value.high]
    return cells


def _headline(predictor: str, outcome: str, group: str) -> bool:
    """GradSim with every outcome, and every predictor with the gain: over all queries."""
    mine = predictor == "gradsim" or outcome == "gain"
    return group == "all" and mine


def _levels(edits: Sequence[Json], pairs: Sequence[Json]) -> dict[str, Value]:
    """What is correlated: how often edits succeed, and how large GradSim and the outcomes are."""
    values = {
        "success": mean_of([[row["success"]] for row in edits]),
        "success.forced": mean_of([[row["forced"]] for row in edits]),
    }
    for group in ("ripple", "preserve"):
        mine = [row for row in pairs if row["group"] == group]
        for name in ("gradsim", "gain", "sampled"):
            values[f"{group}.{name}"] = mean_of(_by_case(mine, _field(name)))
        for name in ("says", "forced"):
            after, before = (_by_case(mine, _field(f"{name}_{at}")) for at in ("after", "before"))
            values[f"{group}.{name}"] = mean_of(after, before=before)
    return values


def _likely(pairs: Sequence[Json]) -> dict[str, Value]:
    """How well GradSim tells, before an edit, the answers that gain at least a nat by it."""
    auc, best = separation([row["gradsim"] for row in pairs], [_follows(row) for row in pairs])
    clusters = len({row["case"] for row in pairs})
    followed = [row for row in pairs if _follows(row)]
    others = [row for row in pairs if not _follows(row)]
    return {
        "likely.auc": Value(value=auc, n=len(pairs), clusters=clusters),
        "likely.best_threshold": Value(value=best, n=len(pairs), clusters=clusters),
        "likely.followed": mean_of(_by_case(pairs, _follows)),
        "likely.sensitivity": mean_of(_by_case(followed, lambda row: row["gradsim"] >= LIKELY)),
        "likely.specificity": mean_of(_by_case(others, lambda row: row["gradsim"] < LIKELY)),
    }


def _follows(row: Json) -> bool:
    return row["gain"] >= _FOLLOWS


def _field(name: str) -> Callable[[Json], float | None]:
    return lambda row: row[name]


def _by_case(rows: Sequence[Json], pick: Callable[[Json], float | None]) -> list[list[float]]:
    """A number of each row, one list for each edit; rows without it are left out."""
    cases: dict[int, list[float]] = {}
    for row in rows:
        value = pick(row)
        if value is not None:
            cases.setdefault(row["case"], []).append(float(value))
    return list(cases.values())


def _skipped(rows: Sequence[Json]) -> Json:
    whys = [row["why"] for row in rows if row["kind"] == "skipped"]
    return {
        "columns": ["why", "n"],
        "rows": [[why, whys.count(why)] for why in dict.fromkeys(whys)],
    }
