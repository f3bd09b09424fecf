"""What a guard needs: facts by their names, a sample by chance, evidence, and health."""

import hashlib
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

LIVE = sa.text("live")
BATCH = 500  # orders read at a time
WRITTEN = (
    "SELECT id, model_id, ord, payload -> 'requests' FROM edits WHERE kind = 'edit' "
    "AND status = 'applied' AND NOT noop AND NOT dry_run AND id > :after ORDER BY id LIMIT :batch"
)


def upgrade() -> None:
    """Add columns and a table, and write down the facts of what was applied."""
    op.add_column("models", sa.Column("guard", JSONB(none_as_null=True)))
    op.add_column("snapshots", sa.Column("health", JSONB(none_as_null=True)))
    op.add_column(
        "edits",
        sa.Column("draw", sa.Float(), server_default=sa.text("random()"), nullable=False),
    )
    op.add_column("edits", sa.Column("evidence", sa.Text()))
    op.create_foreign_key(
        op.f("fk_edits_evidence_blobs"), "edits", "blobs", ["evidence"], ["sha256"]
    )
    op.create_index("ix_edits_draw", "edits", ["model_id", "draw"], postgresql_where=LIVE)
    op.create_index("ix_edits_evidence", "edits", ["evidence"])
    facts = op.create_table(
        "facts",
        sa.Column("edit_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("ord", sa.BigInteger(), nullable=False),
        sa.Column("ask", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("held", sa.Boolean()),
        sa.Column("asked_seq", sa.BigInteger()),
        sa.ForeignKeyConstraint(["edit_id"], ["edits.id"], name=op.f("fk_facts_edit_id_edits")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_facts_model_id_models")),
        sa.PrimaryKeyConstraint("edit_id", "number", name=op.f("pk_facts")),
    )
    _fill(facts)
    op.create_index("ix_facts_ask", "facts", ["model_id", "ask", "ord"])
    for name in ("subject", "object"):
        op.create_index(f"ix_facts_{name}", "facts", ["model_id", name])


def downgrade() -> None:
    """Take all of it away: what of it is measured is in the reports, too."""
    op.drop_table("facts")
    for name in ("evidence", "draw"):
        op.drop_index(f"ix_edits_{name}", "edits")
    op.drop_constraint(op.f("fk_edits_evidence_blobs"), "edits", type_="foreignkey")
    for name in ("evidence", "draw"):
        op.drop_column("edits", name)
    op.drop_column("snapshots", "health")
    op.drop_column("models", "guard")


def _fill(facts: sa.Table) -> None:
    """Names are hashed here and not in SQL: Postgres folds no case as Python does."""
    connection, after = op.get_bind(), ""
    while rows := connection.execute(sa.text(WRITTEN), {"after": after, "batch": BATCH}).all():
        after = rows[-1][0]
        if found := [fact for row in rows for fact in _facts(*row)]:
            op.bulk_insert(facts, found)


def _facts(edit: str, model: str, order: int, requests: list[dict[str, Any]]) -> list[Any]:
    return [
        {
            "edit_id": edit,
            "number": number,
            "model_id": model,
            "ord": order,
            "ask": _hashed(f"{one['subject']}\0{one.get('prompt') or one['add_prompt']}"),
            "subject": _name(one["subject"]),
            "object": _name(one.get("object") or one["target_new"]),
        }
        for number, one in enumerate(requests)
    ]


def _name(text: str) -> str:
    return _hashed(" ".join(text.casefold().split()))


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
