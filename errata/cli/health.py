"""Commands about how a model does: health, and the guard of its promotions."""

from typing import Annotated

import typer

from errata.cli import complete, facts, health_tables, names, tables
from errata.cli.common import AsJson, Model, Url, console, put, server

Named = Annotated[
    str | None,
    typer.Argument(metavar="[MODEL]", help="The model.", autocompletion=complete.models),
]


def health(
    given: Named = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How much of each list.")] = 10,
    after: Annotated[
        str | None,
        typer.Option(
            metavar="EDIT",
            help="Show edits older than this one: an id, or a number (ord).",
            autocompletion=complete.orders,
        ),
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Tell how a model does: live, disturbed and superseded edits, drift, and the guard."""
    with server(url, as_json) as client:
        model = names.model(client, given)
        older = names.order(client, after, model) if after is not None else None
        found = client.health(model, after=older, limit=limit)
    put(found) if as_json else health_tables.put_health(console(), found)


def guard(
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=JSON]...", help="on_breach=reject, kl=0.05, kl=null."),
    ] = None,
    *,
    reset: Annotated[bool, typer.Option("--reset", help="Nothing differs from the defaults.")] = (
        False
    ),
    model: Model = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Set what of a model's guard differs from the defaults: all of it, not one by one."""
    if reset == bool(given):
        message = "give NAME=JSON, or --reset; `errata health` shows the guard in force"
        raise typer.BadParameter(message)
    wanted = None if reset else facts.hparams(given, "the guard")
    with server(url, as_json) as client:
        changed = client.set_guard(names.model(client, model), wanted)
    put(changed) if as_json else console().print(tables.models([changed]))
