"""Records in the sets that are edited together: each alone, in one batch, or one after another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Mode = Literal["single", "batch", "consecutive"]


class InSets(Protocol):
    """The options that say how records are put together."""

    @property
    def mode(self) -> Mode:
        """How the records of a set are edited."""
        ...

    @property
    def size(self) -> int | None:
        """Records of a set; None: all."""
        ...


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A record that says what it is of, but not what could be measured."""

    number: int  # of the record, from 0
    why: str


@dataclass(frozen=True, slots=True)
class RecordSet(Generic[T_co]):
    """One case: records that are edited in one go, and those left out on the way to them."""

    mode: Mode
    records: tuple[T_co, ...]
    left_out: tuple[LeftOut, ...] = ()


def in_sets(found: Sequence[T | LeftOut], options: InSets) -> list[RecordSet[T]]:
    """Sets of `size` records, all in one where that is None; of one record in mode single.

    The last set may be smaller. What is left out fills no set.
    """
    mode, size = options.mode, options.size
    full = 1 if mode == "single" else size or len(found)
    sets: list[RecordSet[T]] = []
    records: list[T] = []
    left_out: list[LeftOut] = []
    for one in found:
        if isinstance(one, LeftOut):
            left_out.append(one)
        else:
            records.append(one)
        if len(records) == full or (mode == "single" and left_out):
            sets.append(RecordSet(mode, tuple(records), tuple(left_out)))
            records, left_out = [], []
    if records or left_out:
        sets.append(RecordSet(mode, tuple(records), tuple(left_out)))
    return sets
