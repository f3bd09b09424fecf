"""`errata train`: train what an editor needs before it can be used."""

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from errata.cli.common import FAILED, console
from errata.places import default_cache_folder

train = typer.Typer(no_args_is_help=True, help="Train what an editor needs before its first edit.")
_LACKING = 'training needs torch, which a light install lacks: pip install "errata[worker]"'
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_BUDGET = re.compile(r"(\d+(?:\.\d+)?)([smh]?)\Z")


@train.command()
def mend(
    *,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            envvar="ERRATA_DATA",
            help="Facts to train on: a CounterFact file, or a folder with counterfact/*.json. "
            "Repeatable.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="SOURCE", help="As in `errata up`.")
    ] = "smollm2-135m",
    budget: Annotated[
        str, typer.Option(metavar="TIME", help="How long to train at most: 90s, 45m, 2h.")
    ] = "45m",
    leave_out: Annotated[
        str,
        typer.Option(
            metavar="[FILE:]A..B",
            help="Records of the first file, or of this one, that are kept for measuring: neither "
            "they nor what shares a text or a subject with them is trained on. `none` leaves out "
            "nothing.",
        ),
    ] = "0..99",
    recipe: Annotated[
        str, typer.Option(help="quick (for minutes on a CPU), or published.")
    ] = "quick",
    knobs: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=JSON", help="Change a knob of the recipe. Repeatable."),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(metavar="N,N", help="The edited blocks. [default: the last three]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the network and of the records' order.")] = 0,
    device: Annotated[str | None, typer.Option(help="Where to train: cpu, cuda, cuda:1.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="auto (as saved), float32, bfloat16 or float16.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say it in JSON, a line each.")] = False,
) -> None:
    """Train the network of `mend` for a model; edits of every worker here find it from then on.

    Ctrl-C stops it, and the same command goes on where it was; so it does with a larger --budget.
    """
    if not data:
        raise typer.BadParameter("name a file or a folder", param_hint="--data or ERRATA_DATA")
    if find_spec("torch") is None or find_spec("pydantic_settings") is None:
        console(stderr=True).print(f"errata train: {_LACKING}", markup=False, soft_wrap=True)
        raise typer.Exit(FAILED)
    argv = ["mend", "--model", model, "--budget", str(_seconds(budget)), "--leave-out", leave_out]
    argv += ["--recipe", recipe, "--seed", str(seed)]
    argv += [part for each in data for part in ("--data", str(each))]
    argv += [part for each in knobs or () for part in ("--set", each)]
    flags = {"--layers": layers, "--device": device, "--dtype": dtype}
    argv += [part for flag, value in flags.items() if value for part in (flag, value)]
    argv += ["--json"] if as_json else []
    # The cache of the workers of `errata up`: what is trained here is there for the next edit.
    os.environ.setdefault("ERRATA_CACHE_DIR", str(default_cache_folder()))
    # Another program, not a function call: this one must stay importable without torch.
    os.execv(sys.executable, [sys.executable, "-m", "workers.training", *argv])  # noqa: S606


def _seconds(text: str) -> float:
    found = _BUDGET.match(text.strip())
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is no time; write 90s, 45m or 2h", param_hint="--budget"
        )
    return float(found[1]) * _UNITS[found[2]]
