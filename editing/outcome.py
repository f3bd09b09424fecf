"""What an editor returns: deltas, the associations that it wrote, and notes; to bytes and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from safetensors.torch import save
from torch import Tensor

from .blob import read_safetensors
from .delta import Change, Delta, Memory, Preface, delta_of, is_finite, tensors_of
from .errors import BlobUnreadable, NonFiniteDelta

_FORMAT = "errata-outcome-1"
_WRITTEN = ("keys", "values", "missing", "wanted", "downhill")
_GOAL = "goal"
_IDS = ("removes", "ends", "holds")

SOLUTION = "solution"  # the note under which an outcome says what it is a part of


@dataclass(frozen=True, slots=True)
class Written:
    """The association one edit wrote into one weight, so that later edits can respect it.

    keys    [d_in, n]   inputs of the weight
    values  [d_out, n]  W K after the edit, without a bias
    missing [d_out, n]  what is missing there still of what W K was asked to be, since a soft write
                        only comes near; kept by itself, for it is small beside the values
    wanted  [d_out, n]  float64: what all changes of a joint solution together were asked to add
                        there, so that what is missing later is told without going through them
    downhill [d_out, n] which way the answers should have moved for the loss to fall, its negative
                        gradient; of methods that take their values from it
    """

    keys: Tensor
    values: Tensor
    missing: Tensor
    wanted: Tensor | None = None
    downhill: Tensor | None = None

    @property
    def parts(self) -> dict[str, Tensor]:
        """Its tensors, by name; each has a column a key."""
        return {name: part for name in _WRITTEN if (part := getattr(self, name)) is not None}

    @property
    def targets(self) -> Tensor:
        """What W K was asked to be [d_out, n]."""
        return self.values + self.missing

    @classmethod
    def of(cls, W: Tensor, keys: Tensor, asked: Tensor, change: Change) -> "Written":
        """What a change of W [d_out, d_in] wrote, asked to add `asked` [d_out, n] at the keys.

        From the weight itself, not from a pass: what a model in bfloat16 answers is too rough to be
        taken out again.
        """
        moved = change.at(keys)
        values = W.double() @ keys.double() + moved
        return cls(keys.float(), values.float(), (asked - moved).float())


@dataclass(frozen=True, slots=True)
class Outcome:
    """A delta for each changed weight (the preface, a memory), what was written, and notes.

    goals: what the last edited block was asked to answer, by whatever name the method calls it,
    [d_v, n]; kept by methods that may have to write it anew.
    removes: earlier edits whose associations this one takes out of the weights, or parts of them,
    "edit#number" by the slots of their notes (editors/slots.py); ends: edits of which no fact is
    live any more, though what they wrote was taken out in parts; holds: edits whose facts this one
    has written anew in their place (editing/compact.py).
    """

    deltas: Mapping[str, Delta]
    written: Mapping[str, Written] = field(default_factory=dict[str, Written])
    notes: Mapping[str, object] = field(default_factory=dict[str, object])
    removes: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    goals: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    @property
    def solution(self) -> str | None:
        """The joint solution that it is a part of (editors/solution.py); None where of none."""
        return cast("str | None", self.notes.get(SOLUTION))

    def is_part_of(self, made_by: object) -> bool:
        """Whether it is a part of the solution under the metric that `made_by` names."""
        return self.solution == str(made_by)

    @property
    def changes(self) -> dict[str, Change]:
        """The deltas of weights."""
        return {n: d for n, d in self.deltas.items() if not isinstance(d, Preface | Memory)}

    def require_finite(self) -> None:
        """Raise NonFiniteDelta before anything bad can touch a weight."""
        for name, delta in self.deltas.items():
            if not is_finite(delta):
                raise NonFiniteDelta(weight=name)

    def to_bytes(self) -> bytes:
        """As safetensors; equal outcomes give equal bytes."""
        tensors: dict[str, Tensor] = {}
        for name, delta in self.deltas.items():
            tensors |= {f"{name}:{part}": tensor for part, tensor in tensors_of(delta).items()}
        for name, pair in self.written.items():
            tensors |= {f"{name}:{part}": tensor for part, tensor in pair.parts.items()}
        tensors |= {f"{name}:{_GOAL}": goal for name, goal in self.goals.items()}
        parts = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        about: dict[str, object] = {"format": _FORMAT, "notes": self.notes}
        for name in _IDS:
            if getattr(self, name):
                about[name] = getattr(self, name)
        return save(parts, metadata={"errata": json.dumps(about, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Outcome":
        """Read what `to_bytes` wrote. Raises BlobUnreadable."""
        tensors, about = read_safetensors(data, _FORMAT)
        by_name: dict[str, dict[str, Tensor]] = {}
        for full in sorted(tensors):
            name, _, part = full.rpartition(":")
            by_name.setdefault(name, {})[part] = tensors[full]
        deltas: dict[str, Delta] = {}
        written: dict[str, Written] = {}
        goals: dict[str, Tensor] = {}
        for name, parts in by_name.items():
            if _GOAL in parts:
                goals[name] = parts.pop(_GOAL)
            pair = {part: parts.pop(part) for part in (*_WRITTEN, "targets") if part in parts}
            try:
                if parts:
                    deltas[name] = delta_of(parts)
                if pair:
                    written[name] = _read(pair)
            except (KeyError, ValueError) as error:
                raise BlobUnreadable(f"what it holds of {name} is not whole: {error}") from error
        notes = cast("dict[str, object]", about.get("notes", {}))
        ids = {name: tuple(cast("list[str]", about.get(name, []))) for name in _IDS}
        return cls(deltas, written, notes, **ids, goals=goals)


def _read(pair: Mapping[str, Tensor]) -> Written:
    """An association from its parts, also as earlier versions kept it."""
    keys, values = pair["keys"], pair["values"]
    missing = pair.get("missing", pair.get("targets", values) - values)
    return Written(keys, values, missing, pair.get("wanted"), pair.get("downhill"))


def part_of(pair: Written, columns: Sequence[int]) -> Written:
    """Some columns of an association."""
    at = list(columns)
    return Written(**{name: tensor[:, at] for name, tensor in pair.parts.items()})


def joined(parts: Sequence[Outcome], *, one_solution: bool = False) -> Outcome:
    """Outcomes made one after another as one; values move with the changes that came later.

    one_solution: the later ones were solved with the earlier ones' keys in their metric, so that
    what they change at those keys brings them nearer to what they were asked for; else it moves
    that as well.
    """
    if len(parts) == 1:
        return parts[0]
    deltas: dict[str, Delta] = {}
    written: dict[str, Written] = {}
    for part in parts:
        for name, delta in part.deltas.items():
            old = deltas.get(name)
            # A method's deltas of one weight are of one kind.
            deltas[name] = delta if old is None else old.then(delta)  # pyright: ignore[reportArgumentType]
            pair = written.get(name)
            if pair is not None and not isinstance(delta, Preface | Memory):
                change = delta.at(pair.keys)
                moved = (pair.values.double() + change).float()
                left = (pair.missing.double() - change).float() if one_solution else pair.missing
                written[name] = Written(pair.keys, moved, left)
        for name, pair in part.written.items():
            old_pair = written.get(name)
            if old_pair is not None:
                pair = Written(  # noqa: PLW2901
                    torch.cat([old_pair.keys, pair.keys], dim=1),
                    torch.cat([old_pair.values, pair.values], dim=1),
                    torch.cat([old_pair.missing, pair.missing], dim=1),
                )
            written[name] = pair
    return Outcome(deltas, written, {"parts": [dict(part.notes) for part in parts]})
