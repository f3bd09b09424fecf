"""A request refuses nonsense at birth, with a code and a word on what to do."""

import pytest

from editing.errors import (
    BadRequest,
    EditingError,
    EmptyField,
    SubjectSlotMissing,
    TargetTooLong,
)
from editing.request import EditRequest, Neighbor, Ripple

FULL: dict[str, object] = {
    "subject": "LeBron James",
    "prompt": "{} plays the sport of",
    "target_new": "football",
    "target_true": "basketball",
    "relation": "P641",
    "paraphrases": ["What does LeBron James play? He plays"],
    "neighborhood": [{"prompt": "Kobe Bryant plays the sport of", "target": "basketball"}],
    "ripples": [
        {"prompt": "LeBron James is a", "answers": ["footballer", "player"], "criterion": "x"},
        {"prompt": "LeBron James kicks a", "answers": ["ball"]},
    ],
}


def test_json_becomes_a_request_and_json_again() -> None:
    request = EditRequest.from_dict(FULL)
    assert request.question == "LeBron James plays the sport of"
    assert request.neighborhood == (
        Neighbor(prompt="Kobe Bryant plays the sport of", target="basketball"),
    )
    assert request.ripples[0] == Ripple(
        prompt="LeBron James is a", answers=("footballer", "player"), criterion="x"
    )
    assert EditRequest.from_dict(request.to_dict()) == request


def test_what_was_not_given_is_not_sent_back() -> None:
    least = {"subject": "A", "prompt": "{} is", "target_new": "b"}
    assert EditRequest.from_dict(least).to_dict() == least


def test_a_null_is_as_if_left_out() -> None:
    nothing = dict.fromkeys(("target_true", "relation", "paraphrases", "neighborhood", "ripples"))
    request = EditRequest.from_dict({**FULL, **nothing})
    assert request.to_dict().keys() == {"subject", "prompt", "target_new"}


def test_other_braces_and_percent_signs_are_letters() -> None:
    request = EditRequest(subject="{x} %s", prompt="In {y} 100% of {} {0} are", target_new="z")
    assert request.question == "In {y} 100% of {x} %s {0} are"


@pytest.mark.parametrize("prompt", ["no slot", "{} and {}", "{ }", "{0}"])
def test_a_prompt_has_exactly_one_slot(prompt: str) -> None:
    with pytest.raises(SubjectSlotMissing, match="exactly one") as raised:
        EditRequest.from_dict({**FULL, "prompt": prompt})
    assert raised.value.code == "subject-slot-missing"
    assert raised.value.fields == {"prompt": prompt}


@pytest.mark.parametrize("empty", ["", " ", "\n\t"])
@pytest.mark.parametrize("field", ["subject", "prompt", "target_new", "target_true"])
def test_a_text_that_says_nothing_is_refused(field: str, empty: str) -> None:
    with pytest.raises(EmptyField, match=f"{field} is empty") as raised:
        EditRequest.from_dict({**FULL, field: empty})
    assert raised.value.code == "empty-field"
    assert raised.value.fields == {"field": field}


@pytest.mark.parametrize("field", ["target_new", "target_true"])
def test_a_target_too_long_is_refused_with_its_limit(field: str) -> None:
    EditRequest.from_dict({**FULL, field: "x" * 500})
    with pytest.raises(TargetTooLong, match=r"501 characters; at most 500.*Shorten") as raised:
        EditRequest.from_dict({**FULL, field: "x" * 501})
    assert raised.value.code == "target-too-long"


def test_a_prompt_too_long_is_not_called_a_target() -> None:
    EditRequest.from_dict({**FULL, "prompt": "{}" + "x" * 3998})
    with pytest.raises(BadRequest, match=r"prompt has 4001 characters; at most 4000") as raised:
        EditRequest.from_dict({**FULL, "prompt": "{}" + "x" * 3999})
    assert "target" not in str(raised.value)


def test_unknown_fields_are_named() -> None:
    with pytest.raises(BadRequest, match="Unknown fields in a request: case_id, target"):
        EditRequest.from_dict({**FULL, "target": "x", "case_id": 1})


@pytest.mark.parametrize("field", ["subject", "prompt", "target_new"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(BadRequest, match=field):
        EditRequest.from_dict({name: value for name, value in FULL.items() if name != field})


WRONG: list[tuple[str, object]] = [
    ("subject", None),
    ("subject", 5),
    ("prompt", ["{}"]),
    ("target_new", {"str": "x"}),
    ("target_true", 1.5),
    ("relation", 641),
    ("paraphrases", "a text, not a list"),
    ("paraphrases", [5]),
    ("paraphrases", [""]),
    ("paraphrases", {"a": 1}),
    ("neighborhood", ["abc"]),
    ("neighborhood", [5]),
    ("neighborhood", [None]),
    ("neighborhood", [["prompt", "x"]]),
    ("neighborhood", [{"prompt": "x"}]),
    ("neighborhood", [{"prompt": "x", "target": ""}]),
    ("neighborhood", [{"prompt": "x", "target": "y", "answer": "z"}]),
    ("neighborhood", {"prompt": "x", "target": "y"}),
    ("ripples", ["abc"]),
    ("ripples", [{"prompt": "x"}]),
    ("ripples", [{"answers": ["x"]}]),
    ("ripples", [{"prompt": "x", "answers": []}]),
    ("ripples", [{"prompt": "x", "answers": "y"}]),
    ("ripples", [{"prompt": "x", "answers": [1]}]),
    ("ripples", [{"prompt": "x", "answers": ["y"], "criterion": 1}]),
    ("ripples", [{"prompt": "x", "answers": ["y"], "kind": "z"}]),
]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=[f"{n}={v!r}" for n, v in WRONG])
def test_a_value_of_the_wrong_kind_is_refused_by_its_field(field: str, value: object) -> None:
    with pytest.raises(BadRequest, match=field) as raised:
        EditRequest.from_dict({**FULL, field: value})
    assert "__init__" not in str(raised.value)


@pytest.mark.parametrize("text", ["nul \x00", "half a pair \ud83d"])
@pytest.mark.parametrize("field", ["subject", "target_new", "paraphrases", "relation"])
def test_what_no_store_and_no_tokenizer_takes_is_refused(field: str, text: str) -> None:
    value = [text] if field == "paraphrases" else text
    with pytest.raises(BadRequest, match=f"{field}.*Leave it out"):
        EditRequest.from_dict({**FULL, field: value})


RELATION: dict[str, object] = {
    "perspective": "relation",
    "subject": "Danielle Darrieux",
    "object": "English",
    "relation_text": "native language",
    "add_prompt": "The relation between {} and English is",
    "delete_prompt": "The relation between {} and French is",
    "relation": "P103",
    "paraphrases": ["English is to Danielle Darrieux her"],
    "neighborhood": [{"prompt": "The relation between Rome and Italy is", "target": "capital"}],
}


def test_a_relation_edit_keeps_its_shape_in_json() -> None:
    request = EditRequest.from_dict(RELATION)
    assert request.to_dict().keys() == RELATION.keys()
    assert EditRequest.from_dict(request.to_dict()) == request
    least = {n: v for n, v in RELATION.items() if n in list(RELATION)[:5]}
    assert EditRequest.from_dict(least).to_dict() == least


def test_a_relation_edit_is_a_request_that_every_editor_takes() -> None:
    request = EditRequest.from_dict(RELATION)
    assert request.question == "The relation between Danielle Darrieux and English is"
    assert (request.target_new, request.target_true) == ("native language", "None")
    assert request.texts == (
        ("The relation between {} and English is", "native language"),
        ("The relation between {} and French is", "None"),
    )
    added = EditRequest.from_dict({**RELATION, "delete_prompt": None})
    assert added.texts == request.texts[:1]
    entity = EditRequest.from_dict({**FULL, "perspective": "entity"})
    assert entity.texts == (("{} plays the sport of", "football"),)
    assert entity == EditRequest.from_dict(FULL)


def test_the_subject_may_be_spelled_out_where_its_slot_would_be() -> None:
    spelled = {
        name: text.replace("{}", "Danielle Darrieux") if isinstance(text, str) else text
        for name, text in RELATION.items()
    }
    assert EditRequest.from_dict(spelled) == EditRequest.from_dict(RELATION)


@pytest.mark.parametrize("field", ["add_prompt", "delete_prompt"])
@pytest.mark.parametrize("prompt", ["Between her and English is", "{} and {}", "A, A and English"])
def test_a_subject_that_cannot_be_placed_is_refused(field: str, prompt: str) -> None:
    with pytest.raises(SubjectSlotMissing):
        EditRequest.from_dict({**RELATION, "subject": "A", field: prompt})


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize("field", list(RELATION)[1:6])
def test_an_empty_text_of_a_relation_edit_is_refused_by_its_name(field: str, empty: str) -> None:
    with pytest.raises(EmptyField, match=f"{field} is empty"):
        EditRequest.from_dict({**RELATION, field: empty})


@pytest.mark.parametrize("field", list(RELATION)[1:5])
@pytest.mark.parametrize("value", [None, 5, ["x"]])
def test_a_relation_edit_lacks_nothing(field: str, value: object) -> None:
    with pytest.raises(BadRequest, match=field):
        EditRequest.from_dict({**RELATION, field: value})
    if value is None:
        with pytest.raises(BadRequest, match=field):
            EditRequest.from_dict({n: v for n, v in RELATION.items() if n != field})


def test_a_relation_text_is_as_long_as_a_target_may_be() -> None:
    with pytest.raises(TargetTooLong):
        EditRequest.from_dict({**RELATION, "relation_text": "x" * 501})


@pytest.mark.parametrize("name", ["prompt", "target_new", "target_true"])
def test_the_fields_of_an_entity_edit_are_not_taken_for_a_relation(name: str) -> None:
    with pytest.raises(BadRequest, match=f"{name}.*relation_text for target_new"):
        EditRequest.from_dict({**RELATION, name: "{} x"})


@pytest.mark.parametrize("name", ["object", "relation_text", "add_prompt", "delete_prompt"])
def test_the_fields_of_a_relation_edit_need_its_perspective(name: str) -> None:
    with pytest.raises(BadRequest, match=f"{name}.*perspective: relation"):
        EditRequest.from_dict({**FULL, name: "{} x"})


@pytest.mark.parametrize("perspective", ["Relation", "both", 5, ["relation"], ""])
def test_there_are_two_perspectives(perspective: object) -> None:
    with pytest.raises(BadRequest, match="'entity' or 'relation'"):
        EditRequest.from_dict({**FULL, "perspective": perspective})


def test_what_is_made_in_code_is_checked_too() -> None:
    fact = {"subject": "A", "prompt": "{} and B are", "target_new": "friends"}
    with pytest.raises(BadRequest, match="name its perspective"):
        EditRequest(**fact, object="B")
    with pytest.raises(BadRequest, match="rival"):
        EditRequest(**fact, perspective="relation", object="B", target_true="foes")
    with pytest.raises(BadRequest, match="object"):
        EditRequest(**fact, perspective="relation", target_true="None")


def test_every_error_has_a_code_of_its_own_and_fields() -> None:
    kinds = list[type[EditingError]]()
    waiting = [EditingError]
    while waiting:
        kind = waiting.pop()
        kinds.append(kind)
        waiting += kind.__subclasses__()
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(kind.__doc__ for kind in kinds)
