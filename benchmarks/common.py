"""What the benchmarks share: their arguments, their records, and the model."""

import argparse
import hashlib
import os
from pathlib import Path

import torch

from editing.datasets.counterfact import read_counterfact
from editing.model.load import load_view
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.source import parse_source


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
    made.add_argument("--cache", default=str(Path.home() / ".cache" / "errata"))
    made.add_argument("--threads", type=int, default=1)
    return made


def corpus_name(file: Path) -> str:
    """Name and digest of a corpus: what statistics taken from it are kept under."""
    return f"{file.name}@{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"


def prepared(
    made: argparse.ArgumentParser,
) -> tuple[argparse.Namespace, list[EditRequest], ModelView]:
    """Read the arguments, the records they name, and the model."""
    args = made.parse_args()
    if not args.data:
        made.error("name the folder of benchmark data with --data or ERRATA_DATA")
    torch.set_num_threads(args.threads)
    file = Path(args.data) / "counterfact" / "counterfact_full.json"
    requests = read_counterfact(file, offset=args.offset, limit=args.records)
    return args, requests, load_view(parse_source(args.model), cache=Path(args.cache))
