"""Evals and their rows."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

STATUSES = "status IN ('queued', 'running', 'finished', 'failed', 'cancelled')"
NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    """Add both tables, and let an Idempotency-Key name an eval."""
    op.create_table(
        "evals",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("suite", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("snapshot_id", sa.Text(), nullable=True),
        sa.Column("snapshots", JSONB(), nullable=True),
        sa.Column("editor", sa.Text(), nullable=True),
        sa.Column("hparams", JSONB(), nullable=False),
        sa.Column("options", JSONB(), nullable=False),
        sa.Column("data", JSONB(), nullable=False),
        sa.Column("records", sa.Text(), nullable=True),
        sa.Column("done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("rows", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("progress", JSONB(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=True),
        sa.Column(
            "cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False
        ),
        sa.Column("summary", JSONB(), nullable=True),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(STATUSES, name=op.f("ck_evals_status")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_evals_model_id_models")),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["snapshots.id"], name=op.f("fk_evals_snapshot_id_snapshots")
        ),
        sa.ForeignKeyConstraint(["records"], ["blobs.sha256"], name=op.f("fk_evals_records_blobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evals")),
    )
    op.create_index(
        "ix_evals_waiting",
        "evals",
        ["model_id", "id"],
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_index("ix_evals_model_id_id", "evals", ["model_id", "id"])
    op.create_index("ix_evals_records", "evals", ["records"])
    op.create_table(
        "eval_rows",
        sa.Column("eval_id", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("data", JSONB(), nullable=False),
        sa.ForeignKeyConstraint(["eval_id"], ["evals.id"], name=op.f("fk_eval_rows_eval_id_evals")),
        sa.PrimaryKeyConstraint("eval_id", "number", name=op.f("pk_eval_rows")),
    )
    op.add_column("idempotency_keys", sa.Column("eval_id", sa.Text(), nullable=True))
    op.create_foreign_key(
        op.f("fk_idempotency_keys_eval_id_evals"),
        "idempotency_keys",
        "evals",
        ["eval_id"],
        ["id"],
    )


def downgrade() -> None:
    """Take both tables away, with all that was measured."""
    op.drop_constraint(
        op.f("fk_idempotency_keys_eval_id_evals"), "idempotency_keys", type_="foreignkey"
    )
    op.drop_column("idempotency_keys", "eval_id")
    op.drop_table("eval_rows")
    op.drop_table("evals")
