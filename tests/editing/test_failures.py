"""Where GradSim misleads: which queries are made of a record, and what is measured of them."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from editing.datasets import languages
from editing.datasets.failures import FailureCase, Foreign, cases, negated
from editing.datasets.languages import asked_in, translated
from editing.datasets.ripple_types import RippleQuery
from editing.errors import BadRecord
from editing.evals import run as evals
from editing.evals.catalogue import SUITES
from editing.evals.failures_summary import summarise
from editing.evals.options import FailuresOptions
from editing.evals.scene import Scene
from editing.metrics.gradsim import gram
from editing.metrics.values import Value
from editing.model.scoring import score
from editing.model.view import ModelView
from editing.run import finish, under
from editing.step import Step

from .facts import SPORT, changed, copied, hooked, planned

ALL = FailuresOptions()
COUNTERFACT = {
    "requested_rewrite": {
        "subject": "Danielle Darrieux",
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "English"},
        "target_true": {"str": "French"},
    },
    "paraphrase_prompts": [],
    "neighborhood_prompts": [],
    "portability": {"of": "another form"},
}
KNOWEDIT = {
    "subject": "Ann",
    "prompt": "The mother of Ann is",
    "target_new": "Eve",
    "ground_truth": "Sue",
    "portability": {
        "Subject_Aliasing": [
            {"prompt": "The mother of Annie is", "ground_truth": [["Eve", "Eva"]]}
        ],
        "Reasoning": [
            {"prompt": "The job of the mother of Ann is", "ground_truth": [["judge"]]},
            {"prompt": "The town of the mother of Ann is", "ground_truth": [["Rome"]]},
        ],
    },
    "locality": {},
}


def changed_record(**fields: object) -> dict[str, Any]:
    rewrite = {**COUNTERFACT["requested_rewrite"], **fields}  # type: ignore[dict-item]
    return {**COUNTERFACT, "requested_rewrite": rewrite}


class TestCases:
    def test_of_counterfact(self) -> None:
        (case,) = cases([COUNTERFACT], ALL)
        assert case.negation == "The mother tongue of Danielle Darrieux is not"
        assert [one.question for one in case.foreign] == [
            "Langue maternelle de Danielle Darrieux :",
            "Die Muttersprache von Danielle Darrieux ist",
        ]
        assert [one.answer for one in case.foreign] == ["anglais", "Englisch"]
        assert case.over == ()
        assert case.skipped.keys() == {"over_ripple"}

    def test_of_a_ripple_record_without_what_asks_for_the_new_target(self) -> None:
        (case,) = cases([KNOWEDIT], ALL)
        assert [query.answer for query in case.over] == ["judge", "Rome"]
        assert case.aliases == ("Eva",)
        assert "relation" in case.skipped["cross_lingual"]
        (few,) = cases([KNOWEDIT], FailuresOptions(queries=1, kinds="over_ripple"))
        assert (len(few.over), few.negation, few.skipped) == (1, None, {})

    @pytest.mark.parametrize(
        ("fields", "why"),
        [
            ({"relation_id": "P463"}, "relation"),
            ({"relation_id": None}, "relation"),
            ({"target_new": {"str": "Klingon"}}, "Klingon"),
            # "est né à Japon" would be no French
            ({"relation_id": "P19", "target_new": {"str": "Japan"}}, "Japan"),
        ],
    )
    def test_what_is_not_translated_is_told(self, fields: Mapping[str, object], why: str) -> None:
        (case,) = cases([changed_record(**fields)], ALL)
        assert case.foreign == ()
        assert why in case.skipped["cross_lingual"]

    @pytest.mark.parametrize(
        "bad",
        [
            {"subject": "Ann"},
            {"requested_rewrite": {}},
            {**KNOWEDIT, "portability": 3},
            {"subject": "Ann", "prompt": "The mother of Sue is", "target_new": "Eve"},
            changed_record(target_new={"str": " "}),
            {"prompt": "x", "attribute": 3},
            [],
        ],
    )
    def test_a_bad_record_is_told_by_its_number(self, bad: object) -> None:
        with pytest.raises(BadRecord) as raised:
            cases([COUNTERFACT, bad], ALL)  # type: ignore[list-item]
        assert raised.value.fields["record"] == 1

    def test_negated(self) -> None:
        assert negated("Ann is ") == "Ann is not"
        assert negated("Ann plays the sport of") == "Ann plays the sport of not"


class TestLanguages:
    def test_every_relation_can_be_asked_and_answered_in_both(self) -> None:
        assert languages._ANSWERS.keys() == languages._TEMPLATES.keys()
        for relation, answers in languages._ANSWERS.items():
            for language in languages.LANGUAGES:
                question = asked_in(relation, "X", language)
                assert question is not None
                assert question.count("X") == 1
                name = next(iter(answers))
                assert translated(relation, name, language)

    def test_a_place_is_called_by_its_name_there(self) -> None:
        assert asked_in("P36", "Japan", "french") == "La capitale de Japon est"
        assert asked_in("P36", "Japan", "german") == "Die Hauptstadt von Japan ist"
        assert translated("P36", "Vienna", "german") == "Wien"


def case() -> FailureCase:
    wrong = RippleQuery(prompt="Kobe Bryant plays the sport of", answers=(("basketball",),))
    unsayable = RippleQuery(prompt="The capital of Italy is", answers=(("東" * 200,),))
    foreign = Foreign(
        language="french", question="LeBron James", answer="joue", english=SPORT.target_new
    )
    return FailureCase(
        number=0,
        request=SPORT,
        negation=negated(SPORT.question),
        over=(wrong, unsayable),
        foreign=(foreign,),
        skipped={},
    )


def test_rows_of_one_edit(llama: ModelView) -> None:
    plan = planned(llama, "memit", {"layers": [1, 3], "search.steps": 8})
    scene = Scene(view=llama, options=FailuresOptions(max_tokens=4), plan=plan)
    before = copied(llama)

    def clean(_: Step) -> None:
        assert not changed(llama, before)
        assert not hooked(llama)

    work = evals.rows_of(SUITES["failures"], scene, case(), 0, llama.current)
    rows = finish(work, clean)
    json.dumps(rows, allow_nan=False)
    skipped, negation, over, foreign = rows
    assert (skipped["kind"], skipped["of"]) == ("skipped", "over_ripple")
    facts = [
        (SPORT.question, "tennis"),
        (negated(SPORT.question), "tennis"),
        ("Kobe Bryant plays the sport of", "basketball"),
        ("Kobe Bryant plays the sport of", "tennis"),
        ("LeBron James", "joue"),
    ]
    wanted = finish(gram(llama, facts)).cosine[0, 1:].tolist()
    names = [negation["gradsim"], over["gradsim_right"], over["gradsim_wrong"], foreign["gradsim"]]
    assert names == pytest.approx(wanted, abs=1e-5)
    state = finish(scene.edited([SPORT])).state
    (old,) = finish(score(llama, facts[3:4]))
    (new,) = finish(under(llama, state, score(llama, facts[3:4])))
    assert over["gain_wrong"] == pytest.approx(new.logprob - old.logprob, abs=1e-3)
    assert negation["gain"] != 0
    assert all(row["edit_gain"] > 0 for row in (negation, over, foreign))


def test_the_summary_tells_each_kind() -> None:
    told_of = {"success": True, "edit_gain": 4.0}
    negations = [
        {
            "kind": "negation", "case": n, "gradsim": 0.8, "gain": 3.0 + n, "says_before": False,
            "says_after": True, "logprob_after": -1.0 + 2 * n, "logprob_edit_after": -0.5 + n,
        } | told_of | {"edit_gain": 4.0 + n}
        for n in range(4)
    ]  # fmt: skip
    over = {
        "kind": "over_ripple", "case": 0, "gradsim_right": 0.1, "gradsim_wrong": 0.6,
        "gain_right": -1.0, "gain_wrong": 3.0, **dict.fromkeys(
            [f"{name}_{at}" for name in ("says_wrong", "says_right", "prefers_wrong")
             for at in ("before", "after")], False,
        ),
    } | told_of | {"says_wrong_after": True}  # fmt: skip
    foreign = {
        "kind": "cross_lingual", "case": 1, "language": "german", "relation": "P103",
        "gradsim": 0.05, "gain": 0.1, "says_before": False, "says_after": False,
        "forced_before": False, "forced_after": False,
    } | told_of  # fmt: skip
    skipped = {"kind": "skipped", "case": 2, "of": "cross_lingual", "why": "so"}
    told = summarise([*negations, over, {**over, "gradsim_wrong": 0.15}, foreign, skipped], ALL)
    json.dumps(told, allow_nan=False)
    values: Mapping[str, Mapping[str, Value]] = told["values"]
    assert values["negation.logprob.slope"]["value"] == pytest.approx(2)
    assert told["fit"] == pytest.approx({"slope": 2.0, "intercept": 0.0})
    assert values["negation.gain.slope"]["value"] == pytest.approx(1)
    assert values["over_ripple.nearer"]["value"] == 0.5
    assert values["over_ripple.says_wrong"]["value"] == 1
    assert values["cross_lingual.german.gradsim"]["value"] == pytest.approx(0.05)
    assert "cross_lingual.french.gradsim" not in values
    assert told["tables"]["relations"]["rows"] == [["P103", "german", 1, 0.05, 0.1, 0.0]]
    assert told["tables"]["skipped"]["rows"] == [["cross_lingual", "so", 1]]
