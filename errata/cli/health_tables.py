"""The health of a model, and what a guard has found, as tables."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from errata.cli.tables import number, table
from errata.health_results import Health, Member

Json = Mapping[str, Any]
_SHOWN = 8  # facts of one edit
_CHANGES = ("kl", "neighborhood_loss")  # judged by how much worse they are than before


def put_health(out: Console, found: Health) -> None:
    """Show how a model does."""
    counted = ", ".join(f"{count} {name}" for name, count in found.counts.items())
    head = f"{found.model} at {found.head} (seq {found.seq}): edits {counted}"
    out.print(head, soft_wrap=True, markup=False)
    lists = (
        ("live", found.live),
        ("disturbed", found.disturbed),
        ("superseded", found.superseded),
    )
    out.print(_members(lists))
    out.print(_promotions(found))
    said = ", ".join(f"{name}={_plain(value)}" for name, value in found.guard.items())
    out.print(f"guard: {said}", soft_wrap=True, markup=False)


def put_breaches(out: Console, report: Json) -> None:
    """Show what of a report is beyond its guard, and what followed."""
    judged = report.get("guard") or {}
    if repaired := report.get("repair"):
        edits = ", ".join(sorted({each["edit"] for each in repaired["disturbed"]}))
        out.print(f"the guard had it solved again with {edits}", soft_wrap=True, markup=False)
    if not judged.get("breaches"):
        return
    out.print(f"the guard says {judged['verdict']}:", markup=False)
    for each in judged["breaches"]:
        by = "worse by " if each["what"] in _CHANGES else ""
        measured, limit = number(each["measured"]), number(each["threshold"])
        was = "" if each.get("before") is None else f", before {number(each['before'])}"
        text = f"  {each['at']} is {by}{measured}{was}, the threshold {limit} (n {each['n']})"
        out.print(text, soft_wrap=True, markup=False)


def _members(lists: Iterable[tuple[str, list[Member]]]) -> Table:
    made = table("", "ord", "edit", "editor", "facts", "by")
    for name, members in lists:
        for each in members:
            shown = [str(number) for number in each.facts[:_SHOWN]]
            facts = ", ".join([*shown, *(["..."] if len(each.facts) > _SHOWN else [])])
            made.add_row(*map(_plain, (name, each.ord, each.edit, each.editor, facts, each.by)))
    return made


def _promotions(found: Health) -> Table:
    columns = ("drift", "perplexity_ratio", "norm_ratio", "distinct")
    made = table("seq", "snapshot", "kind", *columns, "verdict", "breaches")
    for each in found.snapshots:
        made.add_row(
            *map(_plain, (each.seq, each.snapshot, each.kind)),
            *(number(getattr(each, name)) for name in columns),
            _plain(each.verdict),
            _plain(", ".join(one["at"] for one in each.breaches) or None),
        )
    return made


def _plain(value: object) -> str:
    return "-" if value is None else str(value)
