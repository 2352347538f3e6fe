"""Alerts that came in, the rules for them, and what they set off.

Revision f9c1a6d8e302, after e7b2d94c1f06, 2026-11-23 18:20:00.000000.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "f9c1a6d8e302"
down_revision = "e7b2d94c1f06"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def _moment(name: str, *, nullable: bool = False) -> "sa.Column[object]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _text(name: str, length: int, *, nullable: bool = False) -> "sa.Column[object]":
    return sa.Column(name, sa.String(length=length), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "alert_rules",
        _text("id", 36),
        _text("name", 64),
        sa.Column("matchers", _JSON, nullable=False),
        _text("action", 16),
        _text("pool_id", 36, nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        _moment("created_at"),
        _text("created_by", 128),
        sa.ForeignKeyConstraint(["pool_id"], ["pools.id"], name=op.f("fk_alert_rules_pool_id_pools")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_rules")),
        sa.UniqueConstraint("name", name=op.f("uq_alert_rules_name")),
    )
    op.create_table(
        "alerts",
        _text("id", 36),
        _text("source", 16),
        _text("fingerprint", 64),
        _moment("starts_at"),
        _text("name", 200),
        sa.Column("labels", _JSON, nullable=False),
        sa.Column("annotations", _JSON, nullable=False),
        _text("pool_id", 36, nullable=True),
        sa.Column("group_key", sa.Text(), nullable=False),
        sa.Column("generator_url", sa.Text(), nullable=False),
        _moment("received_at"),
        _text("received_by", 128),
        _moment("last_seen_at"),
        _moment("resolved_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        sa.UniqueConstraint("source", "fingerprint", "starts_at", name=op.f("uq_alerts_source_fingerprint_starts_at")),
    )
    op.create_index("ix_alerts_resolved_at_id", "alerts", ["resolved_at", "id"])
    op.create_table(
        "alert_effects",
        _text("id", 36),
        _text("alert_id", 36),
        _text("rule_id", 36),
        _text("rule_name", 64),
        _text("action", 16),
        _text("pool_id", 36, nullable=True),
        _text("rollout_id", 36, nullable=True),
        _text("state", 16),
        _text("holder", 128, nullable=True),
        _moment("frozen_at", nullable=True),
        _moment("at"),
        sa.Column("detail", sa.Text(), nullable=False),
        _moment("lifted_at", nullable=True),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["alerts.id"], name=op.f("fk_alert_effects_alert_id_alerts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_effects")),
        sa.UniqueConstraint("alert_id", "rule_id", name=op.f("uq_alert_effects_alert_id_rule_id")),
    )
    op.create_index(op.f("ix_alert_effects_pool_id"), "alert_effects", ["pool_id"])


def downgrade() -> None:
    for table in ("alert_effects", "alerts", "alert_rules"):
        op.drop_table(table)
