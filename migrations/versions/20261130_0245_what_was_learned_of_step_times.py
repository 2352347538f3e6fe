"""What was learned of step times, by pool and level.

Revision 8c1e5f27a9d4, after 7c1d90ab52e4, 2026-11-30 02:45:00.000000.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "8c1e5f27a9d4"
down_revision = "7c1d90ab52e4"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "performance_models",
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("machine", JSON, nullable=False),
        sa.Column("precision", sa.String(length=16), nullable=False),
        sa.Column("kv_precision", sa.String(length=16), nullable=False),
        sa.Column("pruning", sa.Double(), nullable=False),
        sa.Column("memory", JSON, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("in_force", sa.Boolean(), nullable=False),
        sa.Column("windows", sa.Integer(), nullable=False),
        sa.Column("error_ratio", sa.Double(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["pool_id"], ["pools.id"], name=op.f("fk_performance_models_pool_id_pools")),
        sa.PrimaryKeyConstraint("pool_id", "key", name=op.f("pk_performance_models")),
    )
    op.create_index(op.f("ix_performance_models_updated_at"), "performance_models", ["updated_at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_performance_models_updated_at"), table_name="performance_models")
    op.drop_table("performance_models")
