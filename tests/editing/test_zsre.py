"""zsRE: its records, and both localities, which are never mixed."""

from copy import deepcopy
from typing import Any

import pytest

from editing.datasets.zsre import cases
from editing.errors import BadRecord
from editing.evals import run as evals
from editing.evals.catalogue import SUITES
from editing.evals.options import ZsreOptions
from editing.evals.scene import Scene
from editing.metrics.tokens_accuracy import Choices, choices
from editing.metrics.zsre import ZsreScores
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.run import finish

from .facts import changed, copied, hooked, planned, run

SUITE = SUITES["zsre"]
RECORD: dict[str, Any] = {
    "subject": "LeBron James",
    "src": "LeBron James plays the sport of",
    "alt": "tennis",
    "answers": ["basketball", "hoops"],
    "rephrase": "Therefore we know. LeBron James plays the sport of",
    "loc": "The capital of France is",
    "loc_ans": "Paris",
}


def test_a_record_becomes_a_request_and_a_question_that_must_stay() -> None:
    (case,) = cases([RECORD], ZsreOptions())
    (record,) = case.records
    assert record.request == EditRequest(
        subject="LeBron James",
        prompt="{} plays the sport of",
        target_new="tennis",
        target_true="basketball",
        paraphrases=("Therefore we know. LeBron James plays the sport of",),
    )
    assert (record.locality, record.locality_answer) == ("The capital of France is", "Paris")
    (case,) = cases([RECORD], ZsreOptions(target="answers"))
    assert case.records[0].request.target_new == "basketball"
    assert case.records[0].request.target_true is None


def test_a_subject_outside_its_question_is_left_out() -> None:
    options = ZsreOptions(mode="batch")
    (case,) = cases([RECORD, RECORD | {"subject": "Oslo"}, RECORD], options)
    assert [record.number for record in case.records] == [0, 2]
    assert [one.number for one in case.left_out] == [1]
    assert "Oslo" in case.left_out[0].why


@pytest.mark.parametrize(
    ("change", "words"),
    [({"alt": " "}, "target_new"), ({"loc_ans": ""}, "loc_ans"), ({"answers": []}, "answers")],
)
def test_an_empty_field_is_refused_by_its_number(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRecord, match=words) as raised:
        cases([RECORD, deepcopy(RECORD) | change], ZsreOptions())
    assert raised.value.fields["record"] == 1


@pytest.mark.parametrize("field", ["subject", "src", "alt", "answers", "rephrase", "loc"])
def test_a_field_that_is_missing_is_named(field: str) -> None:
    broken = {name: value for name, value in RECORD.items() if name != field}
    with pytest.raises(BadRecord, match=field):
        cases([broken], ZsreOptions())


def test_two_localities_are_two_numbers() -> None:
    before = ZsreScores(
        Choices((1, 2), (1, 9)), Choices((1,), (9,)), Choices((5, 6), (7, 8)),
        Choices((5, 6), (7, 8)), None, None,
    )  # fmt: skip
    after = ZsreScores(
        Choices((1, 2), (1, 2)), Choices((1,), (9,)), Choices((5, 6), (5, 8)),
        Choices((5, 6), (5, 8)), None, None,
    )  # fmt: skip
    assert after.figures(before) == {
        "efficacy": 1.0, "generality": 0.0, "loc_gt": 0.5, "loc_agree": 0.5,
    }  # fmt: skip
    assert before.figures(before)["loc_gt"] == 0.0
    assert before.figures(before)["loc_agree"] == 1.0


def test_a_row_by_hand(llama: ModelView) -> None:
    options = ZsreOptions(max_tokens=4)
    scene = Scene(view=llama, options=options, plan=planned(llama, "rome"))
    weights, start = copied(llama), llama.current

    def seen(_: object) -> None:
        assert llama.current is start
        assert not changed(llama, weights)
        assert not hooked(llama)

    records = [RECORD, RECORD | {"subject": "Oslo"}]
    row, gone = [
        row
        for number, case in enumerate(SUITE.read(records, options))
        for row in finish(evals.rows_of(SUITE, scene, case, number, start), seen)
    ]
    (case,) = cases([RECORD], options)
    request = case.records[0].request
    after = llama.after(run(llama, "rome", [request]).deltas)
    asked = [
        (request.question, "tennis"), (RECORD["rephrase"], "tennis"),
        ("The capital of France is?", "Paris"), ("The capital of France is", "Paris"),
    ]  # fmt: skip
    old = finish(choices(llama, asked))
    with llama.showing(after):
        new = finish(choices(llama, asked))
    names = ("efficacy", "generality", "loc_gt")
    assert [row[f"{name}_after"] for name in names] == [one.accuracy for one in new[:3]]
    assert [row[f"{name}_before"] for name in names] == [one.accuracy for one in old[:3]]
    assert row["loc_agree_after"] == new[3].agreement(old[3])
    assert (row["loc_agree_before"], row["efficacy_after"]) == (1, 1)
    assert (row["efficacy_generated_before"], row["efficacy_generated_after"]) == (False, True)
    assert (gone["case"], gone["record"], gone["failed"]) == (1, 1, "bad-record")
    summary = evals.summary_of(SUITE, [row, gone], options)
    assert summary["failed"] == {"bad-record": 1}
    parts = [summary["values"][n]["value"] for n in ("efficacy", "generality", "loc_agree")]
    assert summary["values"]["score"]["value"] == pytest.approx(sum(parts) / 3)
    assert summary["values"]["efficacy.generated"]["before"] == 0
