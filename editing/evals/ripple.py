"""Suite `ripple`: what one edit moved beside itself, by the six criteria of RippleEdits.

A case is one edit. Asked in turn: the conditions and what must stay, of the model before the edit;
then, for the tests that count, every query of the model before, after, and with the new fact put
before the prompt in words (the in-context baseline).

Rows: one `edit`, one `query` a query, one `skipped` for each thing that could not be measured.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from editing.datasets.ripple_types import RippleCase, RippleQuery, RippleTest
from editing.metrics.ripple import (
    Asked,
    Direct,
    Reading,
    conditions_met,
    direct,
    failure_of,
    imagined,
    read,
    sayable_tests,
)
from editing.run import under
from editing.step import Step

from .catalogue import Json
from .options import RippleOptions
from .scene import Scene

_TEXT = 200  # characters of a text that a row keeps


@dataclass(frozen=True, slots=True)
class _Test:
    """A test that can be asked, and why it does not count (None: it does)."""

    number: int
    test: RippleTest
    asked: list[Asked]
    unmet: RippleQuery | None


def measure(scene: Scene, case: RippleCase) -> Generator[Step, None, list[Json]]:
    """The rows of one edit. Raises EditFailed or BadRequest."""
    view, options = scene.view, scene.options
    request = case.request
    edited = (yield from scene.edited([request])).state
    states = {"before": view.current, "after": edited}
    if options.in_context:
        states["in_context"] = imagined(view, request)
    directs: dict[str, Direct] = {}
    for name, state in states.items():
        directs[name] = yield from under(view, state, direct(view, case, options.max_tokens))
    tests, skipped = yield from _testable(scene, case)
    chosen = [one for one in tests if one.unmet is None or options.untestable]
    queries = [query for one in chosen for query in one.asked]
    readings: dict[str, Sequence[Reading]] = {}
    for name, state in states.items():
        readings[name] = yield from under(view, state, read(view, queries, options.max_tokens))
    rows = [_edit_row(case, directs), *_query_rows(case, tests, chosen, readings)]
    return [*rows, *skipped]


def _testable(
    scene: Scene, case: RippleCase
) -> Generator[Step, None, tuple[list[_Test], list[Json]]]:
    options: RippleOptions = scene.options
    skipped = [_skipped(skip.why, skip.criterion, skip.prompt) for skip in case.skipped]
    several, size = options.several, options.max_tokens
    found = sayable_tests(scene.view, case.tests, several, options.names, size)
    why = "an answer tokenizes to nothing, or there is no room for it."
    skipped += [
        _skipped(why, test.criterion, test.queries[0].prompt)
        for test, asked in zip(case.tests, found, strict=True)
        if asked is None
    ]
    sayable = [(number, asked) for number, asked in enumerate(found) if asked is not None]
    tests = [case.tests[number] for number, _ in sayable]
    unmet = yield from conditions_met(scene.view, tests, several, size)
    return [
        _Test(number, test, asked, missing)
        for (number, asked), test, missing in zip(sayable, tests, unmet, strict=True)
    ], skipped


def _skipped(why: str, criterion: str | None, prompt: str | None) -> Json:
    return {"kind": "skipped", "criterion": criterion, "why": why, "prompt": prompt}


def _edit_row(case: RippleCase, directs: dict[str, Direct]) -> Json:
    request = case.request
    row: Json = {
        "kind": "edit",
        "record": case.number,
        "split": case.split,
        "subject": request.subject,
        "prompt": request.prompt,
        "target_new": request.target_new,
        "target_true": request.target_true,
        # Whether the model knew what the benchmark takes for known (popular and random), or knew
        # already what it takes for new (recent): a flag, no test is left out for it.
        "knew_old": directs["before"].says_old if request.target_true is not None else None,
        "knew_new": directs["before"].says_new,
    }
    for name, found in directs.items():
        row |= {
            f"says_new_{name}": found.says_new,
            f"greedy_{name}": found.new.greedy,
            f"prefers_{name}": found.prefers,
            f"logprob_{name}": found.new.logprob,
            f"text_{name}": found.text[:_TEXT],
        }
    return row


def _query_rows(
    case: RippleCase,
    tests: Sequence[_Test],
    chosen: Sequence[_Test],
    readings: dict[str, Sequence[Reading]],
) -> list[Json]:
    numbers = {one.number for one in chosen}
    at = 0
    rows: list[Json] = []
    for one in tests:
        for query in one.asked:
            row = _row_of(one, query)
            if one.number in numbers:
                row |= _told(case, one, query, {name: of[at] for name, of in readings.items()})
                at += 1
            rows.append(row)
    return rows


def _row_of(one: _Test, query: Asked) -> Json:
    return {
        "kind": "query",
        "test": one.number,
        "criterion": one.test.criterion,
        "condition": one.test.condition,
        "conditions": len(one.test.conditions),
        "testable": one.unmet is None,
        "unmet": one.unmet and one.unmet.prompt,
        "prompt": query.query.prompt,
        "answer": query.query.answer,
        "values": len(query.query.answers),
        "every": query.every,
    }


def _told(case: RippleCase, one: _Test, query: Asked, readings: dict[str, Reading]) -> Json:
    row: Json = {}
    for name, reading in readings.items():
        row |= {
            f"right_{name}": reading.right,
            f"greedy_{name}": reading.score.greedy,
            f"logprob_{name}": reading.score.logprob,
            f"text_{name}": reading.text[:_TEXT],
        }
    row["gain"] = readings["after"].score.logprob - readings["before"].score.logprob
    row["failure"] = None
    if not readings["after"].right:
        asks_the_fact = one.test.criterion == "subject_aliasing"
        old = [case.request.target_true] if asks_the_fact and case.request.target_true else []
        said, before = readings["after"].text, readings["before"].text
        row["failure"] = failure_of(said, before, query.query.prompt, old)
    return row
