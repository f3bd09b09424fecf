"""A state of the model: what differs from base. Immutable."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from safetensors.torch import save
from torch import Tensor

from editing.blob import read_safetensors

_FORMAT = "errata-state-1"


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Weights as base + deltas, folded. `State()` is base itself.

    `masters` maps a weight's name to its value [d_out, d_in] in float32. What is served is a cast
    of it, kept in `served` once made, in the orientation and format of the checkpoint. `preface`
    stands before every prompt that the model is asked.
    """

    masters: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    served: dict[str, Tensor] = field(default_factory=dict[str, Tensor], repr=False)
    digests: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    preface: str = ""

    @property
    def nbytes(self) -> int:
        """Memory the masters hold, in bytes."""
        return sum(master.nbytes for master in self.masters.values())

    def to_bytes(self) -> bytes:
        """A checkpoint, as safetensors."""
        parts = {name: master.cpu().contiguous() for name, master in self.masters.items()}
        about = {"format": _FORMAT} | ({"preface": self.preface} if self.preface else {})
        return save(parts, metadata={"errata": json.dumps(about)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "State":
        """Read a checkpoint. Raises BlobUnreadable."""
        tensors, about = read_safetensors(data, _FORMAT)
        return cls(tensors, preface=str(about.get("preface", "")))
