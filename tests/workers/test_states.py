"""Older states and deltas are kept as long as memory allows."""

import pytest
import torch

from editing.delta import Delta, Dense, LowRank, Preface, Slices
from editing.model.state import State
from editing.outcome import Outcome, Written
from workers.states import OutcomeCache, StateCache

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


def outcome(kib: int) -> Outcome:
    return Outcome({"w": Dense(torch.zeros(kib * 16, 16))})


ROW = torch.zeros(1, 256)  # a KiB
KINDS: list[tuple[Delta, int]] = [
    (LowRank(ROW.T, ROW), 2 * KIB),
    (Slices(0, torch.zeros(2, dtype=torch.int64), torch.zeros(2, 256), (8, 256)), 2 * KIB + 40),
    (Dense(ROW), KIB),
    (Preface("x" * KIB), KIB),
]


@pytest.mark.parametrize(("delta", "size"), KINDS)
def test_every_kind_of_delta_counts_its_bytes(delta: Delta, size: int) -> None:
    written = {"v": Written(ROW.T, ROW.T, ROW.T)}
    cache = OutcomeCache(KIB, lambda _: Outcome({"w": delta}, written))
    cache.get("a")
    assert cache.nbytes == size + 3 * KIB


def test_deltas_are_counted_by_their_bytes_and_not_by_their_number() -> None:
    read: list[str] = []

    def reads(blob: str) -> Outcome:
        read.append(blob)
        return outcome(8 if blob == "large" else 1)

    cache = OutcomeCache(4 * KIB, reads)
    for blob in ("a", "b", "c", "d", "a"):
        cache.get(blob)
    assert (read, cache.nbytes, len(cache)) == (["a", "b", "c", "d"], 4 * KIB, 4)
    cache.get("e")  # in the place of b, which was not asked for longest
    cache.get("a")
    cache.get("b")
    assert read[4:] == ["e", "b"]
    cache.get("large")
    assert (len(cache), cache.nbytes) == (1, 8 * KIB)
