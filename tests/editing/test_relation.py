"""One change from both ends: its words, its 2x2 of scores, and what is transferred."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from editing.datasets.relation_forms import ASKED, FORMS, BothEnds, relation_cases
from editing.datasets.sets import LeftOut
from editing.errors import BadRecord, NonFiniteDelta
from editing.evals.catalogue import suite
from editing.evals.run import rows_of, summary_of
from editing.evals.scene import Scene
from editing.metrics.relation import measure_ends
from editing.model.scoring import score
from editing.model.tokens import continued
from editing.model.view import ModelView
from editing.run import finish

from .conftest import MakeView
from .facts import changed, copied, hooked, planned

Json = dict[str, Any]
ONE = suite("relation")
NAMES = [form.name for form in FORMS.values()]


def record(**changed: Any) -> Json:
    rewrite = {
        "prompt": "{} plays the sport of",
        "relation_id": "P641",
        "target_new": {"str": "tennis"},
        "target_true": {"str": "basketball"},
        "subject": "LeBron James",
    }
    return {
        "requested_rewrite": {**rewrite, **changed},
        "paraphrase_prompts": ["Therefore we know. LeBron James plays the sport of"],
        "neighborhood_prompts": ["Kobe Bryant plays the sport of"],
    }


def case_of(**changed: Any) -> BothEnds:
    (case,) = relation_cases([record(**changed)])
    assert isinstance(case, BothEnds)
    return case


def test_the_same_change_is_asked_from_both_ends() -> None:
    case = case_of()
    one, other = case.entity, case.relation
    assert (one.question, one.target_new) == ("LeBron James plays the sport of", "tennis")
    assert other.perspective == "relation"
    assert other.question == "The relation between LeBron James and tennis is"
    assert (other.target_new, other.target_true) == ("sport", "None")
    assert other.delete_prompt == "The relation between {} and basketball is"
    assert len(other.paraphrases) == 3
    assert all("LeBron James" in text and "tennis" in text for text in other.paraphrases)
    assert all("basketball" not in text and "[O]" not in text for text in other.paraphrases)


def test_every_relation_is_told_from_every_other() -> None:
    assert len(set(NAMES)) == len(NAMES)
    words = [word for form in FORMS.values() for word in (form.name, *form.others)]
    assert len(set(words)) == len(words)
    assert all(len(form.others) >= 2 for form in FORMS.values())


@pytest.mark.data
@pytest.mark.skipif("ERRATA_DATA" not in os.environ, reason="ERRATA_DATA names no folder")
def test_every_relation_of_counterfact_has_words() -> None:
    file = Path(os.environ["ERRATA_DATA"]) / "counterfact" / "counterfact_full.json"
    if not file.exists():
        pytest.skip(f"{file} is not there")
    found = relation_cases(json.loads(file.read_text("utf-8")))
    assert not [case for case in found if isinstance(case, LeftOut)]
    assert {case.id for case in found if isinstance(case, BothEnds)} <= set(FORMS)


def test_a_relation_without_words_is_left_out_and_one_without_id_refused() -> None:
    (left,) = relation_cases([record(relation_id="P9999")])
    assert isinstance(left, LeftOut)
    assert "P9999" in left.why
    with pytest.raises(BadRecord, match=r"Record 1 .*names no relation"):
        relation_cases([record(), record(relation_id=None)])
    with pytest.raises(BadRecord, match=r"Record 0 .*lacks"):
        relation_cases([{"requested_rewrite": {}}])


@pytest.mark.parametrize("layout", ["llama", "gemma3_text", "opt"])
def test_answers_to_one_prompt_score_as_each_alone(make_view: MakeView, layout: str) -> None:
    view = make_view(layout)
    question = ASKED.replace("{}", "LeBron James").replace("[O]", "tennis")
    pairs = [(question, name) for name in NAMES[:12]]
    together = finish(score(view, pairs, one_prompt=True))
    for (prompt, name), found in zip(pairs, together, strict=True):
        row = continued(view.tokenizer, prompt, name)
        with torch.no_grad():
            logprobs = view.model(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
        places = range(row.start, len(row.ids))
        wanted = sum(float(logprobs[at - 1, row.ids[at]]) for at in places)
        assert found.logprob == pytest.approx(wanted, abs=2e-3)
        assert found.tokens == len(row.targets)


def slow_p(view: ModelView, question: str, text: str) -> float:
    (found,) = finish(score(view, [(question, text)]))
    return found.mean_probability


def test_the_rank_counts_the_names_that_are_as_likely(make_view: MakeView) -> None:
    view = make_view("llama")
    case = case_of()
    found = finish(measure_ends(view, case, NAMES))
    question = case.relation.question
    likely = {name: slow_p(view, question, name) for name in NAMES}
    others = {name: p for name, p in likely.items() if name != "sport"}
    assert found.rank == 1 + sum(p >= likely["sport"] for p in others.values())
    assert found.best == max(others, key=others.__getitem__)
    assert found.names == len(FORMS)
    gone = "The relation between LeBron James and basketball is"
    assert found.removed.success == (slow_p(view, gone, "None") > slow_p(view, gone, "sport"))


def run(view: ModelView, records: list[Json], editor: str = "ft-m") -> tuple[list[Json], Json]:
    options = ONE.options_of({"max_tokens": 3})
    scene = Scene(view=view, options=options, plan=planned(view, editor))
    rows: list[Json] = []
    for number, case in enumerate(ONE.read(records, options)):
        rows += finish(rows_of(ONE, scene, case, number, view.current))
    return rows, summary_of(ONE, rows, options)


def test_both_edits_are_made_each_from_the_measured_state(make_view: MakeView) -> None:
    view = make_view("llama")
    before = copied(view)
    rows, told = run(view, [record(), record(relation_id="P9999")])
    assert changed(view, before) == set()
    assert hooked(view) == []
    assert [row.get("edited") for row in rows] == ["entity", "relation", None]
    entity, relation = rows[:2]
    names = [name for name in entity if name.endswith("_before")]
    assert {name: entity[name] for name in names} == {name: relation[name] for name in names}
    assert entity["e_success"] and not entity["e_success_before"]  # noqa: PT018 - one change
    assert relation["r_magnitude"] > relation["r_magnitude_before"]
    assert relation["r_rank"] <= relation["r_rank_before"]
    assert told["skipped"] == {"left-out": 1}
    values = told["values"]
    gap = values["gap_e_magnitude"]["value"]
    assert gap == pytest.approx(relation["e_magnitude"] - entity["e_magnitude"])
    assert values["entity_e_success"]["n"] == 1
    lines = told["tables"]["two_by_two"]["rows"]
    assert [line[:2] for line in lines] == [
        ["entity", "entity"],
        ["entity", "relation"],
        ["relation", "entity"],
        ["relation", "relation"],
    ]
    assert {tuple(line[:3]) for line in told["tables"]["by_type"]["rows"]} >= {
        ("about", "person", "entity"),
        ("relation", "P641 sport", "relation"),
    }


def test_an_end_that_cannot_be_written_leaves_the_other(
    make_view: MakeView, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = make_view("llama")
    whole = Scene.edited

    def failing(self: Scene, requests: Any) -> Any:
        if requests[0].perspective == "relation":
            raise NonFiniteDelta(weight="w")
        return (yield from whole(self, requests))

    monkeypatch.setattr(Scene, "edited", failing)
    rows, told = run(view, [record()])
    assert [(row["edited"], row.get("failed")) for row in rows] == [
        ("entity", None),
        ("relation", "non-finite-delta"),
    ]
    assert told["failed"] == {"non-finite-delta": 1}
    assert told["values"]["entity_e_success"]["n"] == 1
    assert told["values"]["relation_e_success"]["value"] is None
    assert told["values"]["gap_e_success"]["value"] is None


def synthetic(case: int, edited: str, **more: float) -> Json:
    names = ("e_success", "e_ps", "ns", "r_success", "r_ps", "e_magnitude", "r_magnitude", "r_rank")
    row: Json = {"case": case, "edited": edited, "relation": "P641", "name": "sport"}
    row |= {"about": "person", "objects": "one", **dict.fromkeys(names, 1.0), **more}
    return {**row, **{f"{name}_before": 0.0 for name in names}}


def test_the_gap_is_taken_record_by_record_and_the_composite_of_means() -> None:
    rows = [synthetic(0, "entity"), synthetic(0, "relation", e_success=0.0)]
    rows += [synthetic(1, "entity"), synthetic(1, "relation", e_success=1.0)]
    rows += [synthetic(2, "entity")]  # whose relation edit is missing: no gap
    values = summary_of(ONE, rows, ONE.options_of({}))["values"]
    assert values["gap_e_success"]["value"] == -0.5
    assert values["gap_e_success"]["clusters"] == 2
    assert values["relation_composite"]["value"] == pytest.approx(5 / (1 / 0.5 + 4))
    assert values["entity_composite"]["value"] == 1
    assert values["entity_composite"]["before"] == 0
