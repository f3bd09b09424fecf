"""Evals, suites and forecasts as tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from errata.cli.tables import number, table
from errata.eval_results import Eval, Forecast, Suite

Json = Mapping[str, Any]


def evals(data: Iterable[Eval]) -> Table:
    """List evals."""
    made = table("eval", "suite", "model", "editor", "status", "cases", "created")
    for each in data:
        made.add_row(
            *map(escape, (each.id, each.suite, each.model, each.editor or "", each.status)),
            f"{each.done}/{each.total}",
            f"{each.created_at:%Y-%m-%d %H:%M}" if each.created_at else "",
        )
    return made


def suites(data: Iterable[Suite]) -> Table:
    """List suites."""
    made = table("suite", "edits", "reads", "pictures", "summary")
    for each in data:
        parts = (each.name, each.editor, ", ".join(each.datasets), ", ".join(each.plots))
        made.add_row(*map(escape, (*parts, each.summary)))
    return made


def show(out: Console, found: Eval) -> None:
    """Show how an eval stands, and what it has found."""
    by = f" with {found.editor}" if found.editor else ""
    text = f"{found.id}: {found.suite} of {found.model}{by} is {found.status}, "
    out.print(f"{text}{found.done} of {found.total} cases", markup=False, soft_wrap=True)
    for problem in filter(None, (found.error, found.blocked)):
        out.print(str(problem.get("detail", problem)), markup=False, soft_wrap=True)
    summary = found.summary or {}
    for each in summary.get("snapshots", [summary]):
        if "snapshot" in each:
            out.print(f"snapshot {each['snapshot']}", markup=False)
        _summary(out, each)


def _summary(out: Console, summary: Json) -> None:
    if values := summary.get("values"):
        out.print(_values(values))
    for name, each in summary.get("tables", {}).items():
        out.print(name, markup=False)
        out.print(_plain(each["columns"], each["rows"]))
    for why, count in summary.get("failed", {}).items():
        out.print(f"{count} cases could not be measured: {why}", markup=False)


def _values(values: Json) -> Table:
    made = table("", "value", "95 %", "before", "n", "testable", "edits")
    for name, value in values.items():
        low, high = value.get("low"), value.get("high")
        between = "" if low is None else f"{number(low)} to {number(high)}"
        made.add_row(
            escape(name),
            number(value.get("value")),
            between,
            number(value.get("before")),
            *(_count(value.get(part)) for part in ("n", "n_testable", "clusters")),
        )
    return made


def _plain(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    made = table(*columns)
    for row in rows:
        made.add_row(*(number(v) if isinstance(v, float) else _count(v) for v in row))
    return made


def _count(value: object) -> str:
    return "" if value is None else escape(str(value))


def show_forecast(out: Console, request: Json, found: Forecast) -> None:
    """Show what an edit would move."""
    asked = str(request.get("prompt", "{}")).replace("{}", str(request.get("subject", "")))
    out.print(f"{asked} -> {request.get('target_new', '')}", markup=False, soft_wrap=True)
    made = table("GradSim", "will follow", "question", "answer")
    for each in sorted(found.ripples, key=lambda one: -one.gradsim):
        told = "likely" if each.likely else "unlikely"
        made.add_row(number(each.gradsim), told, escape(each.prompt), escape(each.answer))
    out.print(made)
    for one in found.collisions:
        out.print(f"meets the live edit {one.edit}, cosine {number(one.cosine)}", markup=False)
