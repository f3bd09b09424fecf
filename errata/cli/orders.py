"""Commands that order something: edit, retract, restore, compact, cancel, stats."""

from pathlib import Path
from typing import Annotated

import typer

from errata.cli import complete, facts, health_tables, names, tables
from errata.cli.common import (
    FAILED,
    LONG_WAIT,
    AsJson,
    Editor,
    Guard,
    Hparam,
    Model,
    Timeout,
    Url,
    Wait,
    console,
    put,
    server,
    waiting_for,
)
from errata.cli.progress import Bar
from errata.client import Client
from errata.results import Json, Order

_TAKEN_OUT = {
    "exact": "{} {} taken out: what is left is what there would be without it",
    "dropped": "{} {} dropped: its delta is gone, later edits were computed with it there",
}
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would come of it.")]


def edit(
    *,
    subject: Annotated[str | None, typer.Option(help='Of whom or what: "France".')] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help='The relation, with {} for the subject: "The capital of {} is".'),
    ] = None,
    target_new: Annotated[str | None, typer.Option(help='What shall be true: "Lyon".')] = None,
    target_true: Annotated[str | None, typer.Option(help="What was true before.")] = None,
    paraphrase: Annotated[
        list[str] | None, typer.Option(help="The fact in other words, to measure. Repeatable.")
    ] = None,
    neighbor: Annotated[
        list[str] | None,
        typer.Option(metavar="PROMPT=TARGET", help="What must stay true, to measure. Repeatable."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="JSON: a list of requests, one batch; relation edits too.",
        ),
    ] = None,
    editor: Editor = None,
    hparam: Hparam = None,
    guard: Guard = None,
    dry_run: DryRun = False,
    model: Model = None,
    wait: Wait = True,
    timeout: Timeout = LONG_WAIT,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Write a fact into the model, or with --file many at once.

    With --dry-run the edit is computed and measured, and nothing is written.
    """
    one = facts.fact(
        subject=subject,
        prompt=prompt,
        target_new=target_new,
        target_true=target_true,
        paraphrases=paraphrase,
        neighbors=neighbor,
    )
    if (file is None) == (one is None):
        message = "give --subject, --prompt and --target-new, or --file"
        raise typer.BadParameter(message)
    requests = facts.from_file(file) if file else [one or {}]
    knobs = facts.hparams(hparam)
    with server(url, as_json) as client:
        order = client.edit(
            model=names.model(client, model),
            editor=editor,
            requests=requests,
            hparams=knobs,
            guard=facts.hparams(guard, "--guard"),
            dry_run=dry_run,
            wait=False,
        )
        follow(client, order, wait=wait, timeout=timeout, as_json=as_json)


def restore(
    snapshot: Annotated[
        str,
        typer.Argument(
            help="Where to go back to: an id, a label, or a number of `errata snapshots`.",
            autocompletion=complete.snapshots,
        ),
    ],
    *,
    dry_run: DryRun = False,
    cancel_queued: Annotated[
        bool, typer.Option("--cancel-queued", help="Cancel what waits in the queue first.")
    ] = False,
    model: Model = None,
    wait: Wait = True,
    timeout: Timeout = LONG_WAIT,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make an older state of the model the one that is served.

    What is queued already runs first. With --dry-run nothing is ordered.
    """
    with server(url, as_json) as client:
        name = names.model(client, model) if model is not None else None
        wanted = names.snapshot(client, snapshot, name)
        if dry_run:
            plan = client.plan_restore(wanted, model=name, cancel_queued=cancel_queued)
            put(plan) if as_json else tables.put_plan(console(), plan, cancels=cancel_queued)
            return
        order = client.restore(wanted, model=name, cancel_queued=cancel_queued, wait=False)
        follow(client, order, wait=wait, timeout=timeout, as_json=as_json)


def retract(
    edit: Annotated[
        str,
        typer.Argument(
            metavar="EDIT",
            help="An id, or a number (ord) of `errata edits`.",
            autocompletion=complete.live,
        ),
    ],
    *,
    dry_run: DryRun = False,
    model: Model = None,
    wait: Wait = True,
    timeout: Timeout = LONG_WAIT,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Take one edit, with all its facts, out of the model, and keep the later ones.

    The report says how: exactly, or by leaving its delta out. With --dry-run that is computed and
    measured in its turn, and nothing is changed.
    """
    with server(url, as_json) as client:
        wanted = names.order(client, edit, model)
        order = client.retract(wanted, dry_run=dry_run, wait=False)
        follow(client, order, wait=wait, timeout=timeout, as_json=as_json)


def compact(
    given: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="The model.", autocompletion=complete.models),
    ] = None,
    *,
    hparam: Hparam = None,
    dry_run: DryRun = False,
    wait: Wait = True,
    timeout: Timeout = LONG_WAIT,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Solve all live facts of the ledger anew, as one delta. The edits stay live.

    With --dry-run that is computed and measured in its turn, and nothing is changed.
    """
    knobs = facts.hparams(hparam)
    with server(url, as_json) as client:
        model = names.model(client, given)
        order = client.compact(model, hparams=knobs, dry_run=dry_run, wait=False)
        follow(client, order, wait=wait, timeout=timeout, as_json=as_json)


def cancel(
    edit: Annotated[
        str,
        typer.Argument(
            metavar="ORDER",
            help="An id, or a number (ord) of `errata edits`.",
            autocompletion=complete.unsettled,
        ),
    ],
    *,
    model: Model = None,
    wait: Wait = True,
    timeout: Timeout = LONG_WAIT,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Take an order back, while it is queued or running.

    Ends with 0 when it is cancelled, and with 1 when it ended otherwise before.
    """
    with server(url, as_json) as client:
        wanted = names.order(client, edit, model)
        with waiting_for(wanted):
            order = client.cancel(wanted, wait=wait, timeout=timeout)
        put(order) if as_json else show(order)
        if order.settled and order.status != "cancelled":
            raise typer.Exit(FAILED)


def stats(
    given: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="The model.", autocompletion=complete.models),
    ] = None,
    *,
    editor: Editor = None,
    hparam: Hparam = None,
    wait: Wait = True,
    timeout: Timeout = LONG_WAIT,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Collect the statistics that an editor needs, ahead of its first edit."""
    knobs = facts.hparams(hparam)
    with server(url, as_json) as client:
        model = names.model(client, given)
        order = client.statistics(model, editor=editor, hparams=knobs, wait=False)
        follow(client, order, wait=wait, timeout=timeout, as_json=as_json)


def follow(client: Client, order: Order, *, wait: bool, timeout: float, as_json: bool) -> None:
    """Wait for an order and show it; one that was not applied ends the command with code 1."""
    if wait and not order.settled:
        with waiting_for(order.id), Bar(console(stderr=True), order) as bar:
            order = client.wait(order.id, timeout=timeout, on_progress=bar)
    put(order) if as_json else show(order)
    if order.settled and not order.applied:
        raise typer.Exit(FAILED)


def show(order: Order) -> None:
    """Show how an order stands, why it failed, and what it moved."""
    out = console()
    snapshot = f", snapshot {order.snapshot}" if order.snapshot else ""
    noop = " (the model already said so)" if order.noop else ""
    dry = " (a dry run: nothing was written)" if order.dry_run and order.applied else ""
    asked = "; it is asked to stop" if order.cancel_requested and not order.settled else ""
    text = f"{order.id} is {order.status}{noop}{dry}{snapshot}{asked}"
    out.print(text, soft_wrap=True, markup=False)
    if order.error and order.status != "cancelled":
        out.print(str(order.error.get("detail", order.error)), markup=False, soft_wrap=True)
    if order.report and order.kind == "statistics":
        new = "collected" if order.report.get("collected") else "there already"
        out.print(f"statistics {new}, {tables.number(order.report.get('seconds'))} s")
        out.print(tables.statistics(order.report))
    elif order.report:
        if taken := order.report.get("retract"):
            would = "would be" if order.dry_run else "is"
            said = _TAKEN_OUT[taken["how"]].format(taken["edit"], would)
            out.print(said, soft_wrap=True, markup=False)
            if back := taken.get("brought_back"):
                told = f"live again: {', '.join(back)}, which it had replaced"
                out.print(told, soft_wrap=True, markup=False)
            if lost := taken.get("not_brought_back"):
                told = f"it had replaced what can no longer be said: {'; '.join(lost)}"
                out.print(told, soft_wrap=True, markup=False)
            if again := taken.get("written_again_by"):
                told = f"a repair wrote its facts again, with {', '.join(again)}"
                out.print(told, soft_wrap=True, markup=False)
        if gained := order.report.get("compact"):
            out.print(_compacted(gained), soft_wrap=True, markup=False)
        health_tables.put_breaches(out, order.report)
        out.print(tables.report(order.report))
        if told := (order.report.get("editor") or {}).get("preface"):
            out.print("No weight changes. What it puts before every prompt:")
            out.print(told, markup=False, highlight=False, soft_wrap=True)


def _compacted(gained: Json) -> str:
    """Say what a compaction has made smaller."""
    parts = ((name, gained[name]) for name in ("entries", "bytes"))
    told = ", ".join(f"{name} {part['before']} -> {part['value']}" for name, part in parts)
    return f"{gained['edits']} edits are one solution: {told}"
