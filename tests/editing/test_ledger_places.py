"""The ledger: where facts are written, and that what lies there is always the joint solution."""

from dataclasses import replace

import pytest

from editing.errors import InvalidHparam
from editing.model.state import State
from editing.model.view import ModelView
from editing.walk import Plan
from tests.tiny import tiny_tokenizer, untaught

from .book import PLACE, Book
from .facts import CAPITAL, OTHER_SPORT, SPORT

GENTLE = {"second_moment_weight": 200, "search.min_probability": 0}
GAME = replace(SPORT, prompt="{} plays the game of", target_new="Rome", paraphrases=())


def moved(view: ModelView, layer: int) -> float:
    """How far a layer is from what it was, over its own size."""
    weight = view.down_proj(layer)
    start = view.master(weight, State()).double()
    return float((view.master(weight).double() - start).norm() / start.norm())


def test_equal_keys_are_seen_where_the_band_goes_past_layer_nine() -> None:
    deep = untaught("llama", num_hidden_layers=12)
    view = ModelView(deep, tiny_tokenizer(), name="deep")
    book = Book(view, layers=[9, 10], joint_probability=0, **{"search.min_probability": 0})
    book.write(SPORT)
    assert book.write(PLACE).removes == ("e0#0",)
    assert [[edit for edit, _ in slot] for slot in book.slots] == [["e0", "e1"]]


def test_a_refuge_in_the_band_itself_is_part_of_the_joint_solution(llama: ModelView) -> None:
    book = Book(llama, joint_probability=1.0, late_layers=[3], **GENTLE)
    book.write(SPORT)
    made = book.write(PLACE, CAPITAL)  # the one takes refuge, the other does not
    assert made.notes["apart"] == [PLACE.question]
    assert book.off() < 1e-6
    book.write(replace(CAPITAL, target_new="Paris"))
    assert book.off() < 1e-6
    for edit in ("e0", "e1", "e2"):
        if any(edit in {owner for owner, _ in slot} for slot in book.slots):
            book.without(edit)
    assert book.slots == []
    assert max(moved(llama, 1), moved(llama, 3)) < 1e-4


def test_a_slot_that_is_not_in_a_layer_leaves_it_alone(llama: ModelView) -> None:
    book = Book(llama, joint_probability=1.0, late_layers=[2], **GENTLE)
    book.write(SPORT)
    book.write(PLACE, CAPITAL)
    book.write(GAME)  # a refuge: what layer 2 holds is folded
    book.write(replace(CAPITAL, target_new="Paris"))  # takes out what was never in layer 2
    book.write(replace(GAME, target_new="Madrid"))
    assert book.off((1, 2, 3)) < 1e-5


def test_what_took_refuge_is_written_anew_where_it_was(llama: ModelView) -> None:
    book = Book(llama, joint_probability=1.0, late_layers=[2])
    book.write(SPORT)
    book.write(PLACE)
    book.again([("e1", PLACE)], CAPITAL)
    assert book.says(SPORT) == [True]
    assert sorted(edit for slot in book.slots for edit, _ in slot) == ["e0", "e1", "e2"]
    assert max(map(len, book.slots)) == 1


def test_a_fact_at_a_rare_key_can_be_replaced(llama: ModelView) -> None:
    book = Book(llama, second_moment_weight=0.01, **{"search.min_probability": 0})
    book.write(SPORT)
    book.write(replace(SPORT, target_new="football"))
    assert [[edit for edit, _ in slot] for slot in book.slots] == [["e1"]]


def test_other_layers_or_contexts_make_another_solution(llama: ModelView) -> None:
    book = Book(llama, joint_probability=0, **{"search.min_probability": 0})
    book.write(SPORT)
    book.hparams["contexts.prefixes"] = 2
    book.write(CAPITAL)
    book.hparams["layers"] = [1, 2]
    book.write(OTHER_SPORT)
    assert [len(book.slots)] == [1]
    book.compact()  # what was written under these hparams, upon the rest
    assert [[edit for edit, _ in slot] for slot in book.slots] == [["e2"]]


def test_a_number_means_the_same_however_it_is_written(llama: ModelView) -> None:
    book = Book(llama, second_moment_weight=200, **{"search.min_probability": 0})
    book.write(SPORT)
    book.hparams["second_moment_weight"] = 200.0
    assert book.write(replace(SPORT, target_new="football")).ends == ("e0",)


def test_what_is_rewritten_is_what_stays(llama: ModelView) -> None:
    book = Book(llama, joint_probability=0)
    book.write(SPORT)
    book.write(PLACE)
    assert "rewritten" not in book.write(CAPITAL).notes
    assert book.write(replace(SPORT, target_new="football")).notes["rewritten"] == ["e1"]
    assert book.without("e1").notes["rewritten"] == ["e3"]


def test_a_rest_that_no_value_says_is_written_apart(llama: ModelView) -> None:
    book = Book(llama, joint_probability=0, late_layers=[2], **{"search.min_probability": 0})
    for fact in (SPORT, PLACE, GAME):
        book.write(fact)
    book.hparams["joint_probability"] = 1.0
    made = book.without("e0")
    assert made.notes["apart"] == [GAME.question]
    assert book.says(PLACE) == [True]
    assert sorted(edit for slot in book.slots for edit, _ in slot) == ["e1", "e2"]


def test_a_ledger_has_one_key_site(llama: ModelView) -> None:
    with pytest.raises(InvalidHparam):
        Plan.of(llama, "ledger", {"key_site": "prompt_last"})


def test_a_compaction_counts_as_the_edits_it_holds(llama: ModelView) -> None:
    """The filter goes on behind it: it looks at live facts, not at the orders that wrote them."""
    book = Book(llama, joint_probability=0, filter_after=3, **GENTLE)
    for fact in (SPORT, CAPITAL, OTHER_SPORT):
        book.write(fact)
    book.compact()
    wide = book.write(replace(SPORT, subject="Diego Maradona", target_new="tennis"))
    own = max(pair.keys.shape[1] for pair in wide.written.values())
    assert (
        min(change.rank for change in wide.changes.values()) > own
    )  # and makes up for what it cut
