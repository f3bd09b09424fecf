"""Suite `zsre`: token accuracy and generated answers of MEND's part of zsRE (METRICS 4)."""

from collections.abc import Generator, Sequence
from typing import Any

from editing.datasets.sets import RecordSet
from editing.datasets.zsre import DATASET, ZsreRecord
from editing.metrics.values import as_json
from editing.metrics.zsre import ZsreScores, measure_zsre
from editing.run import under
from editing.step import Step

from .catalogue import Json
from .fact_values import arithmetic, mean_value, score_value
from .in_sets import failures, left_out, place_of, written
from .scene import Scene

_SCORED = ("efficacy", "generality", "loc_agree")  # CTP's score is their mean
_SAID = ("efficacy", "generality", "locality")
_TEXT = 200  # characters of a text that a row keeps


def measure(scene: Scene, case: RecordSet[ZsreRecord]) -> Generator[Step, None, list[Json]]:
    """The rows of one set of records. Raises EditFailed or BadRequest."""
    view, size = scene.view, scene.options.max_tokens
    before: list[ZsreScores] = []
    for record in case.records:
        scores = yield from measure_zsre(view, record, size)
        before.append(scores)
    rows = left_out(case, DATASET)
    requests = [record.request for record in case.records]
    done = yield from written(scene, requests, chained=case.mode == "consecutive")
    for place, (record, was) in enumerate(zip(case.records, before, strict=True)):
        if place not in done.failed:
            now = yield from under(view, done.state, measure_zsre(view, record, size))
            about = {"record": record.number, **place_of(case, place)}
            rows.append({**about, **_row(record, was, now)})
    return rows + failures([record.number for record in case.records], done.failed)


def _row(record: ZsreRecord, was: ZsreScores, now: ZsreScores) -> Json:
    row: Json = {
        "subject": record.request.subject,
        "question": record.request.question,
        "target_new": record.request.target_new,
        "locality": record.locality,
    }
    for state, found in (("before", was), ("after", now)):
        row |= {f"{name}_{state}": value for name, value in found.figures(was).items()}
        if found.said is not None and found.text is not None:
            said = zip(_SAID, found.said, strict=True)
            row |= {f"{name}_generated_{state}": told for name, told in said}
            row[f"text_{state}"] = found.text[:_TEXT]
    return row


def summarise(rows: Sequence[Json], _options: Any) -> Json:  # noqa: ANN401 - ZsreOptions
    """Each measure teacher-forced and, where texts were written, generated; CTP's score."""
    names = ("efficacy", "generality", "loc_gt", "loc_agree")
    columns = {name: name for name in names}
    columns |= {f"{name}.generated": f"{name}_generated" for name in _SAID}
    found = {name: mean_value(rows, column) for name, column in columns.items()}
    values = {name: value for name, value in found.items() if value is not None}
    return {"values": as_json(values | {"score": score_value(rows, _SCORED, arithmetic)})}
