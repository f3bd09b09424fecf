"""Answers of the server as tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from errata.results import Diff, Editor, Model, Order, OrderBrief, Probe, RestorePlan, Snapshot

Json = Mapping[str, Any]
SHORT_FINGERPRINT = len("sha256:") + 12
MEASURES = ("efficacy", "paraphrase", "neighborhood", "earlier", "drift")


def table(*columns: str, title: str | None = None) -> Table:
    """Give an empty table in the style of all others."""
    made = Table(box=box.SIMPLE, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def models(data: Iterable[Model]) -> Table:
    """List models, and under them why one could not be loaded."""
    made = table("model", "status", "head", "waiting", "fingerprint", "source")
    for model in data:
        made.add_row(
            *(_text(each) for each in (model.id, model.status, model.head, model.waiting)),
            short(model.fingerprint),
            source(model.source),
        )
        if model.error:
            made.add_row("", _text(model.error.get("code")), _text(model.error.get("detail")))
    return made


def editors(data: Iterable[Editor]) -> Table:
    """List editors."""
    made = table("editor", "family", "paper", "batch", "remembers", "taken back", "summary")
    for editor in data:
        made.add_row(
            *map(escape, (editor.name, editor.family, editor.paper)),
            "yes" if editor.batch else "no",
            "yes" if editor.remembers else "no",
            *map(escape, (editor.retract, editor.summary)),
        )
    return made


def snapshots(data: Iterable[Snapshot]) -> Table:
    """List snapshots, and how many lines stand before every prompt where some have any."""
    rows = list(data)
    told = ("preface",) if any(each.preface for each in rows) else ()
    made = table("seq", "snapshot", "label", "kind", "edits", *told, "fingerprint", "created")
    for each in rows:
        made.add_row(
            *(_text(part) for part in (each.seq, each.id, each.label, each.kind, len(each.edits))),
            *(_lines(each.preface) for _ in told),
            short(each.fingerprint),
            _text(each.created_at)[:19],
        )
    return made


def _lines(text: str) -> str:
    count = len(text.splitlines())
    return f"{count} line{'' if count == 1 else 's'}" if count else "-"


def orders(data: Iterable[Order]) -> Table:
    """List orders."""
    made = table("ord", "order", "kind", "editor", "status", "live", "facts", "snapshot")
    for each in data:
        made.add_row(
            *(_text(part) for part in (each.ord, each.id, each.kind, each.editor)),
            f"{each.status} (dry run)" if each.dry_run else each.status,
            "yes" if each.live else "no",
            _text(len(each.requests)),
            _text(each.snapshot),
        )
    return made


def probes(data: Iterable[Probe]) -> Table:
    """Show what the model said, and below what it said at the other snapshot."""
    data = list(data)
    compared = ("with the edit",) if any(each.facts for each in data) else ()
    heads = ("snapshot", "prompt", "completion", "most likely next", "targets", *compared)
    made = table(*heads)
    for asked in data:
        for probe in (asked, asked.compare) if asked.compare else (asked,):
            made.add_row(
                _text(probe.snapshot),
                escape(probe.prompt),
                quoted(probe.completion),
                "\n".join(f"{quoted(each.token)} {each.p:.3f}" for each in probe.top),
                "\n".join(f"{escape(each.text)} {each.p:.3f}" for each in probe.targets),
                *([_compared(probe)] if compared else []),
            )
    return made


def _compared(probe: Probe) -> str:
    """Show what an answer has to do with an edit, and how it moved."""
    told = [f"GradSim {number(probe.gradsim)}"]
    if probe.ripple:
        told.append(f"log P {number(probe.ripple['gain'])} nats")
    return "\n".join(told)


def put_diff(out: Console, found: Diff) -> None:
    """Show what lies between two snapshots."""
    same = "the same weights" if found.same_weights else "other weights"
    told = "" if found.same_preface else ", another text before every prompt"
    told += "" if found.same_memory else ", other entries beside the weights"
    said = f"from {found.from_snapshot} to {found.to_snapshot}: {same}{told}"
    out.print(said, soft_wrap=True, markup=False)
    _put_briefs(out, (("removed", found.removed), ("added", found.added)))


def put_plan(out: Console, plan: RestorePlan, *, cancels: bool) -> None:
    """Show what a restore would do."""
    said = f"a restore of {plan.snapshot} would change the head {plan.head} (seq {plan.seq})"
    out.print(said, soft_wrap=True, markup=False)
    queued = "cancelled" if cancels else "runs before it"
    _put_briefs(
        out, (("undone", plan.undone), ("brought back", plan.redone), (queued, plan.queued))
    )


def _put_briefs(out: Console, parts: Iterable[tuple[str, Sequence[OrderBrief]]]) -> None:
    made = table("", "ord", "order", "kind", "editor", "status", "facts")
    for name, orders in parts:
        for each in orders:
            texts = (name, each.ord, each.id, each.kind, each.editor, each.status)
            made.add_row(*map(_text, texts), _text("; ".join(map(fact, each.requests[:3]))))
    out.print(made if made.row_count else "no order is touched by it")


def fact(request: Json) -> str:
    """Write a fact on one line, whichever end it is seen from."""
    relation = request.get("perspective") == "relation"
    prompt, answer = ("add_prompt", "relation_text") if relation else ("prompt", "target_new")
    asked = str(request.get(prompt, "")).replace("{}", str(request.get("subject", "{}")))
    return f"{asked} {request.get(answer, '')}".strip()


def statistics(data: Json) -> Table:
    """Show which statistics there are now, layer by layer."""
    made = table("layer", "tokens", "text")
    for each in data.get("statistics") or ():
        made.add_row(*(_text(each.get(name)) for name in ("layer", "tokens", "text")))
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
