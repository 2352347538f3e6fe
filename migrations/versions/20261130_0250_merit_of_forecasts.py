"""What planning on a pool's forecasts of its load has been worth, beside the bands of that load.

Revision 8c2f5a91d3e7, after 8c1e5f27a9d4, 2026-11-30 02:50:00.000000.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "8c2f5a91d3e7"
down_revision = "8c1e5f27a9d4"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("forecast_bands", sa.Column("merit", JSON, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("forecast_bands") as table:
        table.drop_column("merit")
