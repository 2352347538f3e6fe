"""The freeze of everything at once.

Revision 3f6a90c2d781, after d9b27e4f1a60, 2026-11-30 01:20:00.000000.
"""

import sqlalchemy as sa
from alembic import op

revision = "3f6a90c2d781"
down_revision = "d9b27e4f1a60"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "general_freeze",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_general_freeze")),
    )


def downgrade() -> None:
    op.drop_table("general_freeze")
