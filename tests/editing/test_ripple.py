"""Ripples: what counts as an answer, which tests count, and the scores by hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from editing.datasets.ripple_types import RippleCase, RippleQuery, RippleTest
from editing.delta import PREFACE, Preface
from editing.evals import run as evals
from editing.evals.catalogue import SUITES
from editing.evals.options import RippleOptions
from editing.evals.ripple_summary import summarise
from editing.evals.scene import Scene
from editing.metrics.answers import answers, likeliest, replies, sayable, says
from editing.metrics.ripple import (
    conditions_met,
    conditions_of,
    every_value,
    failure_of,
    imagined,
    passes,
    request_ripples,
    ripple_of,
)
from editing.model.generate import greedy
from editing.model.scoring import score
from editing.model.state import State
from editing.model.view import ModelView
from editing.request import Ripple
from editing.run import finish
from editing.walk import promotion_report

from .facts import SPORT, changed, copied, hooked, logits_of, planned, run

FRANCE = RippleQuery(prompt="The capital of France is", answers=(("Paris", "Lutetia"),))
WRONG = RippleQuery(prompt="The capital of France is", answers=(("Madrid",),))
ITALY = RippleQuery(prompt="The capital of Italy is", answers=(("Rome",),))
FOLLOWS = RippleQuery(
    prompt="Therefore we know. LeBron James plays the sport of", answers=(("tennis",), ("golf",))
)
UNSAYABLE = RippleQuery(prompt="The capital of Spain is", answers=(("東" * 200,),))


def of(
    criterion: str, *queries: RippleQuery, condition: str = "or", given: Sequence[RippleQuery] = ()
) -> RippleTest:
    return RippleTest(
        criterion=criterion,
        queries=queries,
        condition=condition,
        conditions=tuple(given),  # type: ignore[arg-type]
    )


CASE = RippleCase(
    number=7,
    form="native",
    edit=SPORT,
    tests=(
        of("subject_aliasing", FOLLOWS, given=[FOLLOWS]),  # its own condition is ignored
        of("compositionality_i", FOLLOWS, given=[WRONG]),  # never met
        of("relation_specificity", FRANCE, given=[FRANCE]),
        of("relation_specificity", WRONG),  # the model does not know it
        of("preservation", ITALY, WRONG),  # one of two is not known before
        of("logical_generalization", UNSAYABLE),
    ),
)


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (" a man called syria. And", "Syria", True),
        (" Syrian pounds", "Syria", False),
        (" the US dollar", "US", True),
        (" it told us so", "US", False),
        (" he said no more", "no", True),
        (" nothing", "no", False),
        (" a cat", "a", False),  # any text says one letter
        (" it is 7 of them", "7", True),
        (" 17 of them", "7", False),
        ("東京です", "東京", True),
        ("王です", "王", True),
        (" Győr", "gyo\u030br", True),
        (" New\n York", "new york", True),
        (" L.A. is", "L.A.", True),
        (" anything", " ", False),
    ],
)
def test_a_name_is_said_in_whole_words(text: str, name: str, said: bool) -> None:  # noqa: FBT001
    assert says(text, name) is said


def test_any_value_answers_or_every_one() -> None:
    groups = [["Bob", "Robert"], ["Eve"]]
    assert answers("robert.", groups)
    assert not answers("robert.", groups, every=True)
    assert answers("Eve and Robert", groups, every=True)


@pytest.mark.parametrize(
    ("text", "before", "kind"),
    [
        (" Paris. Now", " paris, of course", "no_effect"),
        (":\n- Rome is old", " Rome is old. Yes", "no_effect"),
        (" Rome, where", " Paris", "no_effect"),  # what was true
        (" Oslo", " Paris", "noise"),
        (" ...\n", " Paris", "abstain"),
        (" unknown.", " unknown.", "abstain"),
        (" I do not know", " Paris", "abstain"),
        (" Oslo. She lives in what", " Paris", "abstain"),  # repeats the prompt
    ],
)
def test_a_failure_has_a_kind(text: str, before: str, kind: str) -> None:
    assert failure_of(text, before, "She lives in", ["Rome"]) == kind


def test_several_values_are_all_asked_for_in_the_plural_only() -> None:
    plural = RippleQuery(prompt="The names of the siblings of Ann are", answers=(("Bob",),))
    logical, kept = of("logical_generalization", plural), of("relation_specificity", plural)
    assert every_value(logical, plural, "auto")
    assert not every_value(logical, FRANCE, "auto")
    assert not every_value(kept, plural, "auto")
    assert every_value(kept, FRANCE, "all")
    assert not every_value(logical, plural, "any")


def test_and_needs_every_query_or_one() -> None:
    assert passes(of("preservation", FRANCE, ITALY), [False, True])
    assert not passes(of("preservation", FRANCE, ITALY, condition="and"), [False, True])


def test_what_must_stay_is_its_own_condition() -> None:
    assert conditions_of(of("subject_aliasing", FOLLOWS, given=[FOLLOWS, FRANCE])) == [FRANCE]
    assert conditions_of(of("preservation", FRANCE)) == [FRANCE]


def test_conditions_are_asked_of_the_model_as_it_is(llama: ModelView) -> None:
    found = finish(conditions_met(llama, CASE.tests[:5], "auto", 6))
    assert found == [None, WRONG, None, WRONG, WRONG]


def test_answers_in_batches_are_those_of_one_at_a_time(llama: ModelView) -> None:
    prompts = [f"{name} plays the sport of" for name in ("LeBron James", "Lionel Messi")]
    prompts += [f"The capital of {name} is" for name in ("France", "Italy", "Spain", "日本")] * 4
    together = finish(replies(llama, prompts, 3))
    assert together == {prompt: greedy(llama, [prompt], 3)[0][0] for prompt in prompts}


def test_the_likeliest_name_counts(llama: ModelView) -> None:
    asked = [
        ("The capital of France is", ["Madrid", "Paris"]),
        ("The capital of Italy is", ["Oslo"]),
    ]
    first, second = finish(likeliest(llama, asked))
    alone = finish(score(llama, [("The capital of France is", "Paris")]))[0]
    assert first.logprob == pytest.approx(alone.logprob, abs=1e-4)
    assert (first.greedy, second.greedy) == (True, False)


def test_what_cannot_be_said_is_left_out(llama: ModelView) -> None:
    assert sayable(llama, "She is", [" ", "東" * 200, "Ann", "Bob"], 1, 5) == ["Ann"]
    assert sayable(llama, "She is", ["Ann"], 3, room=500) == []


def measured(view: ModelView, case: RippleCase, **options: object) -> list[dict[str, Any]]:
    scene = Scene(
        view=view,
        options=RippleOptions(max_tokens=6, **options),  # type: ignore[arg-type]
        plan=planned(view, "rome"),
    )
    before, asked = copied(view), logits_of(view, "The capital of France is")

    def seen(_: object) -> None:
        assert view.current is start
        assert not changed(view, before)
        assert not hooked(view)
        assert torch.equal(logits_of(view, "The capital of France is"), asked)

    start = view.current
    return finish(evals.rows_of(SUITES["ripple"], scene, case, 0, start), seen)


def test_a_case_by_hand(llama: ModelView) -> None:
    edit, *rows, skipped = measured(llama, CASE)
    assert (edit["case"], edit["record"], edit["knew_old"], edit["knew_new"]) == (0, 7, True, False)
    assert (edit["says_new_before"], edit["says_new_after"]) == (False, True)
    assert (edit["greedy_after"], edit["prefers_after"]) == (True, True)
    told = [(row["test"], row["prompt"], row["testable"], row.get("right_after")) for row in rows]
    assert told == [
        (0, FOLLOWS.prompt, True, True),
        (1, FOLLOWS.prompt, False, None),
        (2, FRANCE.prompt, True, True),
        (3, WRONG.prompt, False, None),
        (4, ITALY.prompt, False, None),
        (4, WRONG.prompt, False, None),
    ]
    first = rows[0]
    with llama.showing(State()):
        old = finish(score(llama, [(FOLLOWS.prompt, name) for name in ("tennis", "golf")]))
    assert first["logprob_before"] == pytest.approx(max(one.logprob for one in old), abs=1e-3)
    assert first["gain"] == first["logprob_after"] - first["logprob_before"] > 0
    assert (first["right_before"], first["failure"]) == (False, None)
    assert skipped["criterion"] == "logical_generalization"
    assert "tokenizes to nothing" in skipped["why"]
    found = summarise([edit, *rows, skipped], RippleOptions())["values"]
    assert found["edit_success"]["value"] == 1
    assert (found["subject_aliasing"]["value"], found["subject_aliasing"]["before"]) == (1, 0)
    assert (found["relation_specificity"]["n"], found["relation_specificity"]["n_testable"]) == (
        2,
        1,
    )
    assert found["compositionality_i"]["value"] is None
    assert found["preservation"]["n_testable"] == 0
    assert "logical_generalization" not in found
    assert found["ripple_score"]["value"] == 1


def test_the_baseline_only_tells_the_fact(llama: ModelView) -> None:
    told = "Imagine that LeBron James plays the sport of tennis.\n"
    state = imagined(llama, SPORT)
    assert (state.preface, dict(state.masters)) == (told, {})
    rows = measured(llama, replace(CASE, tests=CASE.tests[:1]))
    with llama.showing(llama.after({PREFACE: Preface(told)})):
        assert rows[1]["text_in_context"] == greedy(llama, [FOLLOWS.prompt], 6)[0][0]
    without = measured(llama, replace(CASE, tests=CASE.tests[:1]), in_context=False)
    assert not any("in_context" in key for row in without for key in row)


def test_what_does_not_count_is_asked_when_wanted(llama: ModelView) -> None:
    rows = measured(llama, CASE, untestable=True)
    assert all("right_after" in row for row in rows if row["kind"] == "query")


def test_an_edit_that_cannot_be_told_is_a_failed_case(llama: ModelView) -> None:
    rows = measured(llama, replace(CASE, edit=None, why="no subject."))
    assert [(row["case"], row["failed"]) for row in rows] == [(0, "bad-record")]


def told(case: int, test: int, criterion: str, right: str, **more: object) -> dict[str, Any]:
    """A row: right before, after and in context, as y or n."""
    names = ("before", "after", "in_context")
    told = {f"right_{name}": mark == "y" for name, mark in zip(names, right, strict=True)}
    forced = {f"greedy_{name}": mark == "y" for name, mark in zip(names, right, strict=True)}
    row = {"kind": "query", "case": case, "test": test, "criterion": criterion, "condition": "or"}
    failure = None if told["right_after"] else "noise"
    return {**row, "testable": True, **told, **forced, "gain": 2.0, "failure": failure, **more}


def fact(case: int, *, after: bool, in_context: bool = True) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": "edit", "case": case}
    for name, won in (("before", False), ("after", after), ("in_context", in_context)):
        row |= {f"{key}_{name}": won for key in ("says_new", "greedy", "prefers")}
    return row


ROWS = [
    fact(0, after=True),
    told(0, 0, "subject_aliasing", "nyy"),
    told(0, 1, "subject_aliasing", "nny"),
    told(0, 2, "preservation", "yny"),
    told(0, 3, "preservation", "nnn", testable=False),
    fact(1, after=True),
    told(1, 0, "subject_aliasing", "nyn"),
    told(1, 1, "preservation", "yyy", condition="and"),
    told(1, 1, "preservation", "yny", condition="and"),
    fact(2, after=False, in_context=False),
    told(2, 0, "subject_aliasing", "nnn"),
]  # fmt: skip


def test_the_scores_by_hand() -> None:
    found = summarise(ROWS, RippleOptions())
    values = found["values"]
    alias = values["subject_aliasing"]
    assert (alias["value"], alias["n"], alias["clusters"]) == (0.75, 3, 2)  # (1/2 + 1) / 2
    assert values["subject_aliasing.all_edits"]["value"] == 0.5
    assert values["preservation"]["value"] == 0.0
    assert (values["preservation"]["n"], values["preservation"]["n_testable"]) == (3, 2)
    assert values["preservation"]["before"] == 1.0
    assert values["propagate"]["value"] == 0.75
    assert values["preserve"]["value"] == 0.0
    assert values["ripple_score"]["value"] == 0.375
    assert values["ripple_score.all_edits"]["value"] == 0.25
    assert values["subject_aliasing.in_context"]["value"] == 0.5
    assert values["preservation.in_context"]["value"] == 1.0
    assert values["edit_success"]["value"] == pytest.approx(2 / 3)
    assert values["subject_aliasing.gain"]["value"] == 2.0
    failures = {row[0]: row[1:] for row in found["tables"]["failures"]["rows"]}
    assert failures["preservation"] == [1, 0, 0, 2]


def test_reasoning_counts_where_no_compositionality_is_told() -> None:
    rows = [fact(0, after=True), told(0, 0, "reasoning", "nyy")]
    assert summarise(rows, RippleOptions())["values"]["propagate"]["value"] == 1
    rows.append(told(0, 1, "compositionality_i", "nnn"))
    assert summarise(rows, RippleOptions())["values"]["propagate"]["value"] == 0


def test_nothing_measured_is_no_zero() -> None:
    values = summarise([], RippleOptions())["values"]
    assert values["ripple_score"]["value"] is None
    assert values["edit_success"] == {
        "value": None, "n": 0, "n_testable": 0, "clusters": 0, "low": None, "high": None,
        "before": None,
    }  # fmt: skip


def test_an_edits_report_has_its_own_ripples(llama: ModelView) -> None:
    ripples = (
        Ripple(prompt=FOLLOWS.prompt, answers=("tennis",), criterion="subject_aliasing"),
        Ripple(
            prompt="The capital of France is", answers=("Oslo", "Paris"), criterion="preservation"
        ),
        Ripple(prompt="The capital of Italy is", answers=("東" * 200,)),
    )
    after = llama.after(run(llama, "rome", [SPORT]).deltas)
    asked = [replace(SPORT, ripples=ripples)]
    found: Any = finish(promotion_report(llama, asked, after))["ripple"]
    assert (found["value"], found["n"], found["before"], found["skipped"]) == (1.0, 2, 0.5, 1)
    alias = found["criteria"]["subject_aliasing"]
    assert (alias["value"], alias["n"], alias["before"]) == (1.0, 1, 0.0)
    assert alias["logprob"]["value"] > alias["logprob"]["before"]
    assert found["criteria"]["preservation"]["before"] == 1.0
    assert finish(request_ripples(llama, [SPORT], after)) is None


def test_how_one_answer_moved(llama: ModelView) -> None:
    after = llama.after(run(llama, "rome", [SPORT]).deltas)
    found = finish(ripple_of(llama, FOLLOWS.prompt, "tennis", State(), after))
    assert (found["answers_before"], found["answers"]) == (False, True)
    (old,) = finish(score(llama, [(FOLLOWS.prompt, "tennis")]))
    assert found["logprob_before"] == pytest.approx(old.logprob, abs=1e-4)
    assert found["gain"] == pytest.approx(found["logprob"] - found["logprob_before"])  # type: ignore[operator]
