"""The tables, as they stand at the newest migration. Nothing here behaves.

models      one registered base and the head of its lineage
edits       the orders of a model's queue, by ord
facts       what applied edits have asked for, fact by fact, and whether the model still says it
snapshots   immutable states; content = manifest(extends) + entries
blobs       bytes named by their sha256, small ones here, large ones at a location
leases      who may write to a model, under which epoch
outbox      what is to be said on Redis once the transaction is committed
journal     what happened, in order of its happening
evals       measurements of a model in one state; never part of the queue of orders
eval_rows   what they found, row by row
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]


class Base(DeclarativeBase):
    """The metadata, with names for constraints so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads it off the class)
        str: Text(),
        Json: JSONB(none_as_null=True),
        list[Json]: JSONB(none_as_null=True),
        list[str]: JSONB(none_as_null=True),
        datetime: DateTime(timezone=True),
    }


class Model(Base):
    """A registered base, and the head of its lineage."""

    __tablename__ = "models"

    id: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[Json]
    status: Mapped[str] = mapped_column(server_default="registered")
    error: Mapped[Json | None]
    base_fingerprint: Mapped[str | None]
    info: Mapped[Json | None]
    guard: Mapped[Json | None]  # what differs from the defaults of editing/guard.py
    next_ord: Mapped[int] = mapped_column(BigInteger, server_default="1")
    head_seq: Mapped[int | None] = mapped_column(BigInteger)
    head_id: Mapped[str | None] = mapped_column(ForeignKey("snapshots.id", use_alter=True))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    removed_at: Mapped[datetime | None]


class Edit(Base):
    """An order: an edit, restore, retract, compact or statistics, at its place in the queue."""

    __tablename__ = "edits"
    __table_args__ = (
        UniqueConstraint("model_id", "ord"),
        # The queue itself: what a worker looks for at every wake-up.
        Index(
            "ix_edits_waiting",
            "model_id",
            "ord",
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
        Index("ix_edits_live", "model_id", "ord", postgresql_where=text("live")),
        # Live edits in an order of chance: a sample of them is a stretch of it.
        Index("ix_edits_draw", "model_id", "draw", postgresql_where=text("live")),
        Index("ix_edits_evidence", "evidence"),
        Index("ix_edits_model_id_id", "model_id", "id"),
        Index(
            "ix_edits_payload",
            "payload",
            postgresql_using="gin",
            postgresql_ops={"payload": "jsonb_path_ops"},
        ),
        CheckConstraint(
            "kind IN ('edit', 'restore', 'retract', 'compact', 'statistics')", name="kind"
        ),
        CheckConstraint(
            "status IN ('queued', 'running', 'applied', 'failed', 'rejected', 'cancelled')",
            name="status",
        ),
        CheckConstraint("NOT dry_run OR (snapshot_id IS NULL AND NOT live)", name="dry_run"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    ord: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str]
    editor: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="queued")
    payload: Mapped[Json]
    if_match: Mapped[str | None]
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("snapshots.id", use_alter=True))
    snapshot_id: Mapped[str | None] = mapped_column(ForeignKey("snapshots.id", use_alter=True))
    live: Mapped[bool] = mapped_column(server_default=text("false"))
    noop: Mapped[bool] = mapped_column(server_default=text("false"))
    dry_run: Mapped[bool] = mapped_column(server_default=text("false"))
    attempts: Mapped[int] = mapped_column(server_default="0")
    epoch: Mapped[int | None] = mapped_column(BigInteger)
    draw: Mapped[float] = mapped_column(server_default=func.random())
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    evidence: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"))  # if rejected
    report: Mapped[Json | None]
    error: Mapped[Json | None]
    progress: Mapped[Json | None]
    timings: Mapped[Json | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    started_at: Mapped[datetime | None]
    settled_at: Mapped[datetime | None]


class Fact(Base):
    """One fact of an applied edit. Names are kept as hashes: an index takes no long text.

    `held` is what the latest promotion that asked for it has found: the model says it, or did and
    does not any more; None where no promotion knows. `replaced_by` is an order on the way to the
    head that has taken it out for a fact of its own, however that is worded.
    """

    __tablename__ = "facts"
    __table_args__ = (
        Index("ix_facts_ask", "model_id", "ask", "ord"),
        Index("ix_facts_subject", "model_id", "subject"),
        Index("ix_facts_object", "model_id", "object"),
    )

    edit_id: Mapped[str] = mapped_column(ForeignKey("edits.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)  # which of the edit's requests
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    ord: Mapped[int] = mapped_column(BigInteger)  # the edit's
    ask: Mapped[str]  # subject and prompt: a later fact with the same supersedes this one
    subject: Mapped[str]
    object: Mapped[str]
    held: Mapped[bool | None]
    asked_seq: Mapped[int | None] = mapped_column(BigInteger)  # the snapshot that asked last
    replaced_by: Mapped[str | None] = mapped_column(ForeignKey("edits.id"))


class Snapshot(Base):
    """An immutable state of a model."""

    __tablename__ = "snapshots"
    __table_args__ = (
        UniqueConstraint("model_id", "seq"),
        Index(
            "ix_snapshots_label",
            "model_id",
            "label",
            unique=True,
            postgresql_where=text("label IS NOT NULL"),
        ),
        # Who holds this blob? Asked of every old one when what nobody holds is cleaned up.
        Index(
            "ix_snapshots_entries",
            "entries",
            postgresql_using="gin",
            postgresql_ops={"entries": "jsonb_path_ops"},
        ),
        Index("ix_snapshots_checkpoint", "checkpoint"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    seq: Mapped[int] = mapped_column(BigInteger)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("snapshots.id"))
    kind: Mapped[str]
    source_id: Mapped[str | None] = mapped_column(ForeignKey("snapshots.id"))
    edit_id: Mapped[str | None] = mapped_column(ForeignKey("edits.id"))
    extends_id: Mapped[str | None] = mapped_column(ForeignKey("snapshots.id"))
    entries: Mapped[list[Json]]
    depth: Mapped[int]  # deltas in the whole manifest
    epoch: Mapped[int] = mapped_column(BigInteger)
    fingerprint: Mapped[str]
    label: Mapped[str | None]
    report: Mapped[Json | None]
    health: Mapped[Json | None]  # of the report: drift, canary and breaches
    checkpoint: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Blob(Base):
    """Bytes named by their sha256. Either `data` or `location` is set."""

    __tablename__ = "blobs"
    __table_args__ = (Index("ix_blobs_created_at", "created_at"),)

    sha256: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    data: Mapped[bytes | None] = mapped_column(LargeBinary)
    location: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Lease(Base):
    """Who may write to a model. Every settle checks the epoch in its own transaction."""

    __tablename__ = "leases"

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True)
    holder: Mapped[str | None]
    epoch: Mapped[int] = mapped_column(BigInteger, server_default="0")
    backend_pid: Mapped[int | None]
    expires_at: Mapped[datetime | None]


class OutboxRow(Base):
    """One message to be sent on Redis after the commit."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_waiting", "id", postgresql_where=text("sent_at IS NULL")),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    stream: Mapped[str]
    message: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    sent_at: Mapped[datetime | None]


class JournalRow(Base):
    """One thing that happened."""

    __tablename__ = "journal"
    __table_args__ = (Index("ix_journal_edit_id_id", "edit_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    edit_id: Mapped[str | None] = mapped_column(ForeignKey("edits.id"))
    event: Mapped[str]
    data: Mapped[Json]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class IdempotencyKey(Base):
    """What was answered to the first request with this key."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    key: Mapped[str] = mapped_column(primary_key=True)
    body_hash: Mapped[str]
    edit_id: Mapped[str | None] = mapped_column(ForeignKey("edits.id"))
    eval_id: Mapped[str | None] = mapped_column(ForeignKey("evals.id"))
    status_code: Mapped[int | None]
    response: Mapped[Json | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Eval(Base):
    """A measurement: `done` of `total` cases are measured, and their rows kept."""

    __tablename__ = "evals"
    __table_args__ = (
        Index(
            "ix_evals_waiting",
            "model_id",
            "id",
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
        Index("ix_evals_model_id_id", "model_id", "id"),
        Index("ix_evals_records", "records"),
        CheckConstraint(
            "status IN ('queued', 'running', 'finished', 'failed', 'cancelled')", name="status"
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    suite: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="queued")
    # The state that is measured; None until the model has a head.
    snapshot_id: Mapped[str | None] = mapped_column(ForeignKey("snapshots.id"))
    snapshots: Mapped[list[str] | None]  # where several are measured, all of them, in order
    editor: Mapped[str | None]
    hparams: Mapped[Json]
    options: Mapped[Json]
    data: Mapped[Json]  # where the records came from, as it was asked
    records: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"))
    done: Mapped[int] = mapped_column(server_default="0")
    total: Mapped[int]
    rows: Mapped[int] = mapped_column(BigInteger, server_default="0")
    progress: Mapped[Json | None]
    attempts: Mapped[int] = mapped_column(server_default="0")  # since the last case that was kept
    epoch: Mapped[int | None] = mapped_column(BigInteger)
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    summary: Mapped[Json | None]
    error: Mapped[Json | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    started_at: Mapped[datetime | None]
    settled_at: Mapped[datetime | None]


class EvalRow(Base):
    """One row of what an eval found; its case is in the data."""

    __tablename__ = "eval_rows"

    eval_id: Mapped[str] = mapped_column(ForeignKey("evals.id"), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    data: Mapped[Json]
