"""Running the generators of the core: to their end, under a state, and with a stopwatch."""

import resource
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from .step import Step

if TYPE_CHECKING:
    from .model.state import State
    from .model.view import ModelView

T = TypeVar("T")


def finish(work: Generator[Step, None, T], seen: Callable[[Step], None] | None = None) -> T:
    """Run to the end and return the result; `seen` is called at each step."""
    while True:
        try:
            step = next(work)
        except StopIteration as end:
            return end.value
        if seen is not None:
            seen(step)


def under(
    view: "ModelView", state: "State", work: Generator[Step, None, T]
) -> Generator[Step, None, T]:
    """Run `work` as if the model served `state`; between its steps the model serves its head."""
    while True:
        with view.showing(state):
            try:
                step = next(work)
            except StopIteration as end:
                return end.value
        yield step


@dataclass(slots=True)
class Stopwatch:
    """Seconds spent in each stage, on the wall and of the processor (all threads)."""

    wall: dict[str, float] = field(default_factory=dict[str, float])
    cpu: dict[str, float] = field(default_factory=dict[str, float])

    def timed(self, work: Generator[Step, None, T]) -> Generator[Step, None, T]:
        """The same work; the time up to each step is counted for the stage that step names."""
        stage = "solve"
        while True:
            wall, cpu = time.perf_counter(), _cpu_seconds()
            try:
                step = next(work)
            except StopIteration as end:
                self._count(stage, wall, cpu)
                return end.value
            stage = step.stage
            self._count(stage, wall, cpu)
            yield step

    def _count(self, stage: str, wall: float, cpu: float) -> None:
        self.wall[stage] = self.wall.get(stage, 0.0) + time.perf_counter() - wall
        self.cpu[stage] = self.cpu.get(stage, 0.0) + _cpu_seconds() - cpu

    def report(self) -> dict[str, object]:
        """As JSON, in seconds."""
        return {"wall_s": dict(self.wall), "cpu_s": dict(self.cpu)}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
