"""A trained network on disk: named by what made it, found by what it is for.

    mend-<what it is for>-<what made it>.safetensors      in the folder of the statistics

What it is for: the base model's fingerprint and the edited matrices. What made it: these, the
recipe, the records, the seed, and the iteration at which it was taken. Its id is the second half.
Where several are for the same, an editor takes the newest file, or the one whose id it is given.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors.torch import save_file
from torch import Tensor

from editing.blob import read_safetensors
from editing.editors.hypernet import Hypernet
from editing.errors import BlobUnreadable, HypernetworkDamaged, HypernetworkMissing
from editing.hparams.hypernetwork import MEND_WRITES, MendRecipe
from editing.model.fingerprint import combine, tensor_digest
from editing.model.state import State

if TYPE_CHECKING:
    from editing.model.view import ModelView

    from .check import Check

FORMAT = "errata-mend-1"
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class RunKey:
    """What a run of training depends on."""

    weights: str  # fingerprint of the base model, not its name
    matrices: tuple[tuple[str, int, int], ...]  # name, d_out, d_in
    recipe: MendRecipe
    records: str  # digest of the records, those kept apart included
    seed: int
    kind: str = FORMAT

    @classmethod
    def of(
        cls, view: "ModelView", layers: Sequence[int], recipe: MendRecipe, records: str, seed: int
    ) -> "RunKey":
        """Name a run on a model."""
        return cls(_base_of(view), matrices_of(view, layers), recipe, records, seed)

    @property
    def place(self) -> str:
        """What its network is for."""
        return _place(self.weights, self.matrices)

    @property
    def name(self) -> str:
        """What made it, up to how far it went."""
        return _named(asdict(self))

    def net(self, iteration: int) -> str:
        """The id of the network of one iteration."""
        return _named({**asdict(self), "iteration": iteration})


@dataclass(frozen=True, slots=True)
class TrainedNet:
    """A network that was trained, and its id."""

    id: str
    net: Hypernet


def matrices_of(view: "ModelView", layers: Sequence[int]) -> tuple[tuple[str, int, int], ...]:
    """Every matrix of these layers' MLPs, with its size."""
    found: list[tuple[str, int, int]] = []
    for name in (n for layer in layers for kind in MEND_WRITES for n in view.matrices(layer, kind)):
        rows, columns = view.weight(name).shape
        found.append((name, rows, columns))
    return tuple(found)


def save_net(folder: Path, key: RunKey, tensors: Mapping[str, Tensor], check: "Check") -> str:
    """Write a network down, whole or not at all. Returns its id."""
    name = key.net(check.iteration)
    plain = {part: tensor.cpu().contiguous() for part, tensor in tensors.items()}
    about = {
        "format": FORMAT,
        "key": asdict(key),
        "check": asdict(check),
        "digest": _digest(plain),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"mend-{key.place}-{name}.safetensors"
    partial = path.with_suffix(f".{os.getpid()}.part")
    save_file(plain, partial, metadata={"errata": json.dumps(about, sort_keys=True)})
    partial.replace(path)
    return name


def load_net(view: "ModelView", layers: Sequence[int], wanted: str | None = None) -> TrainedNet:
    """The newest network for this model and these layers, or the one whose id begins with `wanted`.

    Raises HypernetworkMissing where there is none, HypernetworkDamaged where it cannot be read.
    """
    matrices = matrices_of(view, layers)
    place = _place(_base_of(view), matrices)
    known = _newest_first(view.stats.folder, place)
    chosen = next((path for path in known if wanted is None or _id(path).startswith(wanted)), None)
    if chosen is None:
        found = [_id(path) for path in known]
        raise HypernetworkMissing(model=view.name, layers=list(layers), wanted=wanted, known=found)
    try:
        net = _read(chosen, matrices)
    except (BlobUnreadable, OSError, KeyError, TypeError, RuntimeError) as error:
        raise HypernetworkDamaged(net=_id(chosen), path=str(chosen), why=str(error)) from error
    return TrainedNet(_id(chosen), net.to(view.device))


def _read(path: Path, matrices: Sequence[tuple[str, int, int]]) -> Hypernet:
    tensors, about = read_safetensors(path.read_bytes(), FORMAT)
    if about.get("digest") != _digest(tensors):
        raise BlobUnreadable("its tensors are not those that were written")
    recipe = cast("dict[str, Any]", about["key"])["recipe"]
    shapes = {name: (rows, columns) for name, rows, columns in matrices}
    net = Hypernet(shapes, rank=recipe["rank"], alpha=0.0, seed=0)
    net.load_state_dict(dict(tensors))
    return net.requires_grad_(requires_grad=False)


def _newest_first(folder: Path | None, place: str) -> list[Path]:
    if folder is None:
        return []
    found = folder.glob(f"mend-{place}-*.safetensors")
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)


def _id(path: Path) -> str:
    return path.stem.rpartition("-")[2]


def _base_of(view: "ModelView") -> str:
    return view.fingerprint(State())


def _place(weights: str, matrices: Sequence[tuple[str, int, int]]) -> str:
    return _named([FORMAT, weights, [list(one) for one in matrices]])


def _digest(tensors: Mapping[str, Tensor]) -> str:
    return combine({name: tensor_digest(tensor) for name, tensor in tensors.items()})


def _named(made_by: object) -> str:
    text = json.dumps(made_by, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
