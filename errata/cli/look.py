"""Commands that only look: models, editors, edits, probe."""

from itertools import islice
from typing import Annotated

import typer

from errata.cli import complete, names, tables
from errata.cli.common import AsJson, Model, Url, console, put_list, server


def models(
    *,
    register: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Register a model first: smollm2-135m, hub:org/name@revision, a folder, a GGUF.",
        ),
    ] = None,
    retry: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Register a model that could not be loaded again: its worker tries anew.",
            autocompletion=complete.models,
        ),
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the models of the server; with --register, add one."""
    with server(url, as_json) as client:
        if register is not None:
            client.register_model(register)
        if retry is not None:
            failed = client.model(names.model(client, retry))
            client.register_model(failed.source, id=failed.id)
        data = client.models()
    put_list(data) if as_json else console().print(tables.models(data))


def editors(url: Url = None, as_json: AsJson = False) -> None:
    """List the editors: methods that write facts into a model, with their papers."""
    with server(url, as_json) as client:
        data = client.editors()
    put_list(data) if as_json else console().print(tables.editors(data))


def edits(
    *,
    model: Model = None,
    status: Annotated[
        str | None,
        typer.Option(help="Only orders of this status.", autocompletion=complete.statuses),
    ] = None,
    subject: Annotated[str | None, typer.Option(help="Only orders about this subject.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many of the newest. [default: all]")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the orders of the journal."""
    with server(url, as_json) as client:
        name = names.model(client, model) if model is not None else None
        data = list(islice(client.edits(model=name, status=status, subject=subject), limit))
    put_list(data) if as_json else console().print(tables.orders(data))


def probe(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to ask.")],
    *,
    target: Annotated[
        list[str] | None, typer.Option(help="Tell how likely this answer is. Repeatable.")
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(
            help="Ask the model as it was at this snapshot: an id, a label or a seq.",
            autocompletion=complete.snapshots,
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(help="And as it was at this one, too.", autocompletion=complete.snapshots),
    ] = None,
    answer: Annotated[
        str | None,
        typer.Option(help="Tell how this answer to one prompt hangs together with an edit."),
    ] = None,
    edit: Annotated[
        str | None,
        typer.Option(
            metavar="ORDER",
            help="With --answer: which edit. [default: the last live ones]",
            autocompletion=complete.orders,
        ),
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="How many next tokens to show.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="How far to continue.")] = None,
    model: Model = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Ask the model how it continues a prompt."""
    if edit is not None and answer is None:
        raise typer.BadParameter("is compared with an answer: give --answer", param_hint="--edit")
    if answer is not None and (len(prompts) > 1 or compare is not None):
        raise typer.BadParameter("goes with one prompt and one snapshot", param_hint="--answer")
    with server(url, as_json) as client:
        name = names.model(client, model)
        data = client.probe(
            name,
            prompts if answer is None else prompts[0],
            targets=target,
            answer=answer,
            edit=names.order(client, edit, name) if edit is not None else None,
            snapshot=names.snapshot(client, snapshot, name) if snapshot is not None else None,
            compare=names.snapshot(client, compare, name) if compare is not None else None,
            top_k=top_k,
            max_tokens=max_tokens,
        )
    put_list(data) if as_json else console().print(tables.probes(data))
