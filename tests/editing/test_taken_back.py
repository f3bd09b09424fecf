"""An edit of a ledger taken back: as if it had never been made, what it replaced included."""

from dataclasses import replace

import torch

from editing.model.view import ModelView
from editing.outcome import Outcome

from .book import PLACE, Book
from .facts import CAPITAL, OTHER_SPORT, SPORT

GENTLE = {"second_moment_weight": 200, "search.min_probability": 0, "joint_probability": 0}
FOOTBALL = replace(SPORT, target_new="football")
OTHER_WORDS = replace(PLACE, target_new="football", relation="P641")


def weights(view: ModelView) -> list[torch.Tensor]:
    return [view.master(view.down_proj(layer)).double() for layer in (1, 3)]


def apart(some: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    return max(float((a - b).norm() / b.norm()) for a, b in zip(some, others, strict=True))


def live(book: Book) -> list[list[str]]:
    return sorted([edit for edit, _ in slot] for slot in book.slots)


def test_what_it_replaced_is_said_again_and_the_weights_are_what_they_were(
    llama: ModelView,
) -> None:
    book = Book(llama, **GENTLE)
    book.write(SPORT)
    before = weights(llama)
    book.write(FOOTBALL)
    assert apart(weights(llama), before) > 1e-3
    made = book.without("e1")
    assert (made.ends, made.holds) == (("e1",), ("e0",))
    assert live(book) == [["e0"]]
    assert apart(weights(llama), before) < 1e-6


def test_so_they_are_where_it_had_joined_a_slot(llama: ModelView) -> None:
    book = Book(llama, **GENTLE)
    book.write(CAPITAL)
    book.write(SPORT)
    before = weights(llama)
    book.write(PLACE)
    assert live(book) == [["e0"], ["e1", "e2"]]
    made = book.without("e2")
    assert (made.ends, made.holds) == (("e2",), ())
    assert live(book) == [["e0"], ["e1"]]
    assert apart(weights(llama), before) < 1e-6


def test_later_edits_stay_and_what_is_left_is_the_joint_solution(llama: ModelView) -> None:
    book = Book(llama, **GENTLE)
    for fact in (SPORT, PLACE, FOOTBALL, CAPITAL, OTHER_SPORT):
        book.write(fact)
    book.without("e2")
    assert live(book) == [["e0", "e1"], ["e3"], ["e4"]]
    assert book.off() < 1e-6


def test_where_others_share_its_slot_by_now_what_it_replaced_is_searched(llama: ModelView) -> None:
    book = Book(llama)
    book.write(SPORT)
    book.write(FOOTBALL)
    book.write(PLACE)
    made = book.without("e1")
    assert (made.ends, made.holds) == (("e1",), ("e0",))
    assert live(book) == [["e2", "e0"]]
    assert book.says(SPORT, PLACE) == [True, True]
    assert book.off() < 1e-4


def test_one_after_another(llama: ModelView) -> None:
    book = Book(llama, **GENTLE)
    for fact in (SPORT, FOOTBALL, replace(SPORT, target_new="Madrid")):
        book.write(fact)
    assert book.without("e2").holds == ("e1",)
    assert book.without("e1").holds == ("e0",)
    assert live(book) == [["e0"]]
    book.without("e0")
    assert live(book) == []


def test_what_was_taken_back_itself_does_not_return(llama: ModelView) -> None:
    book = Book(llama, **GENTLE)
    book.write(replace(SPORT, target_new="Madrid"))
    book.write(SPORT, CAPITAL)
    book.write(FOOTBALL)
    book.without("e1")  # of it only the capital was live
    assert live(book) == [["e2"]]
    made = book.without("e2")  # so what that one had replaced
    assert made.holds == ("e0",)
    assert live(book) == [["e0"]]


def test_what_a_live_edit_answers_does_not_return(llama: ModelView) -> None:
    book = Book(llama, **GENTLE)
    book.write(SPORT)
    book.write(FOOTBALL, CAPITAL)
    book.write(replace(SPORT, target_new="Madrid"))
    made = book.without("e1")
    assert made.holds == ()
    assert live(book) == [["e2"]]


def test_what_can_no_longer_be_said_is_named_and_the_edit_goes_all_the_same(
    llama: ModelView,
) -> None:
    book = Book(llama, late_layers=[2])
    book.write(SPORT)
    book.write(FOOTBALL)
    book.write(PLACE)
    book.hparams |= {"joint_probability": 1.0, "search.steps": 1, "search.min_probability": 0.5}
    made: Outcome = book.without("e1")
    assert made.holds == ()
    assert made.notes["not_brought_back"] == [SPORT.question]
    assert live(book) == [["e2"]]


IN_OTHER_WORDS = replace(
    SPORT, prompt="Therefore we know. The sport of {} is", target_new="football", relation="P641"
)


def test_what_would_return_to_a_key_that_others_have_by_now_is_searched_with_them(
    llama: ModelView,
) -> None:
    book = Book(llama, joint_probability=0, **{"search.min_probability": 0})
    book.write(replace(SPORT, relation="P641"))
    assert book.write(IN_OTHER_WORDS).ends == ("e0",)
    assert book.write(PLACE).removes == ()  # at the first one's key, where nothing is now
    made = book.without("e1")
    assert made.holds == ("e0",)
    assert live(book) == [["e2", "e0"]]


def test_what_a_later_edit_answers_by_the_question_alone_does_not_return(llama: ModelView) -> None:
    book = Book(llama, joint_probability=0, **{"search.min_probability": 0})
    book.write(replace(SPORT, relation="P641"))
    book.write(IN_OTHER_WORDS)
    book.write(FOOTBALL)  # the first one's question, and no relation: it replaces neither
    assert book.without("e1").holds == ()
    assert live(book) == [["e2"]]


def test_what_returns_is_named_fact_by_fact(llama: ModelView) -> None:
    book = Book(llama, **GENTLE)
    book.write(SPORT, CAPITAL)
    book.write(FOOTBALL)
    made = book.without("e1")
    assert made.holds == ()  # its edit was live all the time
    assert made.notes["returned"] == [{"edit": "e0", "number": 0}]


def test_equal_orders_name_what_they_end_in_one_order(llama: ModelView) -> None:
    book = Book(llama, **GENTLE)
    for fact in (SPORT, CAPITAL, OTHER_SPORT):
        book.write(fact)
    batch = (
        replace(CAPITAL, target_new="Paris"),
        FOOTBALL,
        replace(OTHER_SPORT, target_new="Rome"),
    )
    assert book.write(*batch).ends == ("e0", "e1", "e2")
