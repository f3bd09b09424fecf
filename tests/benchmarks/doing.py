"""Doing a row of the table in this process, and looking at what it left."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks import ledger
from benchmarks.editor_run import opened
from benchmarks.table import Row, table_of
from benchmarks.task import Task


class Killed(BaseException):
    """Ends a run as a signal would."""


def perform(task: Task, *, kill_after: int | None = None) -> None:
    """What the process of a row does, in this one."""

    def say(event: Mapping[str, object]) -> None:
        if kill_after is not None and event.get("done") == kill_after:
            raise Killed

    while True:
        with opened(task, say) as run:
            if run.go():
                return


def killed(task: Task, after: int) -> None:
    with pytest.raises(Killed):
        perform(task, kill_after=after)


def lines_of(task: Task) -> list[bytes]:
    """The finished pieces as they were written; statistics are no piece of a task."""
    lines = lines_file(task).read_bytes().splitlines(keepends=True)
    return [line for line in lines if b'"statistics"' not in line[:20]]


def lines_file(task: Task) -> Path:
    (file,) = task.runs.glob(f"{task.method}.{task.mode}.*/records.jsonl")
    return file


def entries(task: Task) -> dict[str, ledger.Entry]:
    return ledger.entries_of(lines_file(task).parent)


def timeless(row: Row) -> Row:
    """What a second run has to repeat."""
    measured = ("_s", "_mib")
    return {k: v for k, v in row.items() if not k.endswith(measured) and "cpu_s" not in k}


def rows_of(*asked: Task) -> list[Row]:
    return table_of(asked, {}).rows
