"""Changes of one weight: factored, of a few rows or columns, of every entry; and of no weight.

    LowRank   left @ right                       what a closed form or an adapter writes
    Slices    some rows or columns               what a method writes that owns a few neurons
    Dense     a whole matrix                     what a gradient wrote
    Preface   a text before every prompt         what methods write that leave the weights alone
    Memory    vectors added at certain keys

The first three can be added to a float32 weight in one canonical order, so that a state made of
a base and many deltas comes back bit for bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

# Rows of a weight updated together: few enough to stay in a core's cache while terms are added.
_BLOCK_ELEMENTS = 1 << 17

PREFACE = "preface"  # the name under which an outcome keeps a Preface, beside weights' names


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

    def at(self, keys: Tensor) -> Tensor:
        """What the change adds to the answers at keys [d_in, n], float64: [d_out, n]."""
        return self.left.double() @ (self.right.double() @ keys.double())

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

    def then(self, later: "LowRank") -> "LowRank":
        """Both changes, the later one added behind this one."""
        left = torch.cat([self.left, later.left], dim=1)
        return LowRank(left, torch.cat([self.right, later.right], dim=0))


@dataclass(frozen=True, slots=True)
class Slices:
    """A change of some rows (axis 0) or columns (axis 1) of one weight, float32.

    index  [n]         which of them; one may be named more than once
    values [n, d_in]   what is added to each row, or [n, d_out] to each column
    """

    axis: Literal[0, 1]
    index: Tensor
    values: Tensor
    shape: tuple[int, int]  # of the weight, [d_out, d_in]

    @property
    def rank(self) -> int:
        """Number of slices, an upper bound of the matrix's rank."""
        return len(self.index)

    def norm(self) -> float:
        """Frobenius norm of the change."""
        return float(self.matrix().double().norm())

    def matrix(self) -> Tensor:
        """The change as a whole matrix [d_out, d_in]."""
        whole = torch.zeros(self.shape, dtype=torch.float32, device=self.values.device)
        self.add_to(whole)
        return whole

    def at(self, keys: Tensor) -> Tensor:
        """What the change adds to the answers at keys [d_in, n], float64: [d_out, n]."""
        values, keys = self.values.double(), keys.double()
        if self.axis == 1:
            return values.mT @ keys[self.index]
        out = torch.zeros(self.shape[0], keys.shape[1], dtype=keys.dtype, device=keys.device)
        return out.index_add_(0, self.index, values @ keys)

    def add_to(self, weight: Tensor) -> None:
        """Add to a float32 weight [d_out, d_in], in place, one slice after another."""
        values = self.values.to(weight.device)
        for number, at in enumerate(self.index.tolist()):
            weight.select(self.axis, at).add_(values[number])

    def then(self, later: "Slices") -> "Slices":
        """Both changes, the later one added behind this one."""
        index = torch.cat([self.index, later.index])
        return Slices(self.axis, index, torch.cat([self.values, later.values]), self.shape)


@dataclass(frozen=True, slots=True)
class Dense:
    """A change of every entry of one weight, float32 [d_out, d_in]."""

    whole: Tensor

    @property
    def rank(self) -> int:
        """The upper bound of the matrix's rank that its shape gives."""
        return min(self.whole.shape)

    def norm(self) -> float:
        """Frobenius norm of the change."""
        return float(self.whole.double().norm())

    def matrix(self) -> Tensor:
        """The change itself."""
        return self.whole

    def at(self, keys: Tensor) -> Tensor:
        """What the change adds to the answers at keys [d_in, n], float64: [d_out, n]."""
        return self.whole.double() @ keys.double()

    def add_to(self, weight: Tensor) -> None:
        """Add to a float32 weight [d_out, d_in], in place."""
        weight.add_(self.whole.to(weight.device))

    def then(self, later: "Dense") -> "Dense":
        """Both changes as one; rounded once, so not bit for bit the one after the other."""
        return Dense(self.whole + later.whole)


@dataclass(frozen=True, slots=True)
class Preface:
    """A text that stands before every prompt the model is asked. No weight changes."""

    text: str

    @property
    def rank(self) -> int:
        """No weight changes."""
        return 0

    def then(self, later: "Preface") -> "Preface":
        """Both texts, the later one behind this one: nearer to the prompt."""
        return Preface(self.text + later.text)


@dataclass(frozen=True, slots=True)
class Memory:
    """Entries that come beside one weight, and entries that go; the weight stays as it is.

    Where an input k of the weight is nearest to the key of entry i, and nearer than its gate, the
    entry's value is added to what the weight answers there. All float32:

    keys   [n, d_in]   of length one
    values [n, d_out]
    gates  [n]         cosines
    gone   [m, d_in]   the keys, bit for bit, of earlier entries that go
    """

    keys: Tensor
    values: Tensor
    gates: Tensor
    gone: Tensor

    @classmethod
    def of(
        cls, keys: Tensor, values: Tensor, gates: Tensor, gone: Tensor | None = None
    ) -> "Memory":
        """Round entries of any format to what is stored."""
        gone = keys[:0] if gone is None else gone
        return cls(*(part.float().contiguous() for part in (keys, values, gates, gone)))

    def __len__(self) -> int:
        return len(self.gates)

    @property
    def rank(self) -> int:
        """No weight changes."""
        return 0

    @property
    def nbytes(self) -> int:
        """What it holds, in bytes."""
        return sum(part.nbytes for part in (self.keys, self.values, self.gates, self.gone))

    def to(self, device: torch.device) -> "Memory":
        """The same on a device."""
        parts = (self.keys, self.values, self.gates, self.gone)
        return Memory(*(part.to(device) for part in parts))

    def then(self, later: "Memory") -> "Memory":
        """Both, one after the other: what the later one takes out is not there any more."""
        mine = (self.keys, self.values, self.gates)
        if len(later.gone):
            gone = set(_bits(later.gone))
            kept = [at for at, bits in enumerate(_bits(self.keys)) if bits not in gone]
            mine = tuple(part[kept] for part in mine)
        theirs = (later.keys, later.values, later.gates)
        come = (torch.cat([one, other]) for one, other in zip(mine, theirs, strict=True))
        return Memory(*come, gone=torch.cat([self.gone, later.gone]))

    @property
    def standing(self) -> "Memory":
        """What a state keeps of it: its entries, and nothing of those that went."""
        return Memory(self.keys, self.values, self.gates, self.gone[:0])


def _bits(keys: Tensor) -> list[bytes]:
    """Each key [n, d_in] as bytes: equal where all bits are."""
    return [key.tobytes() for key in keys.detach().cpu().numpy()]


Change = LowRank | Slices | Dense  # of a weight
Beside = Preface | Memory  # of no weight
Delta = Change | Beside


def tensors_of(delta: Delta) -> dict[str, Tensor]:
    """The tensors a delta is kept as; `delta_of` makes it anew."""
    match delta:
        case LowRank(left, right):
            return {"left": left, "right": right}
        case Slices(axis, index, values, shape):
            about = {"axis": torch.tensor(axis), "shape": torch.tensor(shape)}
            return {**about, "index": index, "slices": values}
        case Dense(whole):
            return {"whole": whole}
        case Preface(text):
            return {"text": torch.tensor(list(text.encode()), dtype=torch.uint8)}
        case Memory(keys, values, gates, gone):
            entries = {"entry_keys": keys, "entry_values": values, "gates": gates}
            return {**entries, "gone": gone}


def delta_of(parts: Mapping[str, Tensor]) -> Delta:
    """The delta that `tensors_of` gave these tensors for. Raises KeyError where one is lacking."""
    if "left" in parts or "right" in parts:
        return LowRank(parts["left"], parts["right"])
    if "whole" in parts:
        return Dense(parts["whole"])
    if "text" in parts:
        return Preface(bytes(parts["text"].tolist()).decode())
    if "gates" in parts:
        return Memory(parts["entry_keys"], parts["entry_values"], parts["gates"], parts["gone"])
    rows, columns = parts["shape"].tolist()
    axis: Literal[0, 1] = 1 if int(parts["axis"]) else 0
    return Slices(axis, parts["index"], parts["slices"], (rows, columns))


def is_finite(delta: Delta) -> bool:
    """Whether no number of a delta is NaN or infinity."""
    return all(bool(part.isfinite().all()) for part in tensors_of(delta).values())
