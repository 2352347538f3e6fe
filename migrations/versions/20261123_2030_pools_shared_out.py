"""Pools are led shard by shard, by any number of controllers.

Revision a4d7e91b6c52, after f9c1a6d8e302, 2026-11-23 20:30:00.000000.
"""

import sqlalchemy as sa
from alembic import op

revision = "a4d7e91b6c52"
down_revision = "f9c1a6d8e302"
branch_labels = None
depends_on = None

_OLD, _SHARDS = "controller", 16
# A controller of the version before, still running: it can neither write nor ever lead again.
_RETIRED, _FOR_EVER_MS = "retired by a migration", 253_402_300_799_000

_leases = sa.table(
    "controller_leases",
    sa.column("name", sa.String),
    sa.column("holder", sa.String),
    sa.column("epoch", sa.Integer),
    sa.column("expires_at_ms", sa.BigInteger),
)


def upgrade() -> None:
    op.create_table(
        "controller_members",
        sa.Column("holder", sa.String(length=128), nullable=False),
        sa.Column("joined_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("holder", name=op.f("pk_controller_members")),
    )
    bind = op.get_bind()
    # Nodes refuse what comes under an epoch below one that they have seen.
    epoch = bind.execute(sa.select(_leases.c.epoch).where(_leases.c.name == _OLD)).scalar()
    if epoch is None:
        return  # nobody ever led
    bind.execute(
        sa.update(_leases)
        .where(_leases.c.name == _OLD)
        .values(holder=_RETIRED, epoch=epoch + 1, expires_at_ms=_FOR_EVER_MS)
    )
    rows = [
        {"name": f"pools-{shard:02d}", "holder": "", "epoch": epoch + 1, "expires_at_ms": 0} for shard in range(_SHARDS)
    ]
    op.bulk_insert(_leases, rows)


def downgrade() -> None:
    bind = op.get_bind()
    epoch = bind.execute(sa.select(sa.func.max(_leases.c.epoch))).scalar()
    bind.execute(sa.delete(_leases))
    if epoch is not None:
        op.bulk_insert(_leases, [{"name": _OLD, "holder": "", "epoch": epoch, "expires_at_ms": 0}])
    op.drop_table("controller_members")
