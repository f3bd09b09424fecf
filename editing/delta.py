"""What an edit changes: factored deltas, and the keys and values that it wrote."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from safetensors.torch import load, save
from torch import Tensor

from .errors import BlobUnreadable, NonFiniteDelta

_FORMAT = "errata-outcome-1"
# Rows of a weight updated together: few enough to stay in a core's cache while terms are added.
_BLOCK_ELEMENTS = 1 << 17


@dataclass(frozen=True, slots=True)
class LowRank:
    """The change left @ right of one weight, both factors float32.

    left  [d_out, n]
    right [n, d_in]
    """

    left: Tensor
    right: Tensor

    @classmethod
    def of(cls, left: Tensor, right: Tensor) -> "LowRank":
        """Round float64 factors to what is stored, in at most d_out terms."""
        if left.shape[1] > left.shape[0]:  # more columns than rows: the product itself is smaller
            right = left @ right
            left = torch.eye(left.shape[0], dtype=right.dtype, device=right.device)
        return cls(left.float().contiguous(), right.float().contiguous())

    @property
    def rank(self) -> int:
        """Number of rank-one terms, an upper bound of the matrix's rank."""
        return self.left.shape[1]

    def norm(self) -> float:
        """Frobenius norm of left @ right, without forming it."""
        left, right = self.left.double(), self.right.double()
        return float(((left.mT @ left) * (right @ right.mT)).sum().clamp(min=0).sqrt())

    def matrix(self) -> Tensor:
        """left @ right [d_out, d_in], for tests and reports; weights are built by `add_to`."""
        return self.left @ self.right

    def add_to(self, weight: Tensor) -> None:
        """Add to a float32 weight [d_out, d_in], in place, in the one canonical order.

        Terms are added one by one, multiply then add: a matmul gives other bits under another
        kernel or thread count, this sum does not, and every state must come back bit for bit.
        """
        left, right = self.left.to(weight.device), self.right.to(weight.device)
        on_cpu = weight.device.type == "cpu"  # elsewhere blocks only mean more launches
        rows = max(1, _BLOCK_ELEMENTS // weight.shape[1]) if on_cpu else weight.shape[0]
        for start in range(0, weight.shape[0], rows):
            block = weight[start : start + rows]
            for i in range(self.rank):
                block.add_(left[start : start + rows, i : i + 1] * right[i])

    def is_finite(self) -> bool:
        """Whether neither factor holds NaN or infinity."""
        return bool(self.left.isfinite().all() and self.right.isfinite().all())


@dataclass(frozen=True, slots=True)
class Written:
    """The association one edit wrote into one weight, so that later edits can respect it.

    keys   [d_in, n]   inputs of the weight
    values [d_out, n]  what its module answers at these keys after the edit, bias included
    """

    keys: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an editor returns: a delta for each changed weight, what it wrote, and notes."""

    deltas: Mapping[str, LowRank]
    written: Mapping[str, Written] = field(default_factory=dict[str, Written])
    notes: Mapping[str, object] = field(default_factory=dict[str, object])

    def require_finite(self) -> None:
        """Raise NonFiniteDelta before anything bad can touch a weight."""
        for name, delta in self.deltas.items():
            if not delta.is_finite():
                raise NonFiniteDelta(weight=name)

    def to_bytes(self) -> bytes:
        """As safetensors; equal outcomes give equal bytes."""
        tensors: dict[str, Tensor] = {}
        for name, delta in self.deltas.items():
            tensors[f"{name}:left"], tensors[f"{name}:right"] = delta.left, delta.right
        for name, pair in self.written.items():
            tensors[f"{name}:keys"], tensors[f"{name}:values"] = pair.keys, pair.values
        parts = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        notes = json.dumps({"format": _FORMAT, "notes": self.notes}, sort_keys=True)
        return save(parts, metadata={"errata": notes})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Outcome":
        """Read what `to_bytes` wrote. Raises BlobUnreadable."""
        tensors, about = read_safetensors(data, _FORMAT)
        deltas = {name: LowRank(*pair) for name, pair in _pairs(tensors, "left", "right")}
        written = {name: Written(*pair) for name, pair in _pairs(tensors, "keys", "values")}
        return cls(deltas, written, cast("dict[str, object]", about.get("notes", {})))


def _pairs(
    tensors: Mapping[str, Tensor], one: str, other: str
) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """The tensors `name:one` and `name:other` of every name. Raises BlobUnreadable."""
    ends = (f":{one}", f":{other}")
    for name in sorted({full.rpartition(":")[0] for full in tensors if full.endswith(ends)}):
        try:
            yield name, (tensors[name + ends[0]], tensors[name + ends[1]])
        except KeyError as error:
            raise BlobUnreadable(f"it lacks {error}") from error


def read_safetensors(data: bytes, expected: str) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Tensors and our header of safetensors bytes. Raises BlobUnreadable."""
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        about = json.loads(header["__metadata__"]["errata"])
        found = about["format"]
    except Exception as error:  # safetensors raises its own and built-in errors alike
        raise BlobUnreadable(f"{type(error).__name__}: {error}") from error
    if found != expected:
        raise BlobUnreadable(f"it holds {found!r}, expected {expected!r}")
    return tensors, about
