"""The rows of suite `ripple` together (METRICS 2.3). No torch.

    rate of an edit      passed tests / tests that count, of one criterion
    criterion            mean of that rate over the edits with at least one test that counts
    ripple score         unweighted mean of the criteria; propagate and preserve likewise

Headline numbers are of edits that succeeded: the model then says the new target of itself.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from editing.datasets.ripple_types import CRITERIA, PRESERVE, PROPAGATE, REASONING, UNNAMED
from editing.metrics.values import Value, as_json, interval, mean_of

from .catalogue import Json

_NAMES = (*CRITERIA, REASONING, UNNAMED)
_FAILURES = ("no_effect", "abstain", "noise")


@dataclass(frozen=True, slots=True)
class Test:
    """A test of one edit, by the rows of its queries."""

    case: int
    criterion: str
    testable: bool
    rows: Sequence[Json]

    def passed(self, key: str) -> bool:
        """Whether it is passed, where `key` names what tells a right answer."""
        right = [bool(row[key]) for row in self.rows]
        return all(right) if self.rows[0]["condition"] == "and" else any(right)

    @property
    def gain(self) -> float:
        """Mean growth of the log-probability of its answers, in nats."""
        return sum(row["gain"] for row in self.rows) / len(self.rows)


def summarise(rows: Sequence[Json], _options: object) -> Json:
    """Values, and the tables `criteria`, `failures` and `skipped`."""
    edits = [row for row in rows if row["kind"] == "edit"]
    tests = _tests(row for row in rows if row["kind"] == "query")
    in_context = any("says_new_in_context" in row for row in edits)
    values = _edit_values(edits, in_context=in_context)
    won = {row["case"] for row in edits if row["says_new_after"]}
    mine = [test for test in tests if test.case in won]
    values |= _scores(mine, "right_after", "right_before")
    values |= _named(_scores(tests, "right_after", "right_before"), "all_edits")
    values |= _named(_criteria(mine, "greedy_after", "greedy_before"), "forced")
    values |= _gains(mine)
    if in_context:
        told = {row["case"] for row in edits if row["says_new_in_context"]}
        there = [test for test in tests if test.case in told]
        values |= _named(_scores(there, "right_in_context", "right_before"), "in_context")
    return {
        "values": as_json(values),
        "tables": {
            "criteria": _criteria_table(values),
            "failures": _failures(mine),
            "skipped": _skipped(rows),
        },
    }


def _tests(rows: Iterable[Json]) -> list[Test]:
    groups: dict[tuple[int, int], list[Json]] = {}
    for row in rows:
        groups.setdefault((row["case"], row["test"]), []).append(row)
    return [
        Test(case, group[0]["criterion"], group[0]["testable"], group)
        for (case, _), group in groups.items()
    ]


def _edit_values(edits: Sequence[Json], *, in_context: bool) -> dict[str, Value]:
    """How many edits succeeded: in its own words, teacher-forced, against the old target."""

    def share(key: str, state: str) -> Value:
        known = [row for row in edits if row[f"{key}_{state}"] is not None]
        before = [[row[f"{key}_before"]] for row in known]
        return mean_of([[row[f"{key}_{state}"]] for row in known], before=before, n=len(edits))

    found = {
        "edit_success": share("says_new", "after"),
        "edit_success.forced": share("greedy", "after"),
        "edit_success.prefers": share("prefers", "after"),
    }
    if in_context:
        found["edit_success.in_context"] = share("says_new", "in_context")
    return found


def _named(values: dict[str, Value], of: str) -> dict[str, Value]:
    return {f"{name}.{of}": value for name, value in values.items()}


def _rates(tests: Sequence[Test], key: str) -> dict[int, dict[str, float]]:
    """By edit, then by criterion: the share of its tests that are passed."""
    passed: dict[tuple[int, str], list[bool]] = {}
    for test in tests:
        if test.testable:
            passed.setdefault((test.case, test.criterion), []).append(test.passed(key))
    found: dict[int, dict[str, float]] = {}
    for (case, criterion), some in passed.items():
        found.setdefault(case, {})[criterion] = sum(some) / len(some)
    return found


def _criteria(tests: Sequence[Test], key: str, before: str) -> dict[str, Value]:
    now, was = _rates(tests, key), _rates(tests, before)
    found: dict[str, Value] = {}
    for name in _NAMES:
        asked = [test for test in tests if test.criterion == name]
        if not asked:
            continue
        rates = [[of[name]] for of in now.values() if name in of]
        old = [[of[name]] for of in was.values() if name in of]
        testable = sum(test.testable for test in asked)
        found[name] = replace(mean_of(rates, before=old), n=len(asked), n_testable=testable)
    return found


def _scores(tests: Sequence[Test], key: str, before: str) -> dict[str, Value]:
    """Each criterion, and the means of them."""
    found = _criteria(tests, key, before)
    now, was = _rates(tests, key), _rates(tests, before)
    groups = {"ripple_score": CRITERIA, "propagate": PROPAGATE, "preserve": PRESERVE}
    for name, criteria in groups.items():
        # Reasoning is either compositionality: it counts where no test says which.
        told = {test.criterion for test in tests if test.testable}
        merged = name != "preserve" and not told & {"compositionality_i", "compositionality_ii"}
        mean = _mean_of_means([*criteria, *([REASONING] if merged else [])])
        asked = [test for test in tests if test.criterion in (*criteria, REASONING)]
        low, high = interval(list(now.values()), mean)
        found[name] = Value(
            value=mean(list(now.values())),
            n=len(asked),
            n_testable=sum(test.testable for test in asked),
            clusters=len(now),
            low=low,
            high=high,
            before=mean(list(was.values())),
        )
    return found


def _mean_of_means(
    criteria: Sequence[str],
) -> Callable[[Sequence[dict[str, float]]], float | None]:
    def mean(edits: Sequence[dict[str, float]]) -> float | None:
        means: list[float] = []
        for name in criteria:
            rates = [rate[name] for rate in edits if name in rate]
            if rates:
                means.append(sum(rates) / len(rates))
        return sum(means) / len(means) if means else None

    return mean


def _gains(tests: Sequence[Test]) -> dict[str, Value]:
    """Mean growth of the likeliest answer's log-probability in nats, by criterion."""
    found: dict[str, Value] = {}
    for name in _NAMES:
        mine = [test for test in tests if test.criterion == name and test.testable]
        by_edit: dict[int, list[float]] = {}
        for test in mine:
            by_edit.setdefault(test.case, []).append(test.gain)
        if mine:
            found[f"{name}.gain"] = mean_of(list(by_edit.values()))
    return found


def _criteria_table(values: dict[str, Value]) -> Json:
    columns = [
        "criterion", "edits", "tests", "testable", "before", "after", "low", "high",
        "forced", "all_edits", "in_context", "gain",
    ]  # fmt: skip
    rows: list[list[object]] = []
    for name in (*_NAMES, "propagate", "preserve", "ripple_score"):
        value = values.get(name)
        if value is None:
            continue
        others = (
            values.get(f"{name}.{of}") for of in ("forced", "all_edits", "in_context", "gain")
        )
        testable = value.n_testable or 0
        told = [value.before, value.value, value.low, value.high]
        row = [name, value.clusters, value.n, testable / value.n if value.n else None, *told]
        rows.append([*row, *(other and other.value for other in others)])
    return {"columns": columns, "rows": rows}


def _failures(tests: Sequence[Test]) -> Json:
    """Of the queries of tests that count: how many were right, or wrong in which way."""
    rows: list[list[object]] = []
    for name in _NAMES:
        mine = [row for t in tests if t.criterion == name and t.testable for row in t.rows]
        if mine:
            kinds = [row["failure"] for row in mine]
            rows.append([name, kinds.count(None), *(kinds.count(kind) for kind in _FAILURES)])
    return {"columns": ["criterion", "right", *_FAILURES], "rows": rows}


def _skipped(rows: Sequence[Json]) -> Json:
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        if row["kind"] == "skipped":
            key = (row["criterion"] or "", row["why"])
            counts[key] = counts.get(key, 0) + 1
    return {
        "columns": ["criterion", "why", "count"],
        "rows": [[criterion, why, count] for (criterion, why), count in sorted(counts.items())],
    }
