"""Rollouts wait for approvals and their time; nodes go into quarantine and leave.

Revision 4f0c7d2b9e61, after 9a1b104b7046, 2026-11-23 05:15:12.000000.
"""

import sqlalchemy as sa
from alembic import op

revision = "4f0c7d2b9e61"
down_revision = "9a1b104b7046"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rollout_approvals",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("rollout_id", sa.String(length=36), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settings_hash", sa.String(length=16), nullable=False),
        sa.Column("agrees", sa.Boolean(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name=op.f("fk_rollout_approvals_rollout_id_rollouts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollout_approvals")),
        sa.UniqueConstraint("rollout_id", "actor", name=op.f("uq_rollout_approvals_rollout_id_actor")),
    )
    with op.batch_alter_table("rollouts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("approvals_needed", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("not_before", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("nodes", schema=None) as batch_op:
        batch_op.add_column(sa.Column("refusals", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("quarantined_until", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("quarantined_reason", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("process_heartbeats", schema=None) as batch_op:
        batch_op.add_column(sa.Column("steady_since", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE process_heartbeats SET steady_since = started_at")
    with op.batch_alter_table("process_heartbeats", schema=None) as batch_op:
        batch_op.alter_column("steady_since", existing_type=sa.DateTime(timezone=True), nullable=False)


def downgrade() -> None:
    with op.batch_alter_table("process_heartbeats", schema=None) as batch_op:
        batch_op.drop_column("steady_since")
    with op.batch_alter_table("nodes", schema=None) as batch_op:
        for name in ("removed_at", "quarantined_reason", "quarantined_until", "refusals"):
            batch_op.drop_column(name)
    with op.batch_alter_table("rollouts", schema=None) as batch_op:
        for name in ("expires_at", "not_before", "approvals_needed"):
            batch_op.drop_column(name)
    op.drop_table("rollout_approvals")
