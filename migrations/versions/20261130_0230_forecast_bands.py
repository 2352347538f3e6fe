"""How wide bands of forecasts have to be, kept for whoever leads next.

Revision b61f0d7a2c94, after e4a7c1d93b52, 2026-11-30 02:30:00.000000.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "b61f0d7a2c94"
down_revision = "e4a7c1d93b52"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "forecast_bands",
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("metric", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sides", JSON, nullable=False),
        sa.PrimaryKeyConstraint("pool_id", "metric", name=op.f("pk_forecast_bands")),
    )


def downgrade() -> None:
    op.drop_table("forecast_bands")
