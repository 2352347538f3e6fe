"""Alembic's door into our tables. Run through `controlplane.schema`, which hands in an open connection."""

from typing import Any, Literal

import sqlalchemy as sa
from alembic import context

from controlplane.db import UtcDateTime
from controlplane.models import metadata


def render_item(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Writes our column types as SQL's own: a migration is history and must not change when `db.py` does."""
    if kind == "type":
        if isinstance(item, UtcDateTime):
            return "sa.DateTime(timezone=True)"
        if isinstance(item, sa.JSON):
            return "JSON"
        if isinstance(item, sa.BigInteger) and "sqlite" in item._variant_mapping:
            return "BIG_ID"
    return False


connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("migrations need a connection: run `trimtab migrate`, or call controlplane.schema.upgrade(engine)")

context.configure(
    connection=connection,
    target_metadata=metadata,
    # SQLite alters a table by making it anew; and it can roll DDL back, as long as we say BEGIN ourselves (see db.py).
    render_as_batch=connection.dialect.name == "sqlite",
    transactional_ddl=True,
    render_item=render_item,
)
with context.begin_transaction():
    context.run_migrations()
