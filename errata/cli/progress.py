"""A bar for an order under way: its stage, how much of the stage is done, and the time."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from errata.results import Order

# What the stages of an editor are called while one looks on.
STAGES = {
    "statistics": "collecting statistics",
    "prefixes": "sampling prefixes",
    "z": "searching z",
    "keys": "reading keys",
    "solve": "solving",
    "measure": "measuring",
}


class Bar:
    """Shows one order. Give it to `Client.wait` as `on_progress`. Silent in a pipe."""

    def __init__(self, out: Console, order: Order) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[order]}"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=out,
            transient=True,
            disable=not out.is_terminal,
        )
        self._task = self._progress.add_task(order.status, total=None, order=order.id)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def __call__(self, order: Order) -> None:
        """Show how the order stands."""
        told = stage(order)
        step = order.progress
        total, done = (step.total, step.done) if step and step.total else (None, 0)
        self._progress.update(self._task, description=told, total=total, completed=done)


def stage(order: Order) -> str:
    """Say in words what an order is at."""
    if order.status != "running" or order.progress is None:
        return order.status
    return STAGES.get(order.progress.stage, order.progress.stage)
