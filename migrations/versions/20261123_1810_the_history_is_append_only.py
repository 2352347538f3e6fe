"""Signed heads of the chain of events; the database itself refuses to change or drop an event that has its place.

Revision e7b2d94c1f06, after d5a7c0e81b34, 2026-11-23 18:10:00.000000.
"""

import sqlalchemy as sa
from alembic import op

revision = "e7b2d94c1f06"
down_revision = "d5a7c0e81b34"
branch_labels = None
depends_on = None

_SAID = "events are append-only"
_POSTGRESQL = (
    f"""
    CREATE FUNCTION events_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '{_SAID}'; END $$
    """,
    """
    CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW WHEN (OLD.position IS NOT NULL) EXECUTE FUNCTION events_append_only()
    """,
    """
    CREATE TRIGGER events_not_emptied BEFORE TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION events_append_only()
    """,
)
_SQLITE = tuple(
    f"""
    CREATE TRIGGER events_no_{verb} BEFORE {verb} ON events WHEN OLD.position IS NOT NULL
    BEGIN SELECT RAISE(ABORT, '{_SAID}'); END
    """
    for verb in ("update", "delete")
)


def upgrade() -> None:
    op.create_table(
        "audit_heads",
        sa.Column(
            "position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        sa.Column("signature", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_audit_heads")),
    )
    for statement in _POSTGRESQL if op.get_bind().dialect.name == "postgresql" else _SQLITE:
        op.execute(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER events_not_emptied ON events")
        op.execute("DROP TRIGGER events_append_only ON events")
        op.execute("DROP FUNCTION events_append_only()")
    else:
        op.execute("DROP TRIGGER events_no_update")
        op.execute("DROP TRIGGER events_no_delete")
    op.drop_table("audit_heads")
