"""Alerts that ask for a pool's protection.

Revision 9e51c3f7a204, after 7c2e08b4f19d, 2026-11-30 02:10:00.000000.
"""

import sqlalchemy as sa
from alembic import op

revision = "9e51c3f7a204"
down_revision = "7c2e08b4f19d"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pool_alarms",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["pool_id"], ["pools.id"], name=op.f("fk_pool_alarms_pool_id_pools")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pool_alarms")),
    )
    op.create_index(op.f("ix_pool_alarms_pool_id"), "pool_alarms", ["pool_id"])


def downgrade() -> None:
    op.drop_table("pool_alarms")
