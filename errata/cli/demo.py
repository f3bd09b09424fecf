"""`errata demo`: facts change in a real model, and change back."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from errata.cli.common import console
from errata.cli.demo_walk import Walk
from errata.cli.stack_process import own_stack
from errata.client import Client
from errata.demo_facts import ALONE, MODEL, TOGETHER
from errata.errors import ErrataError

PAGE_WIDTH = 110


def demo(
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Keep the data here. [default: a folder that is removed at the end]"),
    ] = None,
) -> None:
    """Edit facts in SmolLM2, see what moved, take it all back, and check that nothing is left."""
    out = console(piped=PAGE_WIDTH)  # a page to read, with rules across it
    try:
        with ExitStack() as stack:
            folder = data_dir or Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="errata-demo-"))
            )
            out.rule("The stack starts", align="left")
            url = stack.enter_context(own_stack(MODEL, folder))
            walk = Walk(stack.enter_context(Client(url)), MODEL, out)
            failures = walk.run(ALONE, TOGETHER)
            out.rule("The stack stops", align="left")
    except ErrataError as error:
        failures = [error.detail]
    for failure in failures:
        out.print(f"FAILED: {failure}", markup=False, soft_wrap=True)
    if failures:
        raise typer.Exit(1)
    out.print("The demo held: the facts changed, and changed back to the last bit.")
