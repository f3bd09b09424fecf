"""What the commands share: their flags, the client, and how an error is told."""

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

from errata.client import DEFAULT_URL, Client
from errata.errors import ErrataError

# A pipe has no width of its own; 80 columns would break most lines of a table.
PIPE_WIDTH = 120

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="ERRATA_URL", help=f"The server. [default: {DEFAULT_URL}]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the server's JSON, for programs.")]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="The model's id; not needed when there is only one."),
]


def console(*, stderr: bool = False) -> Console:
    """Give a console that is as wide as the terminal, or wide enough for a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else PIPE_WIDTH, highlight=False)


@contextmanager
def server(url: str | None, as_json: bool) -> Generator[Client]:
    """Give a client; an error inside becomes one line (or one JSON object) and exit code 1."""
    try:
        with Client(url) as client:
            yield client
    except ErrataError as error:
        if as_json:
            put_json({"error": {"code": error.code, "detail": error.detail, **error.problem}})
        else:
            console(stderr=True).print(f"errata: {error.detail}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error


def put_json(value: Any) -> None:  # noqa: ANN401 - whatever the server said
    """Print JSON: indented for a person, on one line for a pipe."""
    print(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def pick(client: Client, model: str | None) -> str:
    """Give the model that was named, or the only one there is."""
    if model:
        return model
    known = [each["id"] for each in client.models()]
    if len(known) == 1:
        return known[0]
    names = ", ".join(known) or "none; `errata models --register smollm2-135m` registers one"
    message = f"name a model with --model; registered: {names}"
    raise ErrataError(message, code="model-required")
