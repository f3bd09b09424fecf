"""A state of the model: the float32 masters of the weights that differ from base. Immutable."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from safetensors.torch import save
from torch import Tensor

from editing.delta import read_safetensors

_FORMAT = "errata-state-1"


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Weights as base + deltas, folded. `State()` is base itself.

    `masters` maps a weight's name to its value [d_out, d_in] in float32. What is served is a cast
    of it, kept in `served` once made, in the orientation and format of the checkpoint.
    """

    masters: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    served: dict[str, Tensor] = field(default_factory=dict[str, Tensor], repr=False)
    digests: dict[str, str] = field(default_factory=dict[str, str], repr=False)

    @property
    def nbytes(self) -> int:
        """Memory the masters hold, in bytes."""
        return sum(master.nbytes for master in self.masters.values())

    def to_bytes(self) -> bytes:
        """A checkpoint, as safetensors."""
        parts = {name: master.cpu().contiguous() for name, master in self.masters.items()}
        return save(parts, metadata={"errata": json.dumps({"format": _FORMAT})})

    @classmethod
    def from_bytes(cls, data: bytes) -> "State":
        """Read a checkpoint. Raises BlobUnreadable."""
        tensors, _ = read_safetensors(data, _FORMAT)
        return cls(tensors)
