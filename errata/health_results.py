"""How a model does, as a client is given it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from errata.results import Answer, Json

_TIME = {"read": datetime.fromisoformat, "name": None}


def _each(read: Any) -> Json:  # noqa: ANN401 - a class
    return {"read": lambda data: [read.of(each) for each in data], "name": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member(Answer):
    """An edit in a list of a model's health."""

    edit: str
    ord: int = 0
    editor: str | None = None
    facts: list[int] = field(default_factory=list)  # which of its requests, from 0
    by: str | None = None  # the snapshot that found it disturbed, or the edit that superseded it


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion(Answer):
    """What was measured of a state before it was served."""

    snapshot: str
    seq: int = 0
    kind: str = "edit"
    edit: str | None = None
    created_at: datetime | None = field(default=None, metadata=_TIME)
    drift: float | None = None  # KL from base on neutral texts, nats per token
    perplexity_ratio: float | None = None
    norm_ratio: float | None = None
    distinct: float | None = None
    verdict: str | None = None
    breaches: list[Json] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(Answer):
    """How a model does, from what its promotions have measured; lists are newest first."""

    model: str
    head: str | None = None
    seq: int | None = None
    guard: Json = field(default_factory=dict)  # in force: the defaults, and what differs
    counts: dict[str, int] = field(default_factory=dict)
    live: list[Member] = field(default_factory=list, metadata=_each(Member))
    disturbed: list[Member] = field(default_factory=list, metadata=_each(Member))
    superseded: list[Member] = field(default_factory=list, metadata=_each(Member))
    snapshots: list[Promotion] = field(default_factory=list, metadata=_each(Promotion))
