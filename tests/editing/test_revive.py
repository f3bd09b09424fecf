"""Changes leave dominant directions alone, and what that cuts is made up for."""
# ruff: noqa: N806 - the notation of the papers

import torch

from editing.editors.revive import _dominant, _largest, _Memory, _memory
from editing.editors.solution import changed
from editing.history import History
from editing.model.state import State
from editing.model.view import ModelView
from editing.retract import metric_of
from editing.walk import Plan

from .book import PLACE, Book
from .facts import CAPITAL, OTHER_SPORT, SPORT

FILTER = {
    "filter_after": 0,
    "filtered_energy": 0.3,
    "joint_probability": 0,
    "search.min_probability": 0,
}


def test_a_change_has_nothing_in_the_dominant_directions(llama: ModelView) -> None:
    book = Book(llama, **FILTER)
    made = book.write(SPORT)
    for name, change in made.changes.items():
        U, V = _dominant(llama, name, 0.3)
        D = change.matrix().double()
        assert U.shape[1] >= 1
        assert (U.mT @ D).norm() < 1e-6 * D.norm()
        assert (D @ V).norm() < 1e-6 * D.norm()


def test_the_dominant_directions_hold_at_most_their_share(llama: ModelView) -> None:
    name = llama.down_proj(1)
    s = torch.linalg.svdvals(llama.master(name, State()).double()) ** 2
    for energy in (0.1, 0.5, 1.0):
        U, V = _dominant(llama, name, energy)
        count = U.shape[1]
        assert V.shape[1] == count
        assert s[:count].sum() <= energy * s.sum() * (1 + 1e-9)
        assert count == len(s) or s[: count + 1].sum() > energy * s.sum()


def test_what_is_missing_of_the_joint_solution_is_told_exactly(llama: ModelView) -> None:
    """S A - sum T KT is W A - W0 A0 - sum V KT, also where slots were taken out."""
    book = Book(llama, **FILTER)
    for fact in (SPORT, CAPITAL, PLACE, OTHER_SPORT):  # the third takes the first one's slot out
        book.write(fact)
    book.without("e1")
    history = History(book.entries)
    plan = Plan.of(llama, "ledger", book.hparams)
    bases, made_by = metric_of(llama, plan)
    for layer in (1, 3):
        name = llama.down_proj(layer)
        W, W_0 = llama.master(name).double(), llama.master(name, State()).double()
        A_0 = torch.linalg.inv(bases(("mlp", layer)).inverse)
        E = (W - W_0) @ A_0
        for entry in history.live:  # what is missing at each live key, as the weights are now
            pair = entry.load().written.get(name)
            if pair is not None:
                later = book.entries[[one.id for one in book.entries].index(entry.id) + 1 :]
                K = pair.keys.double()
                moved = sum(one.load().changes[name].at(K) for one in later)
                E = E - (pair.missing.double() - moved) @ K.mT
        start = _Memory(torch.zeros_like(A_0), torch.zeros_like(W))
        memory = _memory(history, name, made_by, start)
        S = changed(history, name, made_by)
        assert S is not None
        found = S @ (A_0 + memory.P) - memory.Q
        assert E.norm() > 1e-3 * ((W - W_0) @ A_0).norm()  # or there was nothing to see
        assert (found - E).norm() < 1e-4 * E.norm()


def test_the_weights_are_what_the_filter_lets_through_of_the_joint_solution(
    llama: ModelView,
) -> None:
    """And not the sum of what it let through of each edit: what was cut is asked for again."""
    book = Book(llama, **FILTER)
    for fact in (SPORT, CAPITAL, OTHER_SPORT):
        book.write(fact)
    for layer in (1, 3):
        name = llama.down_proj(layer)
        start = llama.master(name, State()).double()
        change, whole = llama.master(name).double() - start, book.joint(layer) - start
        U, V = _dominant(llama, name, 0.3)
        whole = whole - U @ (U.mT @ whole)
        whole = whole - (whole @ V) @ V.mT
        assert (change - whole).norm() < 1e-4 * whole.norm()


def test_the_largest_directions_of_a_change() -> None:
    torch.manual_seed(0)
    U, _ = torch.linalg.qr(torch.randn(12, 12).double())
    V, _ = torch.linalg.qr(torch.randn(20, 12).double())
    s = torch.tensor([9.0, 8, 7, *[1e-3] * 9]).double()
    D = (U * s) @ V.mT
    kept = _largest(D, 3)
    assert kept.rank == 3
    assert (kept.matrix().double() - (U[:, :3] * s[:3]) @ V[:, :3].mT).norm() < 1e-5 * D.norm()
    assert (_largest(D, 12).matrix().double() - D).norm() < 1e-6 * D.norm()
