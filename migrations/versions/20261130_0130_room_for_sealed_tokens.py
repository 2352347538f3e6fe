"""Nodes' admin tokens may be sealed, and then are longer.

Revision 5a1c7de83b40, after 3f6a90c2d781, 2026-11-30 01:30:00.000000.

The way down leaves sealed tokens as they are: an older Trimtab cannot read them, and nodes that start anew replace them.
"""

import sqlalchemy as sa
from alembic import op

revision = "5a1c7de83b40"
down_revision = "3f6a90c2d781"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("nodes") as nodes:
        nodes.alter_column("admin_token", existing_type=sa.String(length=255), type_=sa.Text(), existing_nullable=False)


def downgrade() -> None:
    op.execute("UPDATE nodes SET admin_token = '' WHERE length(admin_token) > 255")
    with op.batch_alter_table("nodes") as nodes:
        nodes.alter_column("admin_token", existing_type=sa.Text(), type_=sa.String(length=255), existing_nullable=False)
