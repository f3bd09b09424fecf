"""What the commands share: their flags, the client, and how an error is told.

Exit codes
    0    done; an order that was waited for is applied
    1    refused, or an order or eval that was waited for is failed, rejected or cancelled
    2    the command line cannot be read
    3    no server answers, what answers is no Errata server of this version, or the address is none
    4    an order is not settled in time; it stays in the queue
    130  Ctrl-C; an order stays in the queue
"""

import json
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

from errata.cli import complete
from errata.client import LONG, Client
from errata.errors import (
    BadAddress,
    ErrataError,
    NotErrata,
    OtherVersion,
    Unreachable,
    WaitTimeout,
)
from errata.results import Answer
from errata.wire import DEFAULT_URL

FAILED, NO_SERVER, NOT_YET, INTERRUPTED = 1, 3, 4, 130
# A pipe has no width of its own. A table takes what it needs of this: a broken id is no id.
PIPE_WIDTH = 100_000
PATIENCE = 3.0  # seconds; a person waits, and may ask again

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="ERRATA_URL", help=f"The server. [default: {DEFAULT_URL}]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the server's JSON, for programs.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="The model's id, or how it begins; not needed when there is only one.",
        autocompletion=complete.models,
    ),
]
Editor = Annotated[
    str | None,
    typer.Option("--editor", "-e", help="See `errata editors`.", autocompletion=complete.editors),
]
Hparam = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=JSON", help="Override a knob of the editor. Repeatable."),
]
Guard = Annotated[
    list[str] | None,
    typer.Option(
        "--guard",
        metavar="NAME=JSON",
        help="What of the guard differs: on_breach=reject, kl=0.05, kl=null. Repeatable.",
    ),
]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until the order is settled, or only order.")
]
Timeout = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="How long to wait; the order goes on.")
]
LONG_WAIT = LONG


def console(*, stderr: bool = False, piped: int = PIPE_WIDTH) -> Console:
    """Give a console that is as wide as the terminal, or `piped` columns where there is none."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else piped, highlight=False)


class LeftAlone(KeyboardInterrupt):
    """Ctrl-C while one waited for an order, which goes on."""

    def __init__(self, order: str) -> None:
        super().__init__(order)
        self.order = order


@contextmanager
def waiting_for(order: str) -> Generator[None]:
    """Know what is left alone when Ctrl-C ends the waiting."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise LeftAlone(order) from error


@contextmanager
def server(url: str | None, as_json: bool) -> Generator[Client]:
    """Give a client; an error inside becomes one line (or one JSON object) and an exit code."""
    try:
        with Client(url, patience=PATIENCE) as client:
            yield client
    except ErrataError as error:
        if as_json:
            told = {"code": error.code, "detail": error.detail, **error.fields}
            put_json({"error": told})
        else:
            console(stderr=True).print(f"errata: {error.detail}", markup=False, soft_wrap=True)
        raise typer.Exit(exit_code(error)) from error
    except KeyboardInterrupt as error:
        _tell_interrupted(error.order if isinstance(error, LeftAlone) else None, as_json)
        raise typer.Exit(INTERRUPTED) from error


def _tell_interrupted(order: str | None, as_json: bool) -> None:
    """Say on stderr what goes on without us; nothing came of the command, so stdout stays empty."""
    told = {"code": "interrupted", "detail": "stopped; what was ordered goes on without us"}
    if order is not None:
        look, cancel = f"errata watch {order}", f"errata cancel {order}"
        told["detail"] = f"stopped; {order} goes on: `{look}` follows it, `{cancel}` takes it back"
        told |= {"edit": order, "cancel": cancel}
    if as_json:
        print(json.dumps({"error": told}), file=sys.stderr, flush=True)
    else:
        console(stderr=True).print(f"errata: {told['detail']}", markup=False, soft_wrap=True)


def exit_code(error: ErrataError) -> int:
    """Give the exit code of an error."""
    if isinstance(error, Unreachable | NotErrata | OtherVersion | BadAddress):
        return NO_SERVER
    return NOT_YET if isinstance(error, WaitTimeout) else FAILED


def put(answer: Answer) -> None:
    """Print what the server said."""
    put_json(answer.raw)


def put_list(answers: Sequence[Answer]) -> None:
    """Print a list as the server gives lists."""
    put_json({"data": [each.raw for each in answers]})


def put_json(value: Any) -> None:  # noqa: ANN401 - whatever the server said
    """Print JSON: indented for a person, on one line for a pipe."""
    text = json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None)
    print(text, flush=True)
