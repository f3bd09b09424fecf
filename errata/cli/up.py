"""`errata up`: become the supervisor of the stack."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def up(
    *,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE",
            help="Serve this model: smollm2-135m, hub:org/name@revision, a folder, a GGUF file. "
            "Repeatable. [default: smollm2-135m]",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port of the API; 0 takes any free one.")] = 8642,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where everything is kept. [default: ~/.local/share/errata]"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Where models run: cpu, cuda, cuda:1.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="auto (as saved), float32, bfloat16 or float16.")
    ] = None,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log JSON lines.")] = False,
    ready_file: Annotated[
        Path | None,
        typer.Option(help="Write the base URL here once the model answers a probe."),
    ] = None,
) -> None:
    """Run Postgres, Valkey, the API and a worker for each model here, in the foreground.

    What dies is started again; Ctrl-C stops everything; the same --data-dir opens the same data.
    With ERRATA_DATABASE_URL or ERRATA_REDIS_URL set, those servers are used instead.
    """
    argv = [part for each in model or () for part in ("--model", each)]
    argv += ["--host", host, "--port", str(port)]
    flags = {
        "--data-dir": data_dir,
        "--device": device,
        "--dtype": dtype,
        "--ready-file": ready_file,
    }
    argv += [part for flag, value in flags.items() if value for part in (flag, str(value))]
    argv += ["--log-json"] if log_json else []
    # Another program, not a function call: this one must stay importable without the service.
    os.execv(sys.executable, [sys.executable, "-m", "errata.stack", *argv])  # noqa: S606
