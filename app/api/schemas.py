"""The shapes of JSON that go out. Clients hold on to these: fields may be added, none changed."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field

from app.services.restore import Foreseen
from app.services.snapshots import Content
from app.store.tables import Edit, Model, Snapshot
from editing import knobs
from editing.catalogue import Family, Matrix, Method

Json = dict[str, Any]
T = TypeVar("T")

Status = Literal["queued", "running", "applied", "failed", "rejected", "cancelled"]
Kind = Literal["edit", "restore", "retract", "compact", "statistics"]


class Problem(BaseModel):
    """What went wrong, and what to do (RFC 9457). More fields depend on the code."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str = Field(description="One of docs/errors.md.")
    detail: str


class Listed(BaseModel, Generic[T]):
    """A page of a list."""

    data: list[T]
    has_more: bool = False
    next: str | None = Field(default=None, description="Send it as `after` to get the next page.")


class OrderOut(BaseModel):
    """An order of a model's queue."""

    id: str
    model: str
    kind: Kind
    editor: str | None
    ord: int
    status: Status
    requests: list[Json]
    hparams: Json
    guard: Json | None = Field(
        default=None, description="What of its model's guard is different for this order."
    )
    source: str | None = Field(description="The snapshot that a restore brings back.")
    target: str | None = Field(default=None, description="The edit that a retract takes out.")
    parent: str | None = Field(description="The head it was applied to, bound when claimed.")
    snapshot: str | None
    live: bool = Field(
        description="Of an edit: whether the head holds it, and nothing has taken it out."
    )
    taken_out_by: str | None = Field(
        default=None,
        description="Of an edit that was live and is not: the order that took it out or "
        "replaced it.",
    )
    noop: bool = Field(description="The model answered so already.")
    dry_run: bool = Field(description="Computed and measured only; it never moves the head.")
    cancel_requested: bool = Field(description="While it runs: its worker is to stop.")
    blocked: Json | None = Field(
        default=None,
        description="Why nobody takes it: the error of a model that could not be loaded.",
    )
    evidence: str | None = Field(
        default=None,
        description="Of a rejected order: the blob with what it computed, by its sha256.",
    )
    report: Json | None
    error: Json | None
    progress: Json | None
    timings: Json | None
    attempts: int
    created_at: datetime
    started_at: datetime | None
    settled_at: datetime | None

    @classmethod
    def of(
        cls, edit: Edit, *, blocked: Json | None = None, taken_out_by: str | None = None
    ) -> "OrderOut":
        """Show a row."""
        return cls(
            id=edit.id,
            model=edit.model_id,
            kind=cast("Any", edit.kind),
            editor=edit.editor,
            ord=edit.ord,
            status=cast("Any", edit.status),
            requests=edit.payload.get("requests", []),
            hparams=edit.payload.get("hparams", {}),
            guard=edit.payload.get("guard"),
            source=edit.payload.get("snapshot"),
            target=next(iter(edit.payload.get("targets", ())), None),
            parent=edit.parent_id,
            snapshot=edit.snapshot_id,
            live=edit.live,
            taken_out_by=taken_out_by,
            noop=edit.noop,
            dry_run=edit.dry_run,
            cancel_requested=edit.cancel_requested,
            blocked=blocked,
            evidence=edit.evidence,
            report=edit.report,
            error=edit.error,
            progress=edit.progress,
            timings=edit.timings,
            attempts=edit.attempts,
            created_at=edit.created_at,
            started_at=edit.started_at,
            settled_at=edit.settled_at,
        )


class EventOut(BaseModel):
    """One event of an order's stream."""

    event: str = Field(description="Its name, as in the journal.")
    id: str | None = Field(default=None, description="The line of the journal, if it has one.")
    data: str = Field(
        description="An object: the ids of order and model, the moment, and what happened.",
        json_schema_extra={"contentMediaType": "application/json"},
    )


class OrderBrief(BaseModel):
    """An order, in a list that is about something else."""

    id: str
    ord: int
    kind: Kind
    editor: str | None
    status: Status
    requests: list[Json]

    @classmethod
    def of(cls, edit: Edit) -> "OrderBrief":
        """Show a row."""
        return cls(
            id=edit.id,
            ord=edit.ord,
            kind=cast("Any", edit.kind),
            editor=edit.editor,
            status=cast("Any", edit.status),
            requests=edit.payload.get("requests", []),
        )


class RestorePlanOut(BaseModel):
    """What a restore would do to the head as it is now. Nothing was journaled."""

    snapshot: str = Field(description="The one that would be brought back.")
    model: str
    head: str
    seq: int = Field(description="The head's number.")
    undone: list[OrderBrief] = Field(description="Edits it would take out, newest first.")
    redone: list[OrderBrief] = Field(description="Edits it would bring back, oldest first.")
    queued: list[OrderBrief] = Field(
        description="Orders not settled yet, which would run before it. With `cancel_queued`, "
        "those whose status is `queued` would be cancelled instead."
    )

    @classmethod
    def of(cls, foreseen: Foreseen) -> "RestorePlanOut":
        """Show what was foreseen."""
        return cls(
            snapshot=foreseen.snapshot.id,
            model=foreseen.model.id,
            head=str(foreseen.model.head_id),
            seq=foreseen.model.head_seq or 0,
            undone=[OrderBrief.of(edit) for edit in foreseen.difference.removed],
            redone=[OrderBrief.of(edit) for edit in foreseen.difference.added],
            queued=[OrderBrief.of(edit) for edit in foreseen.unsettled],
        )


class DiffOut(BaseModel):
    """The way from one snapshot's content to another's."""

    from_: str = Field(alias="from")
    to: str
    model: str
    removed: list[OrderBrief] = Field(
        description="Edits that are live in `from` alone, newest first."
    )
    added: list[OrderBrief] = Field(description="Edits that are live in `to` alone, oldest first.")
    same_weights: bool = Field(description="Whether the weights are equal, bit for bit.")
    same_preface: bool = Field(description="Whether prompts stand behind the same text.")
    same_memory: bool = Field(description="Whether the same entries stand beside the weights.")


class SnapshotOut(BaseModel):
    """A state of a model."""

    id: str
    model: str
    seq: int
    parent: str | None
    kind: Literal["base", "edit", "restore", "retract", "compact"]
    label: str | None
    edits: list[str] = Field(description="The edits that are live in it, oldest first.")
    taken_out: list[str] = Field(
        default=[],
        description="Edits whose deltas it consists of too, and that a later one has taken out.",
    )
    preface: str = Field(description="What stands before every prompt; in-context edits say it.")
    fingerprint: str = Field(description="Of the weights' bits and what is beside them.")
    report: Json | None
    source: str | None = Field(description="The snapshot that a restore brought back.")
    edit: str | None = Field(description="The order that made it.")
    created_at: datetime

    @classmethod
    def of(cls, snapshot: Snapshot, content: Content) -> "SnapshotOut":
        """Show a row."""
        return cls(
            id=snapshot.id,
            model=snapshot.model_id,
            seq=snapshot.seq,
            parent=snapshot.parent_id,
            kind=cast("Any", snapshot.kind),
            label=snapshot.label,
            edits=content.edits,
            taken_out=content.taken_out,
            preface=content.preface,
            fingerprint=snapshot.fingerprint,
            report=snapshot.report,
            source=snapshot.source_id,
            edit=snapshot.edit_id,
            created_at=snapshot.created_at,
        )


class ModelOut(BaseModel):
    """A registered model."""

    id: str
    source: Json
    head: str | None = Field(description="The snapshot that is served.")
    fingerprint: str | None = Field(description="Of the weights at the head.")
    status: Literal["registered", "loading", "ready", "failed"]
    seq: int | None = Field(description="The head's number.")
    base_fingerprint: str | None
    serving: bool = Field(description="Whether its worker is alive.")
    waiting: int = Field(description="Orders not settled yet.")
    info: Json | None
    guard: Json | None = Field(
        default=None, description="What differs from the default guard of promotions."
    )
    error: Json | None
    created_at: datetime

    @classmethod
    def of(cls, model: Model, *, head: Snapshot | None, serving: bool, waiting: int) -> "ModelOut":
        """Show a row."""
        return cls(
            id=model.id,
            source=model.source,
            head=model.head_id,
            fingerprint=head.fingerprint if head else None,
            status=cast("Any", model.status),
            seq=model.head_seq,
            base_fingerprint=model.base_fingerprint,
            serving=serving,
            waiting=waiting,
            info=model.info,
            guard=model.guard,
            error=model.error,
            created_at=model.created_at,
        )


class TokenOut(BaseModel):
    """A token and its probability."""

    token: str
    p: float


class TargetOut(BaseModel):
    """How likely a text is to follow."""

    text: str
    logprob: float
    n_tokens: int


class ProbeOut(BaseModel):
    """What a model says to one prompt."""

    model_config = ConfigDict(extra="allow")

    model: str
    snapshot: str
    prompt: str
    completion: str
    top: list[TokenOut]
    targets: list[TargetOut]
    compare: "ProbeOut | None" = Field(
        default=None,
        description="The same prompt at the snapshot named as `compare`; only if one was.",
    )
    gradsim: float | None = Field(
        default=None,
        description="Of `answer` with the fact of the edit that it is most alike, before the edit.",
    )
    facts: list[Json] = Field(
        default=[], description="The facts of that edit, each with its `gradsim`."
    )
    ripple: Json | None = Field(
        default=None, description="How `answer` moved from before the edit to after it."
    )


class EditorOut(BaseModel):
    """A method that writes facts."""

    name: str
    title: str
    paper: str = Field(description="Its number at arXiv, or its id in the ACL anthology.")
    summary: str
    family: Family
    batch: bool = Field(description="It takes many facts at once; others take them in turn.")
    writes: list[Matrix] = Field(description="The matrices of a layer that it may change.")
    remembers: bool = Field(description="Earlier live edits enter a new one.")
    memory: str = Field(description="What of them does.")
    retract: Literal["exact", "dropped"] = Field(
        description="What taking out an edit with later ones behind it gives: what there would be "
        "without it, or the same changes less its own."
    )
    models: list[str] = Field(description="Those it was run on here; benchmarks/LOG.md.")
    hparams: Json = Field(description="JSON schema of its hparams.")

    @classmethod
    def of(cls, method: Method) -> "EditorOut":
        """Show a method."""
        names = [name for name in cls.model_fields if name != "hparams"]
        shown = {name: getattr(method, name) for name in names}
        return cls(**shown, hparams=knobs.schema(method.name))
