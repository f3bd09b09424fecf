"""Commands that only look: models, editors, edits, snapshots, probe."""

from typing import Annotated

import typer

from errata.cli import tables
from errata.cli.common import AsJson, Model, Url, console, pick, put_json, server


def models(
    register: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Register a model first: smollm2-135m, hub:org/name@revision, a folder, a GGUF.",
        ),
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the models of the server; with --register, add one."""
    with server(url, as_json) as client:
        if register:
            client.register_model(register)
        data = client.models()
    put_json({"data": data}) if as_json else console().print(tables.models(data))


def editors(url: Url = None, as_json: AsJson = False) -> None:
    """List the editors: methods that write facts into a model, with their papers."""
    with server(url, as_json) as client:
        data = client.editors()
    put_json({"data": data}) if as_json else console().print(tables.editors(data))


def edits(
    model: Model = None,
    status: Annotated[str | None, typer.Option(help="Only orders of this status.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the orders of the journal."""
    with server(url, as_json) as client:
        data = list(client.edits(model=model, status=status))
    put_json({"data": data}) if as_json else console().print(tables.orders(data))


def snapshots(model: Model = None, url: Url = None, as_json: AsJson = False) -> None:
    """List every state that the model was in."""
    with server(url, as_json) as client:
        data = client.snapshots(pick(client, model))
    put_json({"data": data}) if as_json else console().print(tables.snapshots(data))


def probe(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to ask.")],
    *,
    target: Annotated[
        list[str] | None, typer.Option(help="Tell how likely this answer is. Repeatable.")
    ] = None,
    snapshot: Annotated[
        str | None, typer.Option(help="Ask the model as it was at this snapshot.")
    ] = None,
    compare: Annotated[str | None, typer.Option(help="And as it was at this one, too.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="How many next tokens to show.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="How far to continue.")] = None,
    model: Model = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Ask the model how it continues a prompt."""
    with server(url, as_json) as client:
        data = client.probe(
            pick(client, model),
            prompts,
            targets=target,
            snapshot=snapshot,
            compare=compare,
            top_k=top_k,
            max_tokens=max_tokens,
        )
    put_json({"data": data}) if as_json else console().print(tables.probes(data))
