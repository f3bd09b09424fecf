"""All live facts of a ledger in one solution from base; the ledger goes on from there."""

import pytest

from editing.compact import compact
from editing.history import Entry, History
from editing.model.state import State
from editing.model.view import ModelView
from editing.retract import metric_of
from editing.run import finish
from editing.walk import Plan

from .book import BAND, PLACE, Book
from .facts import CAPITAL, OTHER_SPORT, SPORT, run


@pytest.fixture
def book(llama: ModelView) -> Book:
    """Three facts of which two share a slot."""
    made = Book(llama, joint_probability=0)
    for fact in (SPORT, CAPITAL, PLACE):
        made.write(fact)
    return made


def test_the_same_facts_are_said_by_one_entry(book: Book) -> None:
    slots = book.slots
    made = book.compact()
    assert made.holds == ("e1", "e0", "e2")
    assert book.slots == slots
    assert book.says(CAPITAL) == [True]
    assert book.off() < 1e-5


def test_it_is_the_batch_of_all_facts_at_fresh_keys(llama: ModelView) -> None:
    one = Book(llama)
    batch = one.write(SPORT, CAPITAL)
    again = one.compact()
    for name, change in batch.changes.items():
        off = (again.changes[name].matrix() - change.matrix()).norm()
        assert off < 1e-4 * change.matrix().norm()


def test_what_came_before_can_still_be_taken_out(book: Book) -> None:
    book.compact()
    made = book.without("e1")
    assert (made.removes, made.ends) == (("e0#0",), ("e1",))
    assert book.says(PLACE, CAPITAL) == [True, False]
    assert book.off() < 1e-4
    book.without("e0")  # of a slot that another fact shares
    assert book.says(PLACE) == [True]


def test_later_edits_go_on(book: Book) -> None:
    book.compact()
    book.write(OTHER_SPORT)
    assert book.says(PLACE) == [True]
    assert book.off() < 1e-4


def test_it_stands_upon_what_other_editors_changed(llama: ModelView) -> None:
    book = Book(llama)
    book.write(SPORT)
    foreign = run(llama, "rome", [CAPITAL], {"layers": [2]})
    llama.adopt(llama.after(foreign.deltas))
    book.entries.append(Entry("foreign", lambda: foreign))
    book.write(OTHER_SPORT)
    plan = Plan.of(llama, "ledger", book.hparams)
    made = finish(compact(llama, plan, History(book.entries)))
    after = llama.after(made.deltas, llama.after(foreign.deltas, State()))
    llama.adopt(after)
    assert made.holds == ("e0", "e2")
    assert book.says(SPORT, OTHER_SPORT, CAPITAL) == [True] * 3


def test_what_cannot_be_compacted(llama: ModelView) -> None:
    with pytest.raises(KeyError):
        finish(compact(llama, Plan.of(llama, "ledger", BAND), History.empty()))
    with pytest.raises(KeyError):
        metric_of(llama, Plan.of(llama, "rome"))
    with pytest.raises(KeyError):
        finish(compact(llama, Plan.of(llama, "memit-history", BAND), History.empty()))
