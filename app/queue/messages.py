"""What travels over Redis, each with its way to JSON and back. Ids, never facts."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

Json = dict[str, Any]


class Message:
    """A dataclass that is one JSON object. Fields it does not know are left alone."""

    def to_dict(self) -> Json:
        """Return the fields, ready for JSON."""
        return asdict(self)  # pyright: ignore[reportArgumentType]  (every subclass is a dataclass)

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read the fields this version knows: a newer sender may say more."""
        names = cls.__dataclass_fields__  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
        return cls(**{name: value for name, value in data.items() if name in names})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read one JSON object."""
        return cls.from_dict(json.loads(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEdit(Message):
    """Something is in the queue."""

    edit_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelEdit(Message):
    """Somebody wants a running order to stop. Travels on the same stream; `kind` tells it apart."""

    edit_id: str
    kind: str = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEval(Message):
    """Something is to be measured."""

    eval_id: str
    kind: str = "eval"


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelEval(Message):
    """Somebody wants a running eval to stop."""

    eval_id: str
    kind: str = "cancel"


def on_stream(
    fields: Mapping[bytes, bytes],
) -> RunEdit | CancelEdit | RunEval | CancelEval | None:
    """Read one entry of a model's stream; None when it is nothing this version knows."""
    said = {name.decode(): value.decode() for name, value in fields.items()}
    edit, eval_id = said.get("edit_id"), said.get("eval_id")
    match said.get("kind"):
        case None if edit:
            return RunEdit(edit_id=edit)
        case "cancel" if edit:
            return CancelEdit(edit_id=edit)
        case "eval" if eval_id:
            return RunEval(eval_id=eval_id)
        case "cancel" if eval_id:
            return CancelEval(eval_id=eval_id)
        case _:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled(Message):
    """An order has reached its end."""

    edit: str
    status: str
    snapshot: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Message):
    """One step of a running edit."""

    edit: str
    stage: str
    done: int
    total: int
    loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeMessage(Message):
    """A question to the model at one snapshot; without one, at the head."""

    id: str
    deadline: float  # unix seconds: nobody waits for an answer after it
    asked_at: float | None = None  # unix seconds
    prompts: list[str]
    targets: list[str] = field(default_factory=list)
    snapshot: str | None = None
    compare: str | None = None
    top_k: int = 5
    max_tokens: int = 20
    # A question that takes many steps: its `kind`, "gradsim" or "forecast", and what it is about.
    about: Json | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReply(Message):
    """The answer: data, or an error with a code."""

    ok: bool
    data: list[Json] = field(default_factory=list)
    error: Json | None = None
