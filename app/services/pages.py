"""Lists in pages: a page ends with the id after which the next one begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A piece of a list."""

    data: Sequence[T]
    has_more: bool
    next: str | None


def cut(rows: Sequence[T], limit: int) -> Page[T]:
    """Make a page of `limit` rows; the query has asked for one more, to see whether there is."""
    data, more = rows[:limit], len(rows) > limit
    last: str | None = getattr(data[-1], "id", None) if more else None
    return Page(data=data, has_more=more, next=last)
