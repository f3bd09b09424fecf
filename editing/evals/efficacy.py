"""Suite `efficacy`: our own edit requests, before and after they are written.

Without an editor nothing is written, and the rows say how the state that is measured answers them.
"""

from collections.abc import Generator, Sequence
from typing import Any

from editing.datasets.requests import DATASET
from editing.datasets.sets import RecordSet
from editing.metrics.counterfact import rivals
from editing.metrics.values import as_json
from editing.request import EditRequest
from editing.run import under
from editing.step import Step

from .catalogue import Json
from .fact_rows import Told, fact_row, told
from .fact_values import fact_values
from .in_sets import Written, failures, left_out, place_of, written
from .scene import Scene


def measure(
    scene: Scene, case: RecordSet[tuple[int, EditRequest]]
) -> Generator[Step, None, list[Json]]:
    """The rows of one set of requests. Raises EditFailed or BadRequest."""
    view, size = scene.view, scene.options.max_tokens
    numbers = [number for number, _ in case.records]
    requests = [request for _, request in case.records]
    rival = yield from rivals(view, requests)
    pairs = list(zip(requests, rival, strict=True))
    before: list[Told] = []
    for request, old in pairs:
        before.append((yield from told(view, request, old, size)))
    rows = left_out(case, DATASET)
    if scene.plan is None:
        return rows + [
            {"record": number, **fact_row(request, old, {"after": now})}
            for number, (request, old), now in zip(numbers, pairs, before, strict=True)
        ]
    done: Written = yield from written(scene, requests, chained=case.mode == "consecutive")
    for place, (request, old) in enumerate(pairs):
        if place in done.failed:
            continue
        now = yield from under(view, done.state, told(view, request, old, size))
        row = fact_row(request, old, {"before": before[place], "after": now})
        rows.append({"record": numbers[place], **place_of(case, place), **row})
    return rows + failures(numbers, done.failed)


def summarise(rows: Sequence[Json], _options: Any) -> Json:  # noqa: ANN401 - EfficacyOptions
    """Success, magnitude, accuracy and generated of each part; the score."""
    return {"values": as_json(fact_values(rows))}
