"""Dry runs, statistics orders, labels unique to a model, and what cleaning up looks for."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

KINDS = "kind IN ('edit', 'restore', 'retract', 'compact', 'statistics')"
STATUSES = "status IN ('queued', 'running', 'applied', 'failed', 'rejected', 'cancelled')"
NOTHING_LASTS = "NOT dry_run OR (snapshot_id IS NULL AND NOT live)"


def upgrade() -> None:
    """Add one column, close the sets that were open, and index what is looked for by age."""
    op.add_column(
        "edits", sa.Column("dry_run", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    for name, condition in (("kind", KINDS), ("status", STATUSES), ("dry_run", NOTHING_LASTS)):
        op.create_check_constraint(op.f(f"ck_edits_{name}"), "edits", condition)
    op.create_index(
        "ix_snapshots_label",
        "snapshots",
        ["model_id", "label"],
        unique=True,
        postgresql_where=sa.text("label IS NOT NULL"),
    )
    op.create_index(
        "ix_snapshots_entries",
        "snapshots",
        ["entries"],
        postgresql_using="gin",
        postgresql_ops={"entries": "jsonb_path_ops"},
    )
    op.create_index("ix_snapshots_checkpoint", "snapshots", ["checkpoint"])
    for table in ("blobs", "idempotency_keys"):
        op.create_index(f"ix_{table}_created_at", table, ["created_at"])


def downgrade() -> None:
    """Take all of it back. Orders of the kind `statistics` stay, as rows the older code ignores."""
    for table in ("idempotency_keys", "blobs"):
        op.drop_index(f"ix_{table}_created_at", table)
    for name in ("checkpoint", "entries", "label"):
        op.drop_index(f"ix_snapshots_{name}", "snapshots")
    for name in ("dry_run", "status", "kind"):
        op.drop_constraint(op.f(f"ck_edits_{name}"), "edits")
    op.drop_column("edits", "dry_run")
