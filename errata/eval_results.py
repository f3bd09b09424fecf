"""What a client is given of evals and forecasts."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from errata.results import Answer, Json

ENDED = frozenset({"finished", "failed", "cancelled"})
_TIME = {"read": datetime.fromisoformat, "name": None}


def _each(read: Any) -> Json:  # noqa: ANN401 - a class
    return {"read": lambda data: [read.of(each) for each in data], "name": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Eval(Answer):
    """A measurement of one snapshot, or of several in turn."""

    id: str
    suite: str
    status: str
    model: str = ""
    snapshot: str | None = None
    snapshots: list[str] | None = None
    editor: str | None = None
    hparams: Json = field(default_factory=dict)
    options: Json = field(default_factory=dict)
    data: Json = field(default_factory=dict)
    progress: Json = field(default_factory=dict)
    summary: Json | None = None  # values, each with n, its interval and what it was before
    plots: list[str] = field(default_factory=list)
    error: Json | None = None
    blocked: Json | None = None  # why nobody takes it: the error of a model that cannot be loaded
    cancel_requested: bool = False
    created_at: datetime | None = field(default=None, metadata=_TIME)
    started_at: datetime | None = field(default=None, metadata=_TIME)
    settled_at: datetime | None = field(default=None, metadata=_TIME)

    @property
    def settled(self) -> bool:
        """Whether it has come to its end, whichever."""
        return self.status in ENDED

    @property
    def finished(self) -> bool:
        """Whether all of it was measured."""
        return self.status == "finished"

    @property
    def done(self) -> int:
        """Cases that are measured and kept."""
        return int(self.progress.get("done", 0))

    @property
    def total(self) -> int:
        """Cases there are."""
        return int(self.progress.get("total", 0))

    @property
    def values(self) -> Json:
        """The numbers of the summary, by name."""
        return (self.summary or {}).get("values", {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite(Answer):
    """A kind of measurement."""

    name: str
    title: str = ""
    source: str = ""
    summary: str = ""
    editor: str = "never"  # whether it edits: always, if named, never
    datasets: list[str] = field(default_factory=list)
    plots: list[str] = field(default_factory=list)
    options: Json = field(default_factory=dict)  # a JSON schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen(Answer):
    """How much one question has to do with an edit that was not made yet."""

    prompt: str
    answer: str
    gradsim: float
    likely: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Collision(Answer):
    """A live edit whose key lies where the new one would write."""

    edit: str
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast(Answer):
    """What an edit would move. Nothing was ordered."""

    ripples: list[Foreseen] = field(default_factory=list, metadata=_each(Foreseen))
    collisions: list[Collision] = field(default_factory=list, metadata=_each(Collision))
    snapshot: str = ""
    model: str = ""
