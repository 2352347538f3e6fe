"""What planning on a pool's forecasts of its load has been worth, beside the bands of that load.

Revision 8c2f5a91d3e7, after 4d83e0b7f1a6, 2026-11-30 20:55:00.000000.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "8c2f5a91d3e7"
down_revision = "4d83e0b7f1a6"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("forecast_bands", sa.Column("merit", JSON, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("forecast_bands") as table:
        table.drop_column("merit")
