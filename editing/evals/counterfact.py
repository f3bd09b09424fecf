"""Suite `counterfact`: ES, PS, NS, their magnitudes and score, fluency and consistency (METRICS 3).

The same run is scored by the metrics of the transmission-path paper as well (METRICS 0 and 10):
token accuracy of the new target behind prompt and paraphrases, and agreement with the choices of
the model before the edit at the answer of one neighbor.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from editing.datasets.counterfact import DATASET, CounterFactRecord
from editing.datasets.sets import RecordSet
from editing.metrics.consistency import consistency
from editing.metrics.counterfact import rivals
from editing.metrics.fluency import fluency, free_texts
from editing.metrics.tokens_accuracy import Choices, choices
from editing.metrics.values import as_json
from editing.run import under
from editing.step import Step

from .catalogue import Json
from .fact_rows import Told, fact_row, told
from .fact_values import arithmetic, fact_values, mean_value, score_value
from .in_sets import failures, left_out, place_of, written
from .options import CounterFactOptions
from .scene import Scene

if TYPE_CHECKING:
    from editing.model.view import ModelView

# Beside what every fact has. Token accuracies of prompt and paraphrases are there already.
_COLUMNS = {
    "fluency": "fluency",
    "consistency.small_corpus": "consistency",
    "tokens.locality": "agreement",
}
_TOKENS = ("efficacy_tokens", "paraphrase_tokens", "agreement")  # the transmission-path paper's


@dataclass(frozen=True, slots=True)
class _State:
    """What one state of the model makes of one record."""

    fact: Told
    near: Choices | None  # at the first neighbor's answer
    texts: list[str]


def measure(scene: Scene, case: RecordSet[CounterFactRecord]) -> Generator[Step, None, list[Json]]:
    """The rows of one set of records. Raises EditFailed or BadRequest."""
    view, options = scene.view, scene.options
    requests = [record.request for record in case.records]
    rival = yield from rivals(view, requests)
    before: list[_State] = []
    for record, old in zip(case.records, rival, strict=True):
        before.append((yield from _asked(view, record, old, options)))
    done = yield from written(scene, requests, chained=case.mode == "consecutive")
    rows = left_out(case, DATASET)
    for place, (record, old, was) in enumerate(zip(case.records, rival, before, strict=True)):
        if place not in done.failed:
            now = yield from under(view, done.state, _asked(view, record, old, options))
            about = {"record": record.number, **place_of(case, place)}
            rows.append({**about, **_row(record, old, was, now)})
    return rows + failures([record.number for record in case.records], done.failed)


def _asked(
    view: "ModelView", record: CounterFactRecord, rival: str, options: CounterFactOptions
) -> Generator[Step, None, _State]:
    request = record.request
    fact = yield from told(view, request, rival, options.max_tokens)
    near: list[Choices] = []
    if request.neighborhood:
        first = request.neighborhood[0]
        near = yield from choices(view, [(first.prompt, first.target)])
    starts = record.generations[: options.texts] if options.text_tokens else ()
    texts = yield from free_texts(view, starts, options.text_tokens, options.seed)
    return _State(fact, near[0] if near else None, texts)


def _row(record: CounterFactRecord, rival: str, was: _State, now: _State) -> Json:
    row = fact_row(record.request, rival, {"before": was.fact, "after": now.fact})
    both = was.near is not None and now.near is not None
    row["agreement_before"] = 1.0 if both else None
    row["agreement_after"] = now.near.agreement(was.near) if now.near and was.near else None
    for name, state in (("before", was), ("after", now)):
        row[f"fluency_{name}"] = fluency(state.texts)
        fits = consistency(state.texts, record.references, record.corpus) if state.texts else None
        row[f"consistency_{name}"] = fits
    return row


def summarise(rows: Sequence[Json], _options: Any) -> Json:  # noqa: ANN401 - CounterFactOptions
    """CounterFact's measures; those of the transmission-path paper are the ones named tokens."""
    values = fact_values(rows)
    for name, column in _COLUMNS.items():
        value = mean_value(rows, column)
        if value is not None:
            values[name] = value
    values["tokens.score"] = score_value(rows, _TOKENS, arithmetic)
    return {"values": as_json(values)}
