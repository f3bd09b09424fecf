"""Commands about states of a model: snapshots, label, diff."""

from typing import Annotated

import typer

from errata.cli import complete, names, tables
from errata.cli.common import AsJson, Model, Url, console, put, put_list, server

State = Annotated[
    str,
    typer.Argument(help="An id, a label, or a seq.", autocompletion=complete.snapshots),
]


def snapshots(model: Model = None, url: Url = None, as_json: AsJson = False) -> None:
    """List every state that the model was in."""
    with server(url, as_json) as client:
        data = client.snapshots(names.model(client, model))
    put_list(data) if as_json else console().print(tables.snapshots(data))


def label(
    snapshot: State,
    label: Annotated[
        str | None, typer.Argument(help="A name: a letter, then letters, digits, . _ -")
    ] = None,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Take the name away.")] = False,
    model: Model = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Name a state, so that `errata restore NAME` finds it."""
    if remove == (label is not None):
        message = "give a LABEL, or --remove"
        raise typer.BadParameter(message)
    with server(url, as_json) as client:
        named = client.label(names.snapshot(client, snapshot, model), label)
    put(named) if as_json else console().print(tables.snapshots([named]))


def diff(
    snapshot: State,
    to: Annotated[
        str | None,
        typer.Argument(
            help="The state to compare with. [default: the head]",
            autocompletion=complete.snapshots,
        ),
    ] = None,
    *,
    model: Model = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Tell which edits lie between two states of a model."""
    with server(url, as_json) as client:
        other = names.snapshot(client, to, model) if to is not None else None
        found = client.diff(names.snapshot(client, snapshot, model), other)
    put(found) if as_json else tables.put_diff(console(), found)
