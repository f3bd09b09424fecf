"""Older states are kept as long as memory allows."""

import torch

from editing.model.state import State
from workers.states import StateCache

KIB = 1024


def state(kib: int = 1) -> State:
    return State({"w": torch.zeros(kib * 256)})


def test_the_one_not_asked_for_longest_goes_first() -> None:
    cache = StateCache(2 * KIB)
    for name in "ab":
        cache.put(name, state())
    assert cache.get("a") is not None
    cache.put("c", state())
    assert [name for name in "abc" if cache.get(name)] == ["a", "c"]


def test_the_newest_stays_even_when_it_is_too_large() -> None:
    cache = StateCache(KIB)
    cache.put("a", state())
    cache.put("b", state(8))
    assert [name for name in "ab" if cache.get(name)] == ["b"]


def test_what_two_states_share_counts_once() -> None:
    cache = StateCache(3 * KIB)
    one = state(2)
    for name in "abc":
        cache.put(name, State(dict(one.masters)))
    assert len(cache) == 3
    assert cache.nbytes == 2 * KIB
