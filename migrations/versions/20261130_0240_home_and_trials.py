"""Where a pool comes home to, and which revisions were only tried on one node.

Revision 7c1d90ab52e4, after 4d83e0b7f1a6, 2026-11-30 02:40:00.000000.
"""

import sqlalchemy as sa
from alembic import op

revision = "7c1d90ab52e4"
down_revision = "4d83e0b7f1a6"
branch_labels = None
depends_on = None

# What was in force last on the whole pool that somebody else than the controller asked for; a rollback leads to a revision that
# is older than what it left. The first node's own settings never had a rollout; they are the pool's first revision.
_HOME = """
UPDATE pools SET home_revision_id = COALESCE(
    (
        SELECT done.to_revision_id FROM rollouts AS done
        WHERE done.pool_id = pools.id AND done.phase = 'COMPLETED'
        AND (done.created_by NOT LIKE 'controller%' OR done.decision_id IS NULL)
        ORDER BY done.ended_at DESC, done.id DESC LIMIT 1
    ),
    (
        SELECT own.id FROM settings_revisions AS own
        WHERE own.pool_id = pools.id ORDER BY own.number LIMIT 1
    )
)
"""
# Experiments are told of with the number of their revision, and what a rollout brought was more than that.
_TRIALS = """
UPDATE settings_revisions SET is_trial = true
WHERE id IN (SELECT desired_revision_id FROM nodes WHERE lease_s IS NOT NULL)
AND NOT EXISTS (SELECT 1 FROM rollouts WHERE rollouts.to_revision_id = settings_revisions.id)
"""


def upgrade() -> None:
    op.add_column("pools", sa.Column("home_revision_id", sa.String(length=36), nullable=True))
    op.add_column("settings_revisions", sa.Column("is_trial", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.execute(_HOME)
    op.execute(_TRIALS)


def downgrade() -> None:
    with op.batch_alter_table("settings_revisions") as table:
        table.drop_column("is_trial")
    with op.batch_alter_table("pools") as table:
        table.drop_column("home_revision_id")
