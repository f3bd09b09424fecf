"""The ledger: facts that share a key share a value, later ones replace earlier ones."""

from dataclasses import replace

import pytest
import torch

from editing.errors import FactsInConflict
from editing.history import History
from editing.model.view import ModelView

from .book import BAND, PLACE, Book
from .conftest import MakeView
from .facts import CAPITAL, OTHER_SPORT, SPORT, run


def test_facts_that_share_a_key_are_all_said_where_history_alone_loses_one(
    make_view: MakeView,
) -> None:
    said: dict[str, list[bool]] = {}
    for editor in ("memit-history", "ledger"):
        book = Book(make_view("llama"), editor, **{"search.min_probability": 0})
        book.write(SPORT)
        book.write(PLACE)
        said[editor] = book.says(SPORT, PLACE)
    assert said["ledger"] == [True, True]
    assert not all(said["memit-history"])


def test_a_joint_slot_takes_the_place_of_those_it_holds(llama: ModelView) -> None:
    book = Book(llama, joint_probability=0)
    book.write(SPORT)
    book.write(CAPITAL)
    made = book.write(PLACE)
    assert made.removes == ("e0#0",)
    assert book.slots == [
        [("e1", CAPITAL.question)],
        [("e0", SPORT.question), ("e2", PLACE.question)],
    ]
    assert book.off() < 1e-4


def test_the_same_question_asked_anew_replaces_the_earlier_answer(llama: ModelView) -> None:
    book = Book(llama)
    book.write(SPORT)
    book.write(PLACE)
    again = replace(SPORT, target_new="football")
    made = book.write(again)
    assert made.notes["replaced"] == [{"edit": "e0", "number": 0}]
    assert book.slots == [[("e1", PLACE.question), ("e2", SPORT.question)]]
    assert book.says(again, PLACE) == [True, True]
    assert book.off() < 1e-4


def test_of_a_batch_the_last_word_counts(llama: ModelView) -> None:
    book = Book(llama)
    book.write(SPORT, CAPITAL, replace(SPORT, target_new="football"), PLACE)
    assert sorted(map(len, book.slots)) == [1, 2]
    assert book.says(replace(SPORT, target_new="football"), PLACE, CAPITAL) == [True] * 3


def test_one_fact_is_taken_out_of_a_joint_slot_and_the_other_stays(llama: ModelView) -> None:
    book = Book(llama)
    for fact in (SPORT, PLACE, CAPITAL):
        book.write(fact)
    book.without("e0")
    assert book.slots == [[("e2", CAPITAL.question)], [("e1", PLACE.question)]]
    assert book.says(SPORT, PLACE, CAPITAL) == [False, True, True]
    assert book.off() < 1e-4


def test_of_a_slot_of_its_own_nothing_is_left(llama: ModelView) -> None:
    book = Book(llama, **{"second_moment_weight": 200, "search.min_probability": 0})
    for fact in (SPORT, CAPITAL, OTHER_SPORT):
        book.write(fact)
    book.without("e1")
    assert book.off() < 1e-6
    book.without("e0")
    book.without("e2")
    assert book.slots == []
    assert book.off() < 1e-5


def test_what_shares_no_value_is_written_at_its_own_token(llama: ModelView) -> None:
    book = Book(llama, joint_probability=1.0)  # no joint search is good enough
    book.write(SPORT)
    made = book.write(PLACE)
    assert made.notes["apart"] == [PLACE.question]
    assert made.removes == ()
    assert book.slots == [[("e0", SPORT.question)], [("e1", PLACE.question)]]
    assert book.says(SPORT) == [True]
    book.without("e1")
    assert book.slots == [[("e0", SPORT.question)]]


def test_what_can_be_said_nowhere_is_refused_with_what_stands_against_it(llama: ModelView) -> None:
    book = Book(llama, joint_probability=1.0)
    book.write(SPORT)
    hopeless = {"joint_probability": 1.0, "search.steps": 1, "search.min_probability": 0.9}
    with pytest.raises(FactsInConflict) as refused:
        run(llama, "ledger", [PLACE], {**BAND, **hopeless}, History(book.entries))
    assert refused.value.fields["conflict"] == [
        {"edit": "e0", "question": SPORT.question, "says": "tennis"}
    ]


def test_taking_out_what_is_not_there(llama: ModelView) -> None:
    book = Book(llama)
    book.write(SPORT)
    with pytest.raises(KeyError):
        book.without("e9")


def test_the_first_edit_is_that_of_memit_with_history(make_view: MakeView) -> None:
    plain = run(make_view("llama"), "memit-history", [SPORT], BAND)
    mine = run(make_view("llama"), "ledger", [SPORT], {**BAND, "written_share": 0.9})
    for name, change in plain.changes.items():
        assert torch.equal(mine.changes[name].matrix(), change.matrix())


def test_live_facts_are_written_anew_beside_a_new_one(llama: ModelView) -> None:
    book = Book(llama)
    book.write(SPORT)
    book.write(CAPITAL)
    made = book.again([("e0", SPORT)], OTHER_SPORT)
    assert made.removes == ("e0#0",)
    assert made.ends == ()
    assert [[edit for edit, _ in slot] for slot in book.slots] == [["e1"], ["e0"], ["e2"]]
    assert book.says(OTHER_SPORT) == [True]
    assert book.off() < 1e-4


def test_what_took_refuge_lies_in_the_late_layers(llama: ModelView) -> None:
    book = Book(llama, joint_probability=1.0, late_layers=[2])
    book.write(SPORT)
    made = book.write(PLACE)
    assert set(made.changes) == {llama.down_proj(2)}
