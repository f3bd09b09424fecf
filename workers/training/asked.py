"""What a training can be told, and the run that it describes."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from app.settings import Settings
from editing.datasets.counterfact import read_counterfact
from editing.errors import BadRequest
from editing.hparams import RECIPES, MendRecipe
from editing.knobs import filled
from editing.model.load import load_view
from editing.source import parse_source
from editing.training.loop import Training
from editing.training.records import Split, split_of
from editing.tuned import placement

_IN_A_FOLDER = ("counterfact/counterfact_full.json", "counterfact/counterfact-edit.json")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Records that are kept for measuring: a range of a file, by default of the first one."""

    records: range
    file: Path | None = None

    @classmethod
    def of(cls, text: str) -> "LeftOut":
        """From `0..99`, `none` or `FILE:0..99`."""
        file, _, numbers = text.rpartition(":")
        first, dots, last = numbers.partition("..")
        if text == "none":
            return cls(range(0))
        if not dots or not first.isdecimal() or not last.isdecimal() or int(last) < int(first):
            message = f"{text!r} is no range of records; write 0..99, FILE:0..99, or none"
            raise argparse.ArgumentTypeError(message)
        return cls(range(int(first), int(last) + 1), Path(file) if file else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The command line of one training."""

    model: str
    data: tuple[Path, ...]
    leave_out: "LeftOut"
    budget_s: float
    recipe: MendRecipe
    layers: tuple[int, ...] | None
    seed: int
    device: str
    dtype: str
    as_json: bool


def parse(argv: Sequence[str] | None, settings: Settings) -> Asked:
    """Read the command line; `errata train mend` has the same flags. Raises BadRequest."""
    parser = argparse.ArgumentParser(prog="errata train", description=__doc__)
    parser.add_argument("method", choices=("mend",))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--data", action="append", type=Path, required=True)
    parser.add_argument("--leave-out", type=LeftOut.of, default="0..99")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds")
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="quick")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", dest="knobs")
    parser.add_argument("--layers", type=_layers)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=settings.device)
    parser.add_argument("--dtype", default=settings.dtype)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    return Asked(
        model=given.model,
        data=tuple(given.data),
        leave_out=given.leave_out,
        budget_s=given.budget,
        recipe=filled(MendRecipe, {**RECIPES[given.recipe], **_knobs(given.knobs)}, of="mend"),
        layers=given.layers,
        seed=given.seed,
        device=given.device,
        dtype=given.dtype,
        as_json=given.json,
    )


def records_of(asked: Asked) -> Split:
    """The records to train on, and those kept apart to judge by. Raises BadRequest."""
    files = [file for path in asked.data for file in _files(path)]
    numbers = asked.leave_out.records
    measured = asked.leave_out.file or files[0]
    spared = read_counterfact(measured, offset=numbers.start, limit=len(numbers))
    records = [one for file in files for one in read_counterfact(file)]
    return split_of(records, spared, check=asked.recipe.check_records, seed=asked.seed)


def training_of(asked: Asked, settings: Settings) -> tuple[Training, Path]:
    """The run from its beginning, and the folder where its network goes."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    split = records_of(asked)  # before the model: what is wrong with it is told at once
    view = load_view(
        parse_source(asked.model), cache=settings.cache, device=asked.device, dtype=asked.dtype
    )
    layers = asked.layers or placement("mend", view.facts)
    if layers[-1] >= view.facts.layers:
        why = f"The model has {view.facts.layers} layers, 0 to {view.facts.layers - 1}."
        raise BadRequest(why, layers=list(layers))
    training = Training(view, split, asked.recipe, layers=layers, seed=asked.seed)
    return training, settings.cache / "statistics"


def _files(path: Path) -> list[Path]:
    """A file, or the files of CounterFact in a folder of benchmark data."""
    if path.is_file():
        return [path]
    found = [path / name for name in _IN_A_FOLDER if (path / name).is_file()]
    if not found:
        why = f"{path} is no file, and no folder with {' or '.join(_IN_A_FOLDER)}."
        raise BadRequest(why, path=str(path))
    return found


def _layers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        message = f"{text!r} is no list of layers; write 27,28,29"
        raise argparse.ArgumentTypeError(message)
    return tuple(sorted({int(part) for part in parts}))


def _knobs(given: Sequence[str]) -> Mapping[str, object]:
    knobs: dict[str, object] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise BadRequest(f"{text!r} sets nothing; write --set NAME=JSON, for example lr=1e-4.")
        try:
            knobs[name] = json.loads(value)
        except ValueError:
            knobs[name] = value  # a word, as in divergence=from_edited
    return knobs
