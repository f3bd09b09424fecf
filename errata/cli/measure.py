"""Commands that measure: eval, evals, suites, forecast."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from errata.cli import complete, eval_tables, facts, names, records
from errata.cli.common import (
    FAILED,
    INTERRUPTED,
    AsJson,
    Editor,
    Hparam,
    Model,
    Url,
    console,
    put,
    put_json,
    put_list,
    server,
)
from errata.client import Client
from errata.errors import BadArgument
from errata.eval_results import Eval
from errata.measuring import DAY

Plot = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="[NAME=]FILE",
        help="Draw a picture into a .png or .svg; without NAME the suite's first. Repeatable.",
    ),
]


def evaluate(
    suite: Annotated[
        str,
        typer.Argument(
            metavar="SUITE|EVAL",
            help="What to measure (`errata suites`), or the id of an eval to follow.",
            autocompletion=complete.suites,
        ),
    ],
    *,
    data: Annotated[
        str | None,
        typer.Option(help="A file or folder here, or the name of a dataset of the server."),
    ] = None,
    offset: Annotated[int, typer.Option(min=0, help="The first record.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="How many records.")] = None,
    snapshot: Annotated[
        list[str] | None,
        typer.Option(
            help="What to measure: an id, a label or a seq. Repeatable. [default: the head]",
            autocompletion=complete.snapshots,
        ),
    ] = None,
    editor: Editor = None,
    hparam: Hparam = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=JSON", help="Of the suite. Repeatable.")
    ] = None,
    plot: Plot = None,
    page: Annotated[
        Path | None, typer.Option(help="Write all of it into one .html, with the pictures.")
    ] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Print the rows, as JSON lines.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Stop this eval.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has ended.")] = True,
    timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS")] = DAY,
    model: Model = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model as it is, or what an editor would do to it; nothing is changed.

    Ctrl-C leaves the eval alone: it goes on, and its id brings you back to it.
    """
    _check_files([*(plot or []), *([page] if page else [])], plot or [])
    with server(url, as_json) as client:
        if suite.startswith("evl_"):
            found = client.cancel_eval(suite) if cancel else client.eval(suite)
            chosen = _snapshots(client, snapshot if plot else None, found.model)
        else:
            name = names.model(client, model)
            chosen = _snapshots(client, snapshot, name)
            named, sent = records.given(data, offset=offset, limit=limit)
            found = client.evaluate(
                suite,
                model=name,
                snapshots=chosen or None,
                editor=editor,
                hparams=facts.hparams(hparam),
                data=named,
                records=sent,
                options=facts.hparams(option, "--option"),
                wait=False,
            )
        if wait and not found.settled:
            found = _followed(client, found, timeout, as_json)
        if rows:
            for row in client.eval_rows(found.id):
                put_json(row)
        else:
            put(found) if as_json else eval_tables.show(console(), found)
        _draw(client, found, plot or [], page, next(iter(chosen), None))
        if found.settled and not found.finished:
            raise typer.Exit(FAILED)


def evals(
    *,
    model: Model = None,
    suite: Annotated[str | None, typer.Option(help="Only of this suite.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many of the newest. [default: all]")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List what was measured."""
    with server(url, as_json) as client:
        name = names.model(client, model) if model is not None else None
        found = list(islice(client.evals(model=name, suite=suite), limit))
    put_list(found) if as_json else console().print(eval_tables.evals(found))


def suites(url: Url = None, as_json: AsJson = False) -> None:
    """List what can be measured."""
    with server(url, as_json) as client:
        found = client.suites()
    put_list(found) if as_json else console().print(eval_tables.suites(found))


def forecast(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="JSON: one request, or a list of them, each with its `ripples`.",
        ),
    ],
    *,
    model: Model = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Say, before an edit is made, which questions it would move and which live edits it meets."""
    with server(url, as_json) as client:
        name = names.model(client, model)
        told: list[Any] = []
        for request in facts.from_one_or_many(file):
            ripples = request.pop("ripples", [])
            found = client.forecast(name, request, ripples)
            told.append(found)
            if not as_json:
                eval_tables.show_forecast(console(), request, found)
    if as_json:
        put_list(told)


def _snapshots(client: Client, given: list[str] | None, model: str) -> list[str]:
    """Ids of what was named, found once: a label may be another's when an eval has ended."""
    return [names.snapshot(client, each, model) for each in given or ()]


def _followed(client: Client, found: Eval, timeout: float, as_json: bool) -> Eval:
    out = console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=out,
        transient=True,
        disable=not out.is_terminal,
    )
    task = bar.add_task(found.suite, total=found.total or None, rate="")

    def show(seen: Eval) -> None:
        _advance(bar, task, seen)

    try:
        with bar:
            return client.wait_eval(found.id, timeout=timeout, on_progress=show)
    except KeyboardInterrupt as error:
        told = f"stopped; {found.id} goes on: `errata eval {found.id}` follows it"
        if not as_json:
            out.print(f"errata: {told}", markup=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from error


def _advance(bar: Progress, task: TaskID, seen: Eval) -> None:
    rate = seen.progress.get("rate")
    told = seen.status if rate is None else f"{rate:.2f}/s"
    bar.update(task, total=seen.total or None, completed=seen.done, rate=told)


def _check_files(files: list[Path], plots: list[Path]) -> None:
    """Find out before anything is measured whether what comes of it can be written."""
    for file in files:
        place = _file_of(file)[1]
        if not place.absolute().parent.is_dir():
            raise typer.BadParameter(f"there is no folder {place.parent}", param_hint=str(file))
    for each in plots:
        if _file_of(each)[1].suffix.lower() not in {".png", ".svg"}:
            raise typer.BadParameter("a picture ends in .png or .svg", param_hint="--plot")


def _file_of(given: Path) -> tuple[str, Path]:
    """NAME=FILE, or FILE alone."""
    name, equals, rest = str(given).partition("=")
    return (name, Path(rest)) if equals else ("", given)


def _draw(
    client: Client, found: Eval, plots: list[Path], page: Path | None, snapshot: str | None
) -> None:
    for each in plots:
        name, file = _file_of(each)
        wanted = name or next(iter(found.plots), "")
        if not wanted:
            raise BadArgument("--plot", f"asks for a picture, and {found.suite} has none")
        kind = file.suffix.removeprefix(".").lower()
        file.write_bytes(client.plot(found.id, wanted, format=kind, snapshot=snapshot))
    if page is not None:
        page.write_text(client.eval_report(found.id), "utf-8")
