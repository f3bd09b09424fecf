"""What `errata up` can be told."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from errata.places import default_data_folder

DEFAULT_MODEL = "smollm2-135m"
DEFAULT_PORT = 8642
HIGHEST_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The flags of one run."""

    models: tuple[str, ...]
    host: str
    port: int
    data_dir: Path
    device: str | None
    dtype: str | None
    log_json: bool
    ready_file: Path | None
    parent: int | None = None


def parse(argv: Sequence[str]) -> Options:
    """Read the command line of `python -m errata.stack`; `errata up` has the same flags."""
    parser = argparse.ArgumentParser(prog="errata up", description="Run the whole stack here.")
    parser.add_argument("--model", action="append", dest="models", metavar="SOURCE")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=DEFAULT_PORT)
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--device")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"))
    parser.add_argument("--log-json", action="store_true")
    parser.add_argument("--ready-file", type=Path)
    # For programs that start a stack of their own: it stops when this process does.
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    return Options(
        models=tuple(dict.fromkeys(given.models or (DEFAULT_MODEL,))),
        host=given.host,
        port=given.port,
        data_dir=given.data_dir or default_data_folder(),
        device=given.device,
        dtype=given.dtype,
        log_json=given.log_json,
        ready_file=given.ready_file,
        parent=given.parent,
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > HIGHEST_PORT:
        message = f"{text!r} is no port; give a number from 0 (any free one) to {HIGHEST_PORT}"
        raise argparse.ArgumentTypeError(message)
    return int(text)
