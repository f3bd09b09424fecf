"""The walk: models, edits, snapshots, blobs, leases, outbox, journal, idempotency keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

NOW = sa.text("clock_timestamp()")
NO = sa.text("false")


def _json(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, JSONB(none_as_null=True), nullable=nullable)


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True))


def _created(name: str = "created_at") -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=NOW, nullable=False)


def upgrade() -> None:
    """Make every table. Models, edits and snapshots point at each other: those keys come last."""
    _models()
    _edits()
    _blobs()
    _snapshots()
    _leases()
    _said()
    for table, column in (
        ("models", "head_id"),
        ("edits", "parent_id"),
        ("edits", "snapshot_id"),
    ):
        op.create_foreign_key(
            f"fk_{table}_{column}_snapshots", table, "snapshots", [column], ["id"]
        )


def _models() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.Text(), nullable=False),
        _json("source", nullable=False),
        sa.Column("status", sa.Text(), server_default="registered", nullable=False),
        _json("error"),
        sa.Column("base_fingerprint", sa.Text()),
        _json("info"),
        sa.Column("next_ord", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("head_seq", sa.BigInteger()),
        sa.Column("head_id", sa.Text()),
        _created(),
        _moment("removed_at"),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
    )


def _edits() -> None:
    op.create_table(
        "edits",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("ord", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("editor", sa.Text()),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        _json("payload", nullable=False),
        sa.Column("if_match", sa.Text()),
        sa.Column("parent_id", sa.Text()),
        sa.Column("snapshot_id", sa.Text()),
        sa.Column("live", sa.Boolean(), server_default=NO, nullable=False),
        sa.Column("noop", sa.Boolean(), server_default=NO, nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("epoch", sa.BigInteger()),
        sa.Column("cancel_requested", sa.Boolean(), server_default=NO, nullable=False),
        _json("report"),
        _json("error"),
        _json("progress"),
        _json("timings"),
        _created(),
        _moment("started_at"),
        _moment("settled_at"),
        sa.PrimaryKeyConstraint("id", name="pk_edits"),
        sa.UniqueConstraint("model_id", "ord", name="uq_edits_model_id_ord"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_edits_model_id_models"),
    )
    waiting = sa.text("status IN ('queued', 'running')")
    op.create_index("ix_edits_waiting", "edits", ["model_id", "ord"], postgresql_where=waiting)
    op.create_index("ix_edits_live", "edits", ["model_id", "ord"], postgresql_where=sa.text("live"))
    op.create_index("ix_edits_model_id_id", "edits", ["model_id", "id"])
    op.create_index(
        "ix_edits_payload",
        "edits",
        ["payload"],
        postgresql_using="gin",
        postgresql_ops={"payload": "jsonb_path_ops"},
    )


def _blobs() -> None:
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary()),
        sa.Column("location", sa.Text()),
        _created(),
        sa.PrimaryKeyConstraint("sha256", name="pk_blobs"),
    )


def _snapshots() -> None:
    op.create_table(
        "snapshots",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("parent_id", sa.Text()),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text()),
        sa.Column("edit_id", sa.Text()),
        sa.Column("extends_id", sa.Text()),
        _json("entries", nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("label", sa.Text()),
        _json("report"),
        sa.Column("checkpoint", sa.Text()),
        _created(),
        sa.PrimaryKeyConstraint("id", name="pk_snapshots"),
        sa.UniqueConstraint("model_id", "seq", name="uq_snapshots_model_id_seq"),
        *(
            sa.ForeignKeyConstraint(
                [column],
                [f"{table}.{key}"],
                name=f"fk_snapshots_{column}_{table}",
            )
            for column, table, key in (
                ("model_id", "models", "id"),
                ("parent_id", "snapshots", "id"),
                ("source_id", "snapshots", "id"),
                ("edit_id", "edits", "id"),
                ("extends_id", "snapshots", "id"),
                ("checkpoint", "blobs", "sha256"),
            )
        ),
    )


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text()),
        sa.Column("epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("backend_pid", sa.Integer()),
        _moment("expires_at"),
        sa.PrimaryKeyConstraint("model_id", name="pk_leases"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_leases_model_id_models"),
    )


def _said() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        _json("message", nullable=False),
        _created(),
        _moment("sent_at"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_index(
        "ix_outbox_waiting", "outbox", ["id"], postgresql_where=sa.text("sent_at IS NULL")
    )
    op.create_table(
        "journal",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("edit_id", sa.Text()),
        sa.Column("event", sa.Text(), nullable=False),
        _json("data", nullable=False),
        _created("at"),
        sa.PrimaryKeyConstraint("id", name="pk_journal"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_journal_model_id_models"),
        sa.ForeignKeyConstraint(["edit_id"], ["edits.id"], name="fk_journal_edit_id_edits"),
    )
    op.create_index("ix_journal_edit_id_id", "journal", ["edit_id", "id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body_hash", sa.Text(), nullable=False),
        sa.Column("edit_id", sa.Text()),
        sa.Column("status_code", sa.Integer()),
        _json("response"),
        _created(),
        sa.PrimaryKeyConstraint("key", name="pk_idempotency_keys"),
        sa.ForeignKeyConstraint(
            ["edit_id"], ["edits.id"], name="fk_idempotency_keys_edit_id_edits"
        ),
    )


def downgrade() -> None:
    """Drop everything: there is nothing before the first migration."""
    for table, column in (
        ("models", "head_id"),
        ("edits", "parent_id"),
        ("edits", "snapshot_id"),
    ):
        op.drop_constraint(f"fk_{table}_{column}_snapshots", table)
    for table in (
        "idempotency_keys",
        "journal",
        "outbox",
        "leases",
        "snapshots",
        "blobs",
        "edits",
        "models",
    ):
        op.drop_table(table)
