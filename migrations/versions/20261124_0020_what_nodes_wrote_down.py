"""The last part of what a node wrote down on its own that was taken.

Revision d9b27e4f1a60, after c3f1a8d05e29, 2026-11-24 00:20:00.000000.
"""

import sqlalchemy as sa
from alembic import op

revision = "d9b27e4f1a60"
down_revision = "c3f1a8d05e29"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("history_number", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("nodes", "history_number")
