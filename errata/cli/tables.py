"""Answers of the server as tables."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

Json = Mapping[str, Any]
SHORT_FINGERPRINT = len("sha256:") + 12
MEASURES = ("efficacy", "paraphrase", "neighborhood", "earlier", "drift")


def table(*columns: str, title: str | None = None) -> Table:
    """Give an empty table in the style of all others."""
    made = Table(box=box.SIMPLE, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def models(data: Iterable[Json]) -> Table:
    """List models."""
    made = table("model", "status", "head", "fingerprint", "source")
    for model in data:
        made.add_row(
            *(_text(model.get(name)) for name in ("id", "status", "head")),
            short(model.get("fingerprint")),
            source(model.get("source")),
        )
    return made


def editors(data: Iterable[Json]) -> Table:
    """List editors."""
    made = table("editor", "paper", "batch", "remembers", "summary")
    for editor in data:
        made.add_row(
            _text(editor["name"]),
            _text(editor["paper"]),
            "yes" if editor["batch"] else "no",
            "yes" if editor["remembers"] else "no",
            _text(editor["summary"]),
        )
    return made


def snapshots(data: Iterable[Json]) -> Table:
    """List snapshots."""
    made = table("seq", "snapshot", "kind", "edits", "fingerprint", "label", "created")
    for each in data:
        edits = each.get("edits")
        made.add_row(
            _text(each["seq"]),
            _text(each["id"]),
            _text(each["kind"]),
            _text(len(edits) if isinstance(edits, list) else edits),
            short(each.get("fingerprint")),
            _text(each.get("label")),
            _text(each.get("created_at"))[:19],
        )
    return made


def orders(data: Iterable[Json]) -> Table:
    """List orders."""
    made = table("ord", "order", "kind", "editor", "status", "live", "facts", "snapshot")
    for each in data:
        made.add_row(
            *(_text(each.get(name)) for name in ("ord", "id", "kind", "editor", "status")),
            "yes" if each.get("live") else "no",
            _text(len(each.get("requests") or ())),
            _text(each.get("snapshot")),
        )
    return made


def probes(data: Iterable[Json]) -> Table:
    """Show what the model said."""
    made = table("snapshot", "prompt", "completion", "most likely next", "targets")
    for probe in data:
        made.add_row(
            _text(probe.get("snapshot")),
            _text(probe["prompt"]),
            quoted(probe["completion"]),
            "\n".join(f"{quoted(each['token'])} {each['p']:.3f}" for each in probe["top"]),
            "\n".join(
                f"{escape(each['text'])} {math.exp(each['logprob']):.3f}"
                for each in probe.get("targets") or ()
            ),
        )
    return made


def report(data: Json) -> Table:
    """Show a promotion report: each measure before and after."""
    made = table("measure", "before", "after", "n")
    for measure in MEASURES:
        for name, value in _leaves(measure, data.get(measure)):
            made.add_row(
                name, number(value.get("before")), number(value["value"]), _text(value.get("n"))
            )
    return made


def _leaves(name: str, value: object) -> Iterable[tuple[str, Json]]:
    """Find what has a value, however deep the measure nests it."""
    if not isinstance(value, Mapping):
        return
    if "value" in value:
        yield name, value
        return
    for inner, part in value.items():
        yield from _leaves(f"{name} {inner}", part)


def short(fingerprint: str | None) -> str:
    """Shorten a fingerprint to what eyes compare."""
    return _text(fingerprint)[:SHORT_FINGERPRINT]


def source(given: object) -> str:
    """Write where a model comes from."""
    if not isinstance(given, Mapping):
        return _text(given)
    return escape(":".join(str(part) for part in given.values() if part))


def number(value: object) -> str:
    """Write a number for a table."""
    return f"{value:.3f}" if isinstance(value, float) else _text(value)


def quoted(text: object) -> str:
    """Write what the model said so that line breaks and blanks can be seen."""
    return escape(str(text).replace("\n", "\\n"))


def _text(value: object) -> str:
    return "-" if value is None else escape(str(value))
