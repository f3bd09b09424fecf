"""Commands that change the model: edit and restore."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.status import Status

from errata.cli import tables
from errata.cli.common import AsJson, Model, Url, console, pick, put_json, server
from errata.client import Client, Json

Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until the order is settled, or only order.")
]


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
        typer.Option(exists=True, dir_okay=False, help="JSON: a list of requests, one batch."),
    ] = None,
    editor: Annotated[
        str, typer.Option("--editor", "-e", help="See `errata editors`.")
    ] = "memit-history",
    hparam: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=JSON", help="Override a knob of the editor. Repeatable."),
    ] = None,
    model: Model = None,
    wait: Wait = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Write a fact into the model, or with --file many at once."""
    one = _request(
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
    requests = _read(file) if file else [one or {}]
    with server(url, as_json) as client:
        order = client.submit(
            model=pick(client, model), editor=editor, requests=requests, hparams=_hparams(hparam)
        )
        _follow(client, order, wait=wait, as_json=as_json)


def restore(
    snapshot: Annotated[str, typer.Argument(help="The id of the snapshot to go back to.")],
    wait: Wait = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make an older state of the model the one that is served."""
    with server(url, as_json) as client:
        _follow(client, client.submit_restore(snapshot), wait=wait, as_json=as_json)


def _follow(client: Client, order: Json, *, wait: bool, as_json: bool) -> None:
    """Wait for an order and show it; one that was not applied ends the command with code 1."""
    if wait:
        progress = console(stderr=True)
        with progress.status(f"{order['id']} is {order['status']}") as status:
            order = client.wait(order["id"], on_progress=lambda now: _tell(status, now))
    if as_json:
        put_json(order)
    else:
        _show(order)
    if order["status"] in {"failed", "rejected", "cancelled"}:
        raise typer.Exit(1)


def _tell(status: Status, order: Json) -> None:
    step = order.get("progress") or {}
    stage = f": {step['stage']} {step['done']}/{step['total']}" if "stage" in step else ""
    status.update(f"{order['id']} is {order['status']}{stage}")


def _show(order: Json) -> None:
    out = console()
    snapshot = f", snapshot {order['snapshot']}" if order.get("snapshot") else ""
    noop = " (the model already said so)" if order.get("noop") else ""
    out.print(f"{order['id']} is {order['status']}{noop}{snapshot}", soft_wrap=True)
    if error := order.get("error"):
        out.print(error.get("detail", str(error)), markup=False, soft_wrap=True)
    if report := order.get("report"):
        out.print(tables.report(report))


def _request(
    *,
    subject: str | None,
    prompt: str | None,
    target_new: str | None,
    target_true: str | None,
    paraphrases: list[str] | None,
    neighbors: list[str] | None,
) -> dict[str, Any] | None:
    if subject is None or prompt is None or target_new is None:
        return None
    request: dict[str, Any] = {"subject": subject, "prompt": prompt, "target_new": target_new}
    if target_true is not None:
        request["target_true"] = target_true
    if paraphrases:
        request["paraphrases"] = paraphrases
    if neighbors:
        pairs = [_pair(each, "--neighbor") for each in neighbors]
        request["neighborhood"] = [{"prompt": asked, "target": said} for asked, said in pairs]
    return request


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        data = json.loads(file.read_text())
    except ValueError as error:
        message = f"{file} is not JSON: {error}"
        raise typer.BadParameter(message) from error
    requests = data.get("requests") if isinstance(data, dict) else data
    if not isinstance(requests, list):
        message = f"{file} must hold a list of requests"
        raise typer.BadParameter(message)
    return requests


def _hparams(given: list[str] | None) -> dict[str, Any]:
    """Read NAME=JSON; a dotted name goes into a block: search.steps=20."""
    hparams: dict[str, Any] = {}
    for each in given or ():
        name, text = _pair(each, "--hparam")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        *blocks, last = name.split(".")
        place = hparams
        for block in blocks:
            place = place.setdefault(block, {})
            if not isinstance(place, dict):
                message = f"--hparam {each!r}: {block!r} is already a value"
                raise typer.BadParameter(message)
        place[last] = value
    return hparams


def _pair(text: str, flag: str) -> tuple[str, str]:
    # A prompt may hold a "=", and so may JSON: the first is read from its end.
    left, found, right = text.rpartition("=") if flag == "--neighbor" else text.partition("=")
    if not found or not left:
        message = f"{flag} takes NAME=VALUE, not {text!r}"
        raise typer.BadParameter(message)
    return left, right
