"""Which edit has replaced a fact in other words."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

KEY = "fk_facts_replaced_by_edits"


def upgrade() -> None:
    """Add a column; what was replaced before is asked until it is written again."""
    op.add_column("facts", sa.Column("replaced_by", sa.Text()))
    op.create_foreign_key(op.f(KEY), "facts", "edits", ["replaced_by"], ["id"])


def downgrade() -> None:
    """Take it away; reports have it, too."""
    op.drop_constraint(op.f(KEY), "facts", type_="foreignkey")
    op.drop_column("facts", "replaced_by")
