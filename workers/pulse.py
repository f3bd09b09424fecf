"""The model thread's pulse: whether it still moves, told to the thread that keeps the lease."""

import threading
import time
from dataclasses import dataclass

# What may run between two steps of different stages: a metric is factored, an old state replayed.
_LONG = 5


@dataclass(frozen=True, slots=True)
class Budgets:
    """How many seconds the model thread may be silent before it counts as hung."""

    step: float  # from one step to the next of the same stage
    load: float  # the model comes into memory

    @property
    def solve(self) -> float:
        """Where no step can be reported: factoring, replaying, settling."""
        return self.step * _LONG


class Pulse:
    """Written by the model thread, read by the heartbeat."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due = float("inf")

    def tick(self, budget: float) -> None:
        """Say that the thread moves, and within how many seconds it will say so again."""
        with self._lock:
            self._due = time.monotonic() + budget

    @property
    def overdue(self) -> bool:
        """Whether the thread has been silent for longer than it said it would be."""
        with self._lock:
            return time.monotonic() > self._due
