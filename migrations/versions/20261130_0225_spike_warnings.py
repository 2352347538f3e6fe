"""Warnings of latency spikes, the spikes that came, and the models that foresee them.

Revision e4a7c1d93b52, after a7d35b90e2c4, 2026-11-30 02:25:00.000000.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "e4a7c1d93b52"
down_revision = "a7d35b90e2c4"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "spike_warnings",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("setting", sa.String(length=16), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("lead_s", sa.Double(), nullable=False),
        sa.Column("load_ratio", sa.Double(), nullable=False),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("onset_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spike_warnings")),
        sa.UniqueConstraint("pool_id", "setting", "at", name=op.f("uq_spike_warnings_pool_id_setting_at")),
    )
    with op.batch_alter_table("spike_warnings", schema=None) as batch_op:
        batch_op.create_index("ix_spike_warnings_pool_id_at", ["pool_id", "at"], unique=False)
    op.create_table(
        "spikes",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("onset_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("watch_lead_s", sa.Double(), nullable=True),
        sa.Column("page_lead_s", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spikes")),
        sa.UniqueConstraint("pool_id", "onset_at", name=op.f("uq_spikes_pool_id_onset_at")),
    )
    op.create_table(
        "spike_models",
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("thresholds", JSON, nullable=False),
        sa.Column("report", JSON, nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_spike_models")),
    )


def downgrade() -> None:
    op.drop_table("spike_models")
    op.drop_table("spikes")
    with op.batch_alter_table("spike_warnings", schema=None) as batch_op:
        batch_op.drop_index("ix_spike_warnings_pool_id_at")
    op.drop_table("spike_warnings")
