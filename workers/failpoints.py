"""Named places where a worker dies on purpose, so that tests can show what dying there does.

    in_editor      between two steps of an editor's search for z, or of its solving
    after_blob     the delta is in the blob store; the journal does not know of it
    before_commit  the transaction that settles the order is written, and not committed
    after_commit   the order is settled; whoever waits for the reply to the COMMIT never hears it
    before_swap    the head has moved; the weights in memory are still its parent's
    before_rows    a case of an eval is measured; nothing of it is kept
    after_rows     its rows are kept; the next case has not begun

ERRATA_FAILPOINT names one, `after_blob`, or its third passing, `after_blob:3`. The process ends
there as by kill -9: nothing is flushed, closed or given back.
"""

import os
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from editing.step import Step

OF_ORDERS = ("in_editor", "after_blob", "before_commit", "after_commit", "before_swap")
OF_EVALS = ("before_rows", "after_rows")
NAMES = (*OF_ORDERS, *OF_EVALS)
EXIT_CODE = 137  # what a shell reports of a process that was killed by signal 9

T = TypeVar("T")


class UnknownFailPoint(Exception):
    """The setting names no place where a worker can die."""

    def __init__(self, text: str) -> None:
        known = ", ".join(NAMES)
        super().__init__(
            f"ERRATA_FAILPOINT is {text!r}. It is empty in every service that is to live; "
            f"for tests it is one of {known}, or NAME:N for the N-th passing."
        )


@dataclass(slots=True)
class FailPoint:
    """The place chosen for this process, and how many passings are left until it ends."""

    name: str = ""
    left: int = 1

    @classmethod
    def parse(cls, text: str) -> "FailPoint":
        """Read the setting; an empty one lets everybody pass. Raises UnknownFailPoint."""
        name, colon, count = text.partition(":")
        if not text:
            return cls()
        if name not in NAMES or (colon and not (count.isdecimal() and int(count) >= 1)):
            raise UnknownFailPoint(text)
        return cls(name, int(count or 1))

    def passing(self, name: str) -> None:
        """End the process here and now, if this is the place and the count is reached."""
        if name != self.name:
            return
        self.left -= 1
        if self.left == 0:
            os._exit(EXIT_CODE)

    def inside(self, work: Generator[Step, None, T]) -> Generator[Step, None, T]:
        """The same work of an editor, passing `in_editor` after each step of its own."""
        while True:
            try:
                step = next(work)
            except StopIteration as end:
                return end.value
            yield step
            if step.stage in {"z", "solve"}:
                self.passing("in_editor")
