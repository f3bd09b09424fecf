"""An interrupted training on disk, so that it goes on where it was, to the same bits.

Kept beside the networks, under the name of the run; gradients that have not made a step yet are
part of it, so it may be written between any two steps.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor

from editing.blob import read_safetensors
from editing.errors import BlobUnreadable

from .artefact import save_net
from .check import Check
from .loop import Training

_FORMAT = "errata-mend-run-1"
_PARTS = ("net", "best", "grad", "adam")


def path_of(folder: Path, training: Training) -> Path:
    """Where the state of a run lies."""
    return folder / f"mend-{training.key.place}-{training.key.name}.run"


def write_state(folder: Path, training: Training, spent_s: float) -> None:
    """Write down how a run stands, whole or not at all; `spent_s` is the time it took so far."""
    parts: dict[str, dict[str, Tensor]] = {
        "net": training.net.state_dict(),
        "best": training.best,
        "grad": {n: p.grad for n, p in training.net.named_parameters() if p.grad is not None},
        "adam": {
            f"{number}/{name}": value
            for number, held in training.adam.state_dict()["state"].items()
            for name, value in held.items()
        },
    }
    tensors = {
        f"{part}:{name}": tensor.detach().cpu().contiguous()
        for part, held in parts.items()
        for name, tensor in held.items()
    }
    about = {
        "format": _FORMAT,
        "key": asdict(training.key),
        "done": training.done,
        "checks": [asdict(check) for check in training.checks],
        "spent_s": spent_s,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, training)
    partial = path.with_suffix(f".{os.getpid()}.part")
    save_file(tensors, partial, metadata={"errata": json.dumps(about)})
    partial.replace(path)


def read_state(folder: Path, training: Training) -> float:
    """Bring a fresh run to where it was written down. Returns the seconds it had taken, 0 if none.

    A state that cannot be read (a machine that crashed) is no state: the run begins anew.
    """
    path = path_of(folder, training)
    try:
        tensors, about = read_safetensors(path.read_bytes(), _FORMAT)
    except (FileNotFoundError, BlobUnreadable):
        return 0.0
    held: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    for full, tensor in tensors.items():
        part, _, name = full.partition(":")
        held[part][name] = tensor
    training.net.load_state_dict(held["net"])
    training.best = held["best"]
    for name, parameter in training.net.named_parameters():
        gradient = held["grad"].get(name)
        parameter.grad = None if gradient is None else gradient.to(parameter.device)
    _restore_adam(training.adam, held["adam"])
    training.done = cast("int", about["done"])
    checks = cast("list[dict[str, Any]]", about["checks"])
    training.checks = [Check(**check) for check in checks]
    return cast("float", about["spent_s"])


def _restore_adam(adam: torch.optim.Adam, held: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for full, value in held.items():
        number, _, name = full.partition("/")
        state.setdefault(int(number), {})[name] = value
    adam.load_state_dict({**adam.state_dict(), "state": state})


def deliver(folder: Path, training: Training) -> str:
    """Write the best network of a run that was judged down, for editors to find. Returns its id."""
    best = training.best_check
    if best is None:
        raise ValueError("nothing of this run was judged yet")
    return save_net(folder, training.key, training.best, best)
