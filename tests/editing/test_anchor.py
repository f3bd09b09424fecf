"""Values are held to the length of the lineage's first ones."""

import pytest
import torch

from editing.editors.anchor import NOTE, anchor, held
from editing.history import History
from editing.model.view import ModelView
from editing.outcome import SOLUTION, Outcome

from .book import Book
from .facts import CAPITAL, SPORT


def told(*lengths: float, by: str = "mine") -> Outcome:
    return Outcome({}, {}, {SOLUTION: by, NOTE: list(lengths)})


def lineage(*outcomes: Outcome) -> History:
    return History([(str(n), lambda one=one: one) for n, one in enumerate(outcomes)])


def test_the_anchor_is_the_mean_of_the_first_values_without_the_longest() -> None:
    first = [1.0] * 19 + [100.0]
    assert anchor(lineage(told(*first)), "mine") == 1.0


def test_few_values_set_no_anchor_and_late_ones_do_not_move_it() -> None:
    assert anchor(lineage(told(*[1.0] * 15)), "mine") is None
    assert anchor(lineage(told(*[1.0] * 15), told(1.0)), "mine") == 1.0
    assert anchor(lineage(told(*[1.0] * 64), told(*[9.0] * 64)), "mine") == 1.0


def test_only_values_of_the_same_solution_set_it() -> None:
    assert anchor(lineage(told(*[9.0] * 40, by="other"), told(*[1.0] * 16)), "mine") == 1.0


def test_what_is_longer_is_shortened_and_the_rest_is_left_as_it_is() -> None:
    v = torch.tensor([[3.0, 0.0], [0.0, 1.0]]).double()
    d = torch.tensor([[0.0, 4.0], [0.0, 1.0]]).double()
    found = held(v, d, 2.5)
    assert (v + found).norm(dim=1).tolist() == pytest.approx([2.5, 2.0])
    assert torch.equal(found[1], d[1])
    assert held(v, d, None) is d


def test_an_outcome_keeps_the_lengths_that_its_search_found(llama: ModelView) -> None:
    book = Book(llama)
    made = book.write(SPORT, CAPITAL)
    assert len(made.notes[NOTE]) == 2  # type: ignore[arg-type]
    history = lineage(made, told(*[1e-3] * 20, by=str(made.solution)))
    book.entries = list(history.entries)
    short = book.write(SPORT)
    weight = llama.down_proj(3)
    reached = short.written[weight].targets.norm(dim=0)
    assert float(reached.max()) < 0.2 * float(made.written[weight].targets.norm(dim=0).min())
