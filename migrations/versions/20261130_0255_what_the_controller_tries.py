"""What the controller tries on a node, and what came of it.

Revision 8b2f61c9a4e7, after 8c2f5a91d3e7, 2026-11-30 02:55:00.000000.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "8b2f61c9a4e7"
down_revision = "8c2f5a91d3e7"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "explorations",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("active_pool_id", sa.String(length=36), nullable=True),
        sa.Column("node_id", sa.String(length=36), nullable=False),
        sa.Column("revision_id", sa.String(length=36), nullable=False),
        sa.Column("arm", sa.String(length=16), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_s", sa.Double(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("instance_id", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("code_version", sa.String(length=32), nullable=False),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("base", JSON, nullable=False),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.Column("choice", JSON, nullable=False),
        sa.Column("asked", JSON, nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_why", sa.Text(), nullable=True),
        sa.Column("unfit", sa.Boolean(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("outcome", JSON, nullable=True),
        sa.Column("served", JSON, nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name=op.f("fk_explorations_node_id_nodes")),
        sa.ForeignKeyConstraint(["pool_id"], ["pools.id"], name=op.f("fk_explorations_pool_id_pools")),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["settings_revisions.id"], name=op.f("fk_explorations_revision_id_settings_revisions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_explorations")),
        sa.UniqueConstraint("active_pool_id", name=op.f("uq_explorations_active_pool_id")),
    )
    with op.batch_alter_table("explorations", schema=None) as batch_op:
        batch_op.create_index("ix_explorations_pool_id_at", ["pool_id", "at"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("explorations", schema=None) as batch_op:
        batch_op.drop_index("ix_explorations_pool_id_at")
    op.drop_table("explorations")
