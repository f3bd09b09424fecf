"""What the benchmarks share: their arguments, their records, and the model."""

import argparse
import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import torch

from editing.datasets.counterfact import read_counterfact
from editing.model.load import load_view
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.source import parse_source
from errata.cli.stack_process import own_stack

_CACHE = Path.home() / ".cache" / "errata"


def parser(doc: str | None, *, records: int) -> argparse.ArgumentParser:
    """Describe the arguments that every benchmark takes."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--data", default=os.environ.get("ERRATA_DATA"), help="folder of benchmark data"
    )
    made.add_argument("--records", type=int, default=records)
    made.add_argument("--offset", type=int, default=0, help="the first record")
    made.add_argument("--model", default="smollm2-135m")
    made.add_argument("--cache", default=os.environ.get("ERRATA_CACHE_DIR") or str(_CACHE))
    made.add_argument("--threads", type=int, default=1)
    return made


def corpus_name(file: Path) -> str:
    """Name and digest of a corpus: what statistics taken from it are kept under."""
    return f"{file.name}@{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"


def read(made: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the arguments of a benchmark that needs data."""
    args = made.parse_args()
    if not args.data:
        made.error("name the folder of benchmark data with --data or ERRATA_DATA")
    return args


def requests_of(made: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[EditRequest]]:
    """Read the arguments, and the records they name."""
    args = read(made)
    torch.set_num_threads(args.threads)
    file = Path(args.data) / "counterfact" / "counterfact_full.json"
    return args, read_counterfact(file, offset=args.offset, limit=args.records)


def prepared(
    made: argparse.ArgumentParser,
) -> tuple[argparse.Namespace, list[EditRequest], ModelView]:
    """Read the arguments, the records they name, and the model."""
    args, requests = requests_of(made)
    return args, requests, loaded(args)


def loaded(args: argparse.Namespace) -> ModelView:
    """Load the model that the arguments name."""
    return load_view(parse_source(args.model), cache=Path(args.cache))


@contextmanager
def stack(args: argparse.Namespace, folder: Path) -> Generator[httpx.Client]:
    """A whole service of our own in `folder`, serving the model; gives a client of it."""
    os.environ.update(ERRATA_CACHE_DIR=args.cache, ERRATA_THREADS=str(args.threads))
    with own_stack(args.model, folder) as url, httpx.Client(base_url=url, timeout=120) as http:
        yield http
