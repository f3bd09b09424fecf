"""IKE true to its source: what the preface says, in which order, and what it is never made of."""

from dataclasses import replace

import pytest
import torch

from editing.delta import PREFACE, Preface
from editing.errors import TextTooLong
from editing.model.generate import greedy
from editing.model.scoring import score
from editing.model.state import State
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.run import finish
from editing.walk import Plan, edit

from .facts import CAPITAL, SPORT, logits_of, planned, run

ZERO = {"demonstrations": False}
RELATION = EditRequest.from_dict(
    {
        "perspective": "relation",
        "subject": "Italy",
        "object": "Rome",
        "relation_text": "its capital.",
        "add_prompt": "Rome is to {} ",
        "delete_prompt": "Madrid is to {}",
    }
)


def told(
    view: ModelView, requests: list[EditRequest], overrides: dict[str, object] | None = None
) -> list[str]:
    outcome = run(view, "ike", requests, {} if overrides is None else overrides)
    (delta,) = outcome.deltas.values()
    assert isinstance(delta, Preface)
    assert outcome.notes == {"preface": delta.text}
    assert delta.text.endswith("\n")
    return delta.text.splitlines()


def test_without_demonstrations_each_fact_is_one_line(llama: ModelView) -> None:
    assert told(llama, [SPORT, CAPITAL], ZERO) == [
        "New fact: LeBron James plays the sport of tennis.",
        "New fact: The capital of Italy is Madrid.",
    ]
    assert told(llama, [SPORT], {"form": "imagine"}) == [
        "Imagine that LeBron James plays the sport of tennis."
    ]


def test_demonstrations_copy_update_and_retain(llama: ModelView) -> None:
    plan = planned(llama, "ike", {})
    (prefix,) = llama.stats.prefixes(plan.hparams.contexts)
    (answer,), _ = greedy(llama, ["Italy is a"], 8)
    assert told(llama, [CAPITAL]) == [
        "New fact: The capital of Italy is Madrid.",
        "The capital of Italy is Madrid.",
        f"{prefix}. The capital of Italy is Madrid.",
        f"Italy is a {answer.strip().rstrip('.')}.",
    ]


def test_what_the_subject_is_says_nothing_of_the_old_answer(llama: ModelView) -> None:
    (answer,), _ = greedy(llama, ["Italy is a"], 8)
    named = replace(CAPITAL, target_true=answer.split()[0])
    assert not any(line.startswith("Italy is a") for line in told(llama, [named]))
    silent = replace(CAPITAL, target_true=None)
    assert any(line.startswith("Italy is a") for line in told(llama, [silent]))


def test_what_it_is_measured_on_stands_in_it_only_where_that_was_asked_for(
    llama: ModelView,
) -> None:
    few = {"contexts.prefixes": 0}
    reworded = "I like the sea. LeBron James plays the sport of"
    fact = replace(SPORT, paraphrases=(reworded,))
    lines = told(llama, [fact], few)
    assert reworded not in "".join(lines)
    assert not any(near.prompt in line for near in fact.neighborhood for line in lines)
    assert lines.count("LeBron James plays the sport of tennis.") == 1
    shown = told(llama, [fact], {**few, "contexts.paraphrases": True})
    assert [line for line in shown if line not in lines] == [f"{reworded} tennis."]


def test_a_relation_is_told_with_what_is_no_relation_any_more(llama: ModelView) -> None:
    assert told(llama, [RELATION], ZERO) == [
        "New fact: Rome is to Italy its capital.",
        "New fact: Madrid is to Italy None.",
    ]


def test_edits_stand_one_behind_the_other_and_no_weight_moves(view: ModelView) -> None:
    base = logits_of(view, SPORT.question)
    alone = finish(score(view, [(SPORT.question, "tennis")]))
    for fact in (SPORT, CAPITAL):
        view.adopt(view.after(run(view, "ike", [fact], ZERO).deltas))
    assert view.current.preface.splitlines() == told(view, [SPORT, CAPITAL], ZERO)
    assert view.current.masters == {}
    assert torch.equal(logits_of(view, SPORT.question), base)
    assert finish(score(view, [(SPORT.question, "tennis")])) != alone


def test_what_it_says_does_not_depend_on_what_was_told_before(llama: ModelView) -> None:
    lines = told(llama, [CAPITAL])
    llama.adopt(State(preface="You are from the house by the sea. "))
    assert told(llama, [CAPITAL]) == lines


def test_where_no_room_is_left_to_ask_the_order_fails_in_words(llama: ModelView) -> None:
    plan = Plan.of(llama, "ike", ZERO)
    llama.adopt(llama.after({PREFACE: Preface("the sea " * 40)}))
    bits = llama.audit()
    finish(edit(llama, plan, [CAPITAL]))
    with pytest.raises(TextTooLong, match="of them are the preface"):
        finish(edit(llama, plan, [CAPITAL] * 6))
    assert llama.audit() == bits
