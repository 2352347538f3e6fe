"""Nodes are asked to score what they serve, and tell what came of it.

Revision e4a86c1f7b32, after 9e51c3f7a204, 2026-11-30 02:15:00.000000.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "e4a86c1f7b32"
down_revision = "9e51c3f7a204"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("nodes", sa.Column("watch", JSON, nullable=True))
    op.add_column("nodes", sa.Column("served", JSON, nullable=True))


def downgrade() -> None:
    op.drop_column("nodes", "served")
    op.drop_column("nodes", "watch")
