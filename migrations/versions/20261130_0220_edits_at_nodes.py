"""Nodes tell an operator's edit from settings that they could not start with.

Revision a7d35b90e2c4, after e4a86c1f7b32, 2026-11-30 02:20:00.000000.
"""

import sqlalchemy as sa
from alembic import op

revision = "a7d35b90e2c4"
down_revision = "e4a86c1f7b32"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("edited", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("nodes", "edited")
