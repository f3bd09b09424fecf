"""What a client is given: the API's answers as frozen dataclasses.

Each keeps the whole JSON in `raw`, so that a field which a newer server has added is not lost. How
the JSON is read is said once, in `Answer.of`; a field says only where it differs.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Self

Json = dict[str, Any]
SETTLED = frozenset({"applied", "failed", "rejected", "cancelled"})


def _by(read: Callable[[Any], Any], name: str | None = None) -> Json:
    """Say of a field: its value is made by `read`, from the JSON field `name` if given."""
    return {"read": read, "name": name}


def _each(read: Callable[[Any], Any]) -> Json:
    """Say of a list: its members are made by `read`."""
    return _by(lambda data: [read(each) for each in data])


_TIME = _by(datetime.fromisoformat)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What all answers have in common: the JSON that they were made of."""

    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Read an answer. Raises KeyError, TypeError or ValueError for what is none of these."""
        values: Json = {}
        for each in fields(cls):
            name = each.metadata.get("name") or each.name
            if each.name == "raw" or name not in data:
                continue
            read, value = each.metadata.get("read"), data[name]
            values[each.name] = read(value) if read and value is not None else value
        return cls(**values, raw=dict(data))


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Answer):
    """How far a running order has come."""

    stage: str = ""
    done: int = 0
    total: int = 0
    loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(Answer):
    """An order of a model's queue: an edit, a restore, or work done ahead of an edit."""

    id: str
    status: str
    model: str = ""
    kind: str = "edit"
    ord: int = 0
    editor: str | None = None
    requests: list[Json] = field(default_factory=list)
    hparams: Json = field(default_factory=dict)
    guard: Json | None = None  # what of its model's guard is different for it
    source: str | None = None  # the snapshot that a restore brings back
    target: str | None = None  # the edit that a retract takes out
    parent: str | None = None  # the head it was applied to
    snapshot: str | None = None  # the state it made
    live: bool = False  # of an edit: whether the head holds it
    taken_out_by: str | None = None  # the order after which an edit was not live any more
    noop: bool = False  # the model said so already
    dry_run: bool = False  # measured, but not written
    cancel_requested: bool = False
    blocked: Json | None = None  # why nobody takes it: the error of a model that cannot be loaded
    evidence: str | None = None  # of a rejected one: the blob with what it computed
    report: Json | None = None
    error: Json | None = None
    progress: Progress | None = field(default=None, metadata=_by(Progress.of))
    timings: Json | None = None
    attempts: int = 0
    created_at: datetime | None = field(default=None, metadata=_TIME)
    started_at: datetime | None = field(default=None, metadata=_TIME)
    settled_at: datetime | None = field(default=None, metadata=_TIME)

    @property
    def settled(self) -> bool:
        """Whether it has come to its end, whichever."""
        return self.status in SETTLED

    @property
    def applied(self) -> bool:
        """Whether it came to its good end."""
        return self.status == "applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderBrief(Answer):
    """An order, told in short."""

    id: str
    ord: int
    kind: str
    status: str
    editor: str | None = None
    requests: list[Json] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Answer):
    """A state of a model."""

    id: str
    seq: int
    kind: str
    model: str = ""
    fingerprint: str = ""  # of the weights' bits and what is beside them
    parent: str | None = None  # the state it came after
    label: str | None = None
    edits: list[str] = field(default_factory=list)  # those that are live in it, oldest first
    taken_out: list[str] = field(default_factory=list)  # those a later one has taken out of it
    preface: str = ""  # what stands before every prompt; in-context edits say it
    report: Json | None = None
    source: str | None = None  # the snapshot that a restore brought back
    edit: str | None = None  # the order that made it
    created_at: datetime | None = field(default=None, metadata=_TIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Answer):
    """A registered model."""

    id: str
    status: str = "registered"
    source: Json = field(default_factory=dict)
    head: str | None = None  # the snapshot that is served
    seq: int | None = None  # the head's number
    fingerprint: str | None = None  # of the weights at the head
    base_fingerprint: str | None = None
    serving: bool = False  # whether its worker is alive
    waiting: int = 0  # orders not settled yet
    info: Json | None = None
    guard: Json | None = None  # what differs from the default guard of promotions
    error: Json | None = None
    created_at: datetime | None = field(default=None, metadata=_TIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(Answer):
    """A token that may come next, and its probability."""

    token: str
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Target(Answer):
    """How likely a text is to follow."""

    text: str
    logprob: float  # natural logarithm, summed over its tokens
    n_tokens: int = 0

    @property
    def p(self) -> float:
        """Its probability."""
        return math.exp(self.logprob)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe(Answer):
    """What a model says to one prompt."""

    prompt: str
    completion: str
    model: str = ""
    snapshot: str = ""
    top: list[Token] = field(default_factory=list, metadata=_each(Token.of))
    targets: list[Target] = field(default_factory=list, metadata=_each(Target.of))
    # Where an answer was named: how much it has to do with an edit, and what the edit did to it.
    gradsim: float | None = None
    facts: list[Json] = field(default_factory=list)  # of that edit, each with its own `gradsim`
    ripple: Json | None = None
    # At the other snapshot.
    compare: "Probe | None" = field(default=None, metadata=_by(lambda data: Probe.of(data)))  # noqa: PLW0108 - defined below


@dataclass(frozen=True, slots=True, kw_only=True)
class Editor(Answer):
    """A method that writes facts."""

    name: str
    title: str = ""
    paper: str = ""  # its number at arXiv, or its id in the ACL anthology
    summary: str = ""
    family: str = ""
    batch: bool = False  # whether it writes several facts at once
    writes: list[str] = field(default_factory=list)  # the matrices of a layer that it may change
    remembers: bool = False  # whether earlier live edits enter a new one
    memory: str = "nothing"  # what of them does
    retract: str = "dropped"  # or "exact": what taking out an edit under later ones gives
    models: list[str] = field(default_factory=list)  # those whose rows are in benchmarks/LOG.md
    hparams: Json = field(default_factory=dict)  # a JSON schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff(Answer):
    """What lies between two snapshots of a model."""

    from_snapshot: str = field(metadata=_by(str, "from"))
    to_snapshot: str = field(metadata=_by(str, "to"))
    model: str = ""
    removed: list[OrderBrief] = field(
        default_factory=list, metadata=_each(OrderBrief.of)
    )  # newest first
    added: list[OrderBrief] = field(
        default_factory=list, metadata=_each(OrderBrief.of)
    )  # oldest first
    same_weights: bool
    same_preface: bool = True  # whether prompts stand behind the same text
    same_memory: bool = True  # whether the same entries stand beside the weights


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan(Answer):
    """What a restore would do. Nothing was ordered."""

    snapshot: str
    head: str
    model: str = ""
    seq: int = 0  # the head's number
    undone: list[OrderBrief] = field(
        default_factory=list, metadata=_each(OrderBrief.of)
    )  # newest first
    redone: list[OrderBrief] = field(
        default_factory=list, metadata=_each(OrderBrief.of)
    )  # oldest first
    # These would run before it, or be cancelled.
    queued: list[OrderBrief] = field(default_factory=list, metadata=_each(OrderBrief.of))
