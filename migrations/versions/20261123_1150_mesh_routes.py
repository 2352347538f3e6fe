"""What each pool's mesh route should say, and is known to say.

Revision b3e61f0a92d7, after 7d20b5c1e8a4, 2026-11-23 11:50:00.000000.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "b3e61f0a92d7"
down_revision = "7d20b5c1e8a4"
branch_labels = None
depends_on = None


def upgrade() -> None:
    document = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    op.create_table(
        "mesh_routes",
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("rollout_id", sa.String(length=36), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("desired", document, nullable=False),
        sa.Column("desired_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("applied_generation", sa.Integer(), nullable=False),
        sa.Column("applied", document, nullable=True),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["pool_id"], ["pools.id"], name=op.f("fk_mesh_routes_pool_id_pools")),
        sa.PrimaryKeyConstraint("pool_id", name=op.f("pk_mesh_routes")),
    )


def downgrade() -> None:
    op.drop_table("mesh_routes")
