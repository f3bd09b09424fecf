"""`errata bench`: measure in the core, without a service."""

import os
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from errata.cli.common import FAILED, console
from errata.places import default_cache_folder

_LACKING = 'benchmarks need torch, which a light install lacks: pip install "errata[embedded]"'
_HELP = "editors, suite, gradsim, walk, ...: see docs/benchmarks.md. [default: all of them]"


def bench(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help=_HELP)] = None,
) -> None:
    """Run a benchmark; what follows its name is passed on: `errata bench suite ripple --data DIR`.

    Resumable ones go on where they were interrupted.
    """
    if find_spec("torch") is None or find_spec("benchmarks") is None:
        console(stderr=True).print(f"errata bench: {_LACKING}", markup=False, soft_wrap=True)
        raise typer.Exit(FAILED)
    module = "benchmarks" if name is None else f"benchmarks.{name}"
    if name is not None and find_spec(module) is None:
        raise typer.BadParameter(f"there is no benchmark {name!r}; docs/benchmarks.md lists them")
    os.environ.setdefault("ERRATA_CACHE_DIR", str(default_cache_folder()))
    # Another program, not a function call: this one must stay importable without torch.
    os.execv(sys.executable, [sys.executable, "-m", module, *ctx.args])  # noqa: S606
