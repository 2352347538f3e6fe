"""What is desired of a node may be an experiment, under a lease.

Revision c3f1a8d05e29, after b8e2f60c4d17, 2026-11-24 00:10:00.000000.
"""

import sqlalchemy as sa
from alembic import op

revision = "c3f1a8d05e29"
down_revision = "b8e2f60c4d17"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("lease_s", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("nodes", "lease_s")
