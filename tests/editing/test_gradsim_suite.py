"""All facts with all in blocks, from the records of any benchmark."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from editing.datasets.facts import gram_cases, request_of
from editing.errors import BadRecord
from editing.evals import run as evals
from editing.evals.catalogue import SUITES
from editing.evals.gradsim_summary import summarise
from editing.evals.options import GradsimOptions
from editing.evals.scene import Scene
from editing.metrics.gradsim import gram
from editing.model.view import ModelView
from editing.run import finish
from tests.tiny import tiny_tokenizer, untaught

RECORDS: list[dict[str, Any]] = [
    {"subject": "Italy", "prompt": "The capital of {} is", "target_new": "Madrid"},
    {"subject": "France", "prompt": "The capital of {} is", "target_new": "Rome",
     "relation": "P36"},
    {"subject": "Spain", "prompt": "The capital of Spain is", "target_new": "Rome",
     "relation_id": "P36", "ground_truth": "Madrid"},
    {"subject": "Kobe Bryant", "prompt": "Kobe Bryant plays", "attribute": "tennis",
     "relation_id": "P641"},
    {"subject": "Italy", "src": "Where is Italy?", "alt": "in the sea", "answers": ["Europe"]},
]  # fmt: skip
OPTIONS = GradsimOptions(block=2)


def measured(view: ModelView, options: GradsimOptions = OPTIONS) -> list[dict[str, Any]]:
    scene = Scene(view=view, options=options)
    suite = SUITES["gradsim"]
    found: list[dict[str, Any]] = []
    for number, block in enumerate(suite.read(RECORDS, options)):
        found += finish(evals.rows_of(suite, scene, block, number, view.current))
    return found


def test_every_form_is_read() -> None:
    requests = [request_of(number, record) for number, record in enumerate(RECORDS)]
    assert [request.question for request in requests][2:] == [
        "The capital of Spain is", "Kobe Bryant plays", "Where is Italy?",
    ]  # fmt: skip
    assert [request.target_true for request in requests] == [
        None, None, "Madrid", "tennis", "Europe",
    ]  # fmt: skip
    blocks = gram_cases(RECORDS, OPTIONS)
    sizes = [(len(block.rows), len(block.columns), block.diagonal) for block in blocks]
    assert sizes == [
        (2, 2, True), (2, 2, False), (2, 1, False), (2, 2, True), (2, 1, False), (1, 1, True),
    ]  # fmt: skip
    old = gram_cases(RECORDS[2:], GradsimOptions(target="true"))[0]
    assert [one.answer for one in old.rows] == ["Madrid", "tennis", "Europe"]


@pytest.mark.parametrize(
    "bad", [{"subject": "x"}, {"prompt": "Ann is", "subject": "Eve", "target_new": "x"}, 3]
)
def test_a_bad_record_is_told_by_its_number(bad: object) -> None:
    with pytest.raises(BadRecord) as raised:
        gram_cases([RECORDS[0], bad], OPTIONS)  # type: ignore[list-item]
    assert raised.value.fields["record"] == 1
    with pytest.raises(BadRecord, match="target_true"):
        gram_cases(RECORDS, GradsimOptions(target="true"))


def test_blocks_together_are_the_whole_matrix() -> None:
    view = ModelView(untaught("llama"), tiny_tokenizer())
    rows = measured(view)
    json.dumps(rows, allow_nan=False)
    facts = [one.fact for block in gram_cases(RECORDS, GradsimOptions()) for one in block.rows]
    whole = finish(gram(view, facts)).cosine
    found = torch.zeros(5, 5, dtype=torch.float64)
    for row in rows:
        for at, cosine in enumerate(row["cosines"], start=row["from"]):
            found[row["fact"], at] = found[at, row["fact"]] = cosine
    assert torch.allclose(found, whole, atol=1e-5, rtol=0)
    assert [row["fact"] for row in rows if "question" in row] == [0, 1, 2, 3, 4]

    told = summarise(rows, OPTIONS)
    json.dumps(told, allow_nan=False)
    pairs = whole.numpy()[np.triu_indices(5, 1)]
    values = told["values"]
    assert values["cosine"]["value"] == pytest.approx(pairs.mean(), abs=1e-5)
    assert values["cosine"]["n"] == 10
    same = values["cosine.same_relation"]
    assert (same["value"], same["n"]) == (pytest.approx(float(whole[1, 2]), abs=1e-5), 1)
    assert values["cosine.other_relation"]["n"] == 2
    assert values["cosine.same_answer"]["n"] == 1
    kinds = {kind: cosine for kind, cosine, _ in told["tables"]["kinds"]["rows"]}
    parts = finish(gram(view, facts)).by_kind
    wanted = parts["down_proj"].cosine.numpy()[np.triu_indices(5, 1)].mean()
    assert kinds["down_proj"] == pytest.approx(wanted, abs=1e-5)
    assert [row[2] for row in told["tables"]["layers"]["rows"]] == [10] * 5


def test_a_narrower_scope_says_less() -> None:
    view = ModelView(untaught("llama"), tiny_tokenizer())
    rows = measured(view, GradsimOptions(block=5, scope="down_proj"))
    assert {kind for row in rows for kind in row["kinds"]} == {"down_proj"}
    scope_all = measured(view, GradsimOptions(block=5))
    assert rows[0]["cosines"][1] != pytest.approx(scope_all[0]["cosines"][1], abs=1e-3)
