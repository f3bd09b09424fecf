"""A state of the model: what differs from base. Immutable."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from editing.blob import read_safetensors
from editing.delta import Memory, delta_of, tensors_of
from editing.errors import BlobUnreadable

_FORMAT = "errata-state-1"


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Weights as base + deltas, folded. `State()` is base itself.

    `masters` maps a weight's name to its value [d_out, d_in] in float32. What is served is a cast
    of it, kept in `served` once made, in the orientation and format of the checkpoint. `preface`
    stands before every prompt that the model is asked. `memories` maps a weight's name to what is
    added to its answers; a weight without entries is not in it. `measured` keeps what was found of
    the model in this state, by its name: what is served now was measured before it was.
    """

    masters: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    served: dict[str, Tensor] = field(default_factory=dict[str, Tensor], repr=False)
    digests: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    preface: str = ""
    memories: Mapping[str, Memory] = field(default_factory=dict[str, Memory])
    measured: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)

    @property
    def nbytes(self) -> int:
        """What the masters and the memories hold, in bytes."""
        return sum(one.nbytes for one in (*self.masters.values(), *self.memories.values()))

    @property
    def entries(self) -> int:
        """How many keys its memories have."""
        return sum(map(len, self.memories.values()))

    def to(self, device: torch.device) -> "State":
        """The same on a device."""
        masters = {name: master.to(device) for name, master in self.masters.items()}
        memories = {name: memory.to(device) for name, memory in self.memories.items()}
        return State(masters, preface=self.preface, memories=memories)

    def to_bytes(self) -> bytes:
        """A checkpoint, as safetensors."""
        tensors = dict(self.masters)
        for name, memory in self.memories.items():
            tensors |= {f"{name}:{part}": tensor for part, tensor in tensors_of(memory).items()}
        parts = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        about = {"format": _FORMAT} | ({"preface": self.preface} if self.preface else {})
        return save(parts, metadata={"errata": json.dumps(about)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "State":
        """Read a checkpoint. Raises BlobUnreadable."""
        tensors, about = read_safetensors(data, _FORMAT)
        masters: dict[str, Tensor] = {}
        parts: dict[str, dict[str, Tensor]] = {}
        for full, tensor in tensors.items():
            name, _, part = full.partition(":")
            if part:
                parts.setdefault(name, {})[part] = tensor
            else:
                masters[name] = tensor
        memories = {name: _memory(name, some) for name, some in parts.items()}
        return cls(masters, preface=str(about.get("preface", "")), memories=memories)


def _memory(weight: str, parts: Mapping[str, Tensor]) -> Memory:
    try:
        found = delta_of(parts)
    except KeyError as error:
        raise BlobUnreadable(f"the memory beside {weight} is not whole: {error}") from error
    if not isinstance(found, Memory):
        raise BlobUnreadable(f"what it holds beside {weight} is no memory")
    return found
