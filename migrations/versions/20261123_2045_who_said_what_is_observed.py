"""Which life of a node said what is observed of it.

Revision b8e2f60c4d17, after a4d7e91b6c52, 2026-11-23 20:45:00.000000.
"""

import sqlalchemy as sa
from alembic import op

revision = "b8e2f60c4d17"
down_revision = "a4d7e91b6c52"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("observed_instance_id", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("nodes", "observed_instance_id")
