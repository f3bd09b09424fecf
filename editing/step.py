"""What a long computation says between two of its steps. Standard library only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One finished piece of work; while it is being looked at, the model serves its head.

    `stage` is one of "statistics", "z", "keys", "solve", "measure"; `done` of `total` pieces of
    that stage are finished; `loss` is the mean loss of a search, where there is one.
    """

    stage: str
    done: int
    total: int
    loss: float | None = None
