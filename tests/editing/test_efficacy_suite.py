"""Suite `efficacy`, and what every suite of sets shares: chains, batches, what fails in them."""

from typing import Any

import pytest
import torch

from editing.datasets.requests import cases
from editing.datasets.sets import LeftOut, RecordSet, in_sets
from editing.errors import BadRecord, EmptyField
from editing.evals import run as evals
from editing.evals.catalogue import SUITES
from editing.evals.fact_values import fact_values
from editing.evals.in_sets import written
from editing.evals.options import EfficacyOptions
from editing.evals.scene import Scene
from editing.metrics.counterfact import measure_facts
from editing.metrics.values import harmonic
from editing.model.state import State
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.run import finish, under

from .facts import CAPITAL, OTHER_SPORT, SPORT, UNREACHABLE, changed, copied, hooked, planned, run

SUITE = SUITES["efficacy"]


def scene_of(view: ModelView, editor: str | None = "rome", **options: object) -> Scene:
    return Scene(
        view=view,
        options=EfficacyOptions(max_tokens=4, **options),  # type: ignore[arg-type]
        plan=None if editor is None else planned(view, editor),
    )


def rows_of(scene: Scene, *requests: EditRequest) -> list[dict[str, Any]]:
    found = SUITE.read([request.to_dict() for request in requests], scene.options)
    before, start = copied(scene.view), scene.view.current

    def seen(_: object) -> None:
        assert scene.view.current is start
        assert not changed(scene.view, before)
        assert not hooked(scene.view)

    return [
        row
        for number, case in enumerate(found)
        for row in finish(evals.rows_of(SUITE, scene, case, number, start), seen)
    ]


def test_records_are_put_in_sets() -> None:
    options = EfficacyOptions(mode="batch", size=2)
    gone = LeftOut(1, "no.")
    found = in_sets([0, gone, 2, 3], options)
    assert found == [RecordSet("batch", (0, 2), (gone,)), RecordSet("batch", (3,))]
    assert in_sets([0, 1, 2], EfficacyOptions(mode="consecutive")) == [
        RecordSet("consecutive", (0, 1, 2))
    ]
    assert in_sets([0, gone, 2], EfficacyOptions(size=5)) == [
        RecordSet("single", (0,)), RecordSet("single", (), (gone,)), RecordSet("single", (2,)),
    ]  # fmt: skip


def test_a_request_that_cannot_be_read_is_named() -> None:
    with pytest.raises(BadRecord, match="prompt") as raised:
        cases([SPORT.to_dict(), {"subject": "Ann", "target_new": "x"}], EfficacyOptions())
    assert raised.value.fields["record"] == 1


def test_a_record_of_counterfact_is_a_request_too() -> None:
    flat = {
        "prompt": "The capital of Italy is",
        "subject": "Italy",
        "target_new": "Madrid",
        "ground_truth": "Rome",
        "rephrase_prompt": "Italy's capital is",
        "locality_prompt": "The capital of France is",
        "locality_ground_truth": "Paris",
    }
    (case,) = cases([flat], EfficacyOptions())
    ((number, request),) = case.records
    assert (number, request.prompt, request.target_true) == (0, "The capital of {} is", "Rome")


def test_a_row_has_what_the_promotion_report_measures(llama: ModelView) -> None:
    scene = scene_of(llama)
    (row,) = rows_of(scene, SPORT)
    after = llama.after(run(llama, "rome", [SPORT]).deltas)
    for name, state in (("before", State()), ("after", after)):
        (fact,) = finish(under(llama, state, measure_facts(llama, [SPORT], ["basketball"])))
        wanted, rival = fact.prompt.wanted, fact.prompt.rival
        magnitude = wanted.mean_probability - rival.mean_probability
        assert row[f"efficacy_success_{name}"] == fact.prompt.success
        assert row[f"efficacy_magnitude_{name}"] == pytest.approx(magnitude, abs=1e-3)
        assert row[f"efficacy_accuracy_{name}"] == wanted.greedy
        assert row[f"efficacy_tokens_{name}"] == wanted.matches / wanted.tokens
        assert row[f"paraphrase_success_{name}"] == fact.paraphrases[0].success
        assert row[f"neighborhood_accuracy_{name}"] == fact.neighborhood[0].wanted.greedy
    assert (row["efficacy_generated_before"], row["efficacy_generated_after"]) == (0, 1)
    assert row["neighborhood_generated_before"] == 1
    assert (row["mode"], row["size"], row["later"], row["record"]) == ("single", 1, 0, 0)


def test_without_an_editor_it_tells_how_things_are(llama: ModelView) -> None:
    llama.adopt(llama.after(run(llama, "rome", [SPORT]).deltas))
    rows = rows_of(scene_of(llama, None), SPORT, CAPITAL)
    assert [row["efficacy_success_after"] for row in rows] == [1, 0]
    assert not any(key.endswith("_before") for row in rows for key in row)
    values = evals.summary_of(SUITE, rows, EfficacyOptions())["values"]
    assert (values["efficacy.success"]["value"], values["efficacy.success"]["before"]) == (
        0.5,
        None,
    )


def test_a_chain_ends_in_the_state_of_its_orders(llama: ModelView) -> None:
    scene = scene_of(llama, "memit-history", mode="consecutive")
    requests = [SPORT, CAPITAL, OTHER_SPORT]
    mine = finish(written(scene, requests, chained=True)).state
    theirs = finish(scene.chained([[request] for request in requests]))[-1].state
    assert mine.masters.keys() == theirs.masters.keys()
    assert all(torch.equal(mine.masters[name], theirs.masters[name]) for name in mine.masters)


def test_what_fails_in_a_chain_is_counted_and_the_others_go_on(llama: ModelView) -> None:
    rows = rows_of(scene_of(llama, mode="consecutive"), SPORT, UNREACHABLE, CAPITAL)
    told = [(row["record"], row.get("failed"), row.get("later")) for row in rows]
    assert told == [(0, None, 2), (2, None, 0), (1, rows[2]["failed"], None)]
    summary = evals.summary_of(SUITE, rows, EfficacyOptions())
    assert summary["failed"] == {rows[2]["failed"]: 1}
    assert summary["values"]["efficacy.success"]["n"] == 2


def test_a_batch_is_one_order(llama: ModelView) -> None:
    rows = rows_of(scene_of(llama, "memit", mode="batch", size=2), SPORT, CAPITAL, OTHER_SPORT)
    assert [(row["case"], row["record"], row["size"]) for row in rows] == [
        (0, 0, 2), (0, 1, 2), (1, 2, 1),
    ]  # fmt: skip
    together = llama.after(run(llama, "memit", [SPORT, CAPITAL]).deltas)
    (fact,) = finish(under(llama, together, measure_facts(llama, [SPORT], ["basketball"])))
    assert rows[0]["p_new_after"] == pytest.approx(fact.prompt.wanted.mean_probability, rel=1e-3)


def test_a_chain_without_an_editor_is_refused(llama: ModelView) -> None:
    with pytest.raises(EmptyField, match="editor"):
        finish(written(scene_of(llama, None), [SPORT, CAPITAL], chained=True))


def test_the_score_is_harmonic_and_zero_with_a_zero() -> None:
    def row(*parts: float | None) -> dict[str, Any]:
        names = ("efficacy", "paraphrase", "neighborhood")
        told = {f"{n}_success_after": value for n, value in zip(names, parts, strict=True)}
        return {**told, "paraphrases": 2, "neighbors": 10}

    found = fact_values([row(1, 0.5, 1), row(1, 0.5, 0)])
    assert found["score"].value == pytest.approx(harmonic([1, 0.5, 0.5])) == pytest.approx(0.6)
    assert (found["paraphrase.success"].n, found["paraphrase.success"].clusters) == (4, 2)
    assert fact_values([row(1, 0, 1)])["score"].value == 0
    assert fact_values([row(1, None, None)])["score"].value is None
    assert "paraphrase.success" not in fact_values([row(1, None, None)])
