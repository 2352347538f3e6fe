"""How fast the error budget burns, beside each decision that saw it.

Revision 4d83e0b7f1a6, after b61f0d7a2c94, 2026-11-30 02:35:00.000000.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "4d83e0b7f1a6"
down_revision = "b61f0d7a2c94"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("decisions", sa.Column("burn", JSON, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("decisions") as table:
        table.drop_column("burn")
