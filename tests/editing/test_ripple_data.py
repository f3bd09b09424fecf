"""The three forms of ripple records, and what is left out of them."""

import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from editing.datasets.files import read_records
from editing.datasets.ripple import cases
from editing.datasets.ripple_types import RippleCase, RippleQuery
from editing.errors import BadRecord

KNOWEDIT: dict[str, Any] = {
    "subject": "Leonardo DiCaprio",
    "prompt": "The name of the mother of Leonardo DiCaprio is",
    "target_new": "Eve",
    "ground_truth": "Irmelin DiCaprio",
    "portability": {
        "Reasoning": [
            {
                "prompt": "The occupation of the mother of Leonardo DiCaprio is",
                "ground_truth": [["baker", "bread maker"]],
            },
            {
                "prompt": "The name of the mother of the director of The 11th Hour is",
                "ground_truth": [["Eve", "Eva"]],
            },
            {
                "prompt": "The name of the maternal grandmother of Ann is",
                "ground_truth": [["Eve"]],
            },
        ],
        "Logical_Generalization": [],
        "Subject_Aliasing": [
            {
                "prompt": "The name of the mother of Leo DiCaprio is",
                "ground_truth": [["Eve", "Eva"]],
            },
            {
                "prompt": "The name of the mother of Leonardo DiCaprio is",
                "ground_truth": [["Eve", "Eva"]],
            },
        ],
    },
    "locality": {
        "Relation_Specifity": [
            {"prompt": "The gender of Leonardo DiCaprio is", "ground_truth": [["male"], []]},
            {"prompt": "The award Leonardo DiCaprio won is", "ground_truth": [[]]},
        ],
        "Forgetfulness": [
            {
                "prompt": "The name of the mother of Leonardo DiCaprio, which is not Eve, is",
                "ground_truth": [["Irmelin DiCaprio"]],
            },
        ],
    },
}


def query(prompt: str, *values: str, **more: object) -> dict[str, Any]:
    answers = [{"value": value, "aliases": [value.upper()]} for value in values]
    return {"prompt": prompt, "answers": answers, "query_type": "regular", **more}


def native(statement: str, relation: str, old: str | None = None) -> dict[str, Any]:
    edit = {"prompt": statement, "subject_id": "Q1", "relation": relation, "target_id": "Q2"}
    known = {} if old is None else {"original_fact": {"prompt": old, "target_id": "Q3"}}
    gender = query("The gender of Ann is", "female", target_ids=["Q9"])
    test = {"test_queries": [gender], "test_condition": "AND", "condition_queries": [gender]}
    return {
        "example_type": "popular",
        "edit": edit | known,
        "Relation_Specificity": [test],
        "Forgetfulness": [],
    }


def one(record: dict[str, Any]) -> RippleCase:
    (found,) = cases([record])
    return found


def test_knowedit_records_become_tests_of_the_six_criteria() -> None:
    case = one(KNOWEDIT)
    assert (case.request.prompt, case.request.target_new) == (
        "The name of the mother of {} is",
        "Eve",
    )
    assert case.request.target_true == "Irmelin DiCaprio"
    assert case.aliases == ("Eva",)
    assert [test.criterion for test in case.tests] == [
        "compositionality_i", "compositionality_ii", "reasoning", "subject_aliasing",
        "relation_specificity", "preservation",
    ]  # fmt: skip
    assert case.tests[4].queries[0].answers == (("male",),)
    assert [test.preserves for test in case.tests] == [False] * 4 + [True] * 2


def test_conditions_are_made_from_the_prompts_of_two_hops() -> None:
    first, second, unclear, *_ = one(KNOWEDIT).tests
    (asked,) = first.conditions
    assert asked == RippleQuery(prompt="The occupation of Eve is", answers=first.queries[0].answers)
    (asked,) = second.conditions
    assert asked.prompt == "The name of the director of The 11th Hour is"
    assert asked.answers == (("Leonardo DiCaprio",),)
    assert not unclear.conditions


def test_what_cannot_be_measured_is_left_out_and_counted() -> None:
    found = [(skip.criterion, skip.why) for skip in one(KNOWEDIT).skipped]
    assert found == [
        ("logical_generalization", "the criterion is empty."),
        ("subject_aliasing", "it asks the edit itself."),
        ("relation_specificity", "a query has no answer."),
    ]


@pytest.mark.parametrize(
    ("statement", "relation", "old", "asked"),
    [
        ("The name of the country of citizenship of Ann of York is Syria.",
         "COUNTRY_OF_CITIZENSHIP", None,
         ("The name of the country of citizenship of {} is", "Ann of York", "Syria")),
        ("The names of the siblings of Ann are Bob Jr.", "SIBLING", None,
         ("The names of the siblings of {} are", "Ann", "Bob Jr")),
        ("The name of the award Ann won is Best.", "AWARD_RECEIVED", None,
         ("The name of the award {} won is", "Ann", "Best")),
        ("Ann 2 is followed by Ann 3.", "FOLLOWED_BY", None,
         ("{} is followed by", "Ann 2", "Ann 3")),
        ("The name of the author of What is Life is Bob.", "AUTHOR",
         "The name of the author of What is Life is Ann.",
         ("The name of the author of {} is", "What is Life", "Bob")),
    ],
)  # fmt: skip
def test_the_subject_of_a_native_statement_is_found(
    statement: str, relation: str, old: str | None, asked: tuple[str, str, str]
) -> None:
    case = one(native(statement, relation, old))
    request = case.request
    assert (request.prompt, request.subject, request.target_new) == asked
    assert request.target_true == (None if old is None else "Ann")
    assert (case.form, case.split, request.relation) == ("native", "popular", relation)


def test_the_target_is_known_from_a_test_that_asks_for_it() -> None:
    record = native("The name of the author of What is Life is Bob is Bob.", "AUTHOR")
    asked = query("The name of the author of W. is Life is", "Bob", target_ids=["Q2"])
    record["Subject_Aliasing"] = [{"test_queries": [asked], "condition_queries": [asked]}]
    request = one(record).request
    assert (request.subject, request.target_new) == ("What is Life is Bob", "Bob")
    assert one(record).aliases == ("BOB",)


def test_a_native_test_keeps_its_condition_and_its_conditions() -> None:
    (test,) = one(native("The name of the mother of Ann is Eve.", "MOTHER")).tests
    assert (test.criterion, test.condition) == ("relation_specificity", "and")
    assert test.queries == test.conditions
    assert test.queries[0].answers == (("female", "FEMALE"),)


def test_conditions_that_no_model_could_meet_are_left_out() -> None:
    record = native("The name of the mother of Ann is Eve.", "MOTHER")
    asked = [
        query("The name of the mother of Ann is", "Eve", target_ids=["Q2"]),
        query("The name of the child of Bob is"),
        query("The name of the child of Eve is", "Tom"),
    ]
    record["Logical_Generalization"] = [
        {
            "test_queries": [query("The names of the siblings of Ann are", "Tom")],
            "test_condition": "OR",
            "condition_queries": asked,
        }
    ]
    (test,) = [t for t in one(record).tests if t.criterion == "logical_generalization"]
    assert [each.prompt for each in test.conditions] == ["The name of the child of Eve is"]


@pytest.mark.parametrize(
    "record",
    [
        native("The gender of Ann is male.", "SEX_OR_GENDER", "The gender of Ann is male."),
        native("The name of the mother of Ann is .", "MOTHER"),
        native("The name of the author of What is Life is Bob.", "AUTHOR"),  # two places for "is"
        native("Somebody is Eve.", "MOTHER"),
        KNOWEDIT | {"subject": "Kate"},
    ],
)
def test_an_edit_that_cannot_be_told_fails_its_own_case_alone(record: dict[str, Any]) -> None:
    found = cases([record, KNOWEDIT])
    with pytest.raises(BadRecord, match="Record 0") as raised:
        _ = found[0].request
    assert raised.value.fields["record"] == 0
    assert found[1].request.target_new == "Eve"


def test_a_requests_own_ripples_are_tests() -> None:
    record = {
        "subject": "Ann",
        "prompt": "{} lives in",
        "target_new": "Paris",
        "ripples": [
            {"prompt": "Ann's country is", "answers": ["France", "FR"]},
            {"prompt": "Ann was born in", "answers": ["Rome"], "criterion": "Forgetfulness"},
            {"prompt": "Ann lives in", "answers": ["Paris"]},
        ],
    }
    case = one(record)
    assert [test.criterion for test in case.tests] == ["unnamed", "preservation"]
    assert case.tests[0].queries[0].answers == (("France", "FR"),)
    assert [skip.why for skip in case.skipped] == ["it asks the edit itself."]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda record: record.pop("target_new"), "target_new"),
        (lambda record: record.update(target_new=" "), "target_new"),
        (lambda record: record["portability"].update(Magic=[]), "'Magic'"),
        (lambda record: record["portability"]["Reasoning"][0].pop("ground_truth"), "ground_truth"),
        (lambda record: record.update(portability=["a"]), "another kind"),
        (lambda record: record["locality"]["Forgetfulness"].append("a"), "another kind"),
    ],
)
def test_a_record_of_no_form_is_refused_by_its_number(spoil: Any, words: str) -> None:
    broken = deepcopy(KNOWEDIT)
    spoil(broken)
    with pytest.raises(BadRecord, match=words) as raised:
        cases([KNOWEDIT, broken])
    assert raised.value.fields["record"] == 1


@pytest.mark.data
def test_the_popular_split_is_read() -> None:
    folder = os.environ.get("ERRATA_DATA")
    if not folder:
        pytest.skip("set ERRATA_DATA to a folder with ripple_edits/popular_knowedit.json")
    found = cases(read_records(Path(folder) / "ripple_edits" / "popular_knowedit.json"))
    tests = [test for case in found for test in case.tests]
    assert all(case.edit is not None for case in found)
    assert len(tests) > 5000
    assert sum(test.criterion == "reasoning" for test in tests) < 50
