"""Observations in SQL: saved once per subject and window, read back oldest first."""

import functools
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Insert, Select, bindparam, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from controlplane.db import table_of
from controlplane.fleets.models import Node, Pool
from controlplane.telemetry.models import ObservationRecord
from controlplane.telemetry.observation import USABLE, Observation, Quality

_COLUMNS = (
    ObservationRecord.window_end,
    ObservationRecord.window_s,
    ObservationRecord.quality,
    ObservationRecord.facts,
)


def save_observations(
    session: Session, pool_id: str, pool: Observation, nodes: Mapping[str, Observation] | None = None
) -> None:
    """Stores the pool's window and those of its nodes (by node id). A window that is there already stays as it is."""
    _save(
        session, [_row(pool_id, None, pool), *(_row(pool_id, node_id, seen) for node_id, seen in (nodes or {}).items())]
    )


def save_nodes(session: Session, pool_of: Mapping[str, str], seen: Mapping[str, Observation]) -> None:
    """Stores the windows of nodes of any pools, by node id. Those that are there already stay as they are."""
    if seen:
        _save(session, [_row(pool_of[node_id], node_id, window) for node_id, window in seen.items()])


def _save(session: Session, rows: list[dict[str, object]]) -> None:
    session.execute(_unless_there(session.get_bind().dialect.name), rows)


@functools.cache
def _unless_there(dialect: str) -> Insert:
    insert = postgresql_insert if dialect == "postgresql" else sqlite_insert
    return insert(table_of(ObservationRecord)).on_conflict_do_nothing(index_elements=["subject_id", "window_end"])


def recent(
    session: Session, subject_id: str, since: datetime, until: datetime | None = None, limit: int | None = None
) -> list[Observation]:
    """Windows of a pool or node that end in (since, until], oldest first; with `limit`, the newest of them."""
    # Columns, not objects: the controller reads eighty windows of each pool at every tick.
    query = select(*_COLUMNS).where(ObservationRecord.subject_id == subject_id, ObservationRecord.window_end > since)
    if until is not None:
        query = query.where(ObservationRecord.window_end <= until)
    rows = session.execute(query.order_by(ObservationRecord.window_end.desc()).limit(limit)).all()
    return [Observation.from_json(*row) for row in reversed(rows)]


def token_rates(
    session: Session, subject_id: str, since: datetime, until: datetime
) -> list[tuple[datetime, float, float | None]]:
    """Of windows that end in (since, until), oldest first: end, seconds, and generated tokens per second where they are known.
    A day of them, of which a whole observation each would be read for a second."""
    rate = ObservationRecord.facts["generation_tokens_per_s"].as_float()
    query = select(ObservationRecord.window_end, ObservationRecord.window_s, ObservationRecord.quality, rate).where(
        ObservationRecord.subject_id == subject_id,
        ObservationRecord.window_end > since,
        ObservationRecord.window_end < until,
    )
    return [
        (end, window_s, tokens_per_s if Quality(quality) in USABLE else None)
        for end, window_s, quality, tokens_per_s in session.execute(query.order_by(ObservationRecord.window_end))
    ]


def latest(session: Session, subject_id: str) -> Observation | None:
    """The newest window of a pool or node."""
    query = select(ObservationRecord).where(ObservationRecord.subject_id == subject_id)
    row = session.scalars(query.order_by(ObservationRecord.window_end.desc()).limit(1)).first()
    return None if row is None else _observation(row)


def latest_of_pools(session: Session, pool_ids: Collection[str]) -> dict[str, Observation]:
    """By pool, in one query: its newest window, of those that have one."""
    return _latest_of(session, Pool.id, pool_ids)


def latest_of_nodes(session: Session, node_ids: Collection[str]) -> dict[str, Observation]:
    """By node, in one query: its newest window, of those that have one."""
    return _latest_of(session, Node.id, node_ids)


def _latest_of(
    session: Session, subject: InstrumentedAttribute[str], subject_ids: Collection[str]
) -> dict[str, Observation]:
    rows = session.execute(_newest_of(subject), {"subjects": list(subject_ids)})
    return {subject_id: Observation.from_json(*facts) for subject_id, *facts in rows}


@functools.cache
def _newest_of(subject: InstrumentedAttribute[str]) -> Select[Any]:
    """Made once: an alias and the key that its compiled form is found by cost more than the query itself."""
    # A look at the end of the index for each subject: a maximum by groups would read a day of windows of all of them.
    each = aliased(ObservationRecord)
    newest = (
        select(each.id).where(each.subject_id == subject).order_by(each.window_end.desc()).limit(1).scalar_subquery()
    )
    named = select(newest).where(subject.in_(bindparam("subjects", expanding=True)))
    return select(ObservationRecord.subject_id, *_COLUMNS).where(ObservationRecord.id.in_(named))


def _row(pool_id: str, node_id: str | None, seen: Observation) -> dict[str, object]:
    return {
        "subject_id": node_id or pool_id,
        "pool_id": pool_id,
        "node_id": node_id,
        "window_end": seen.window_end,
        "window_s": seen.window_s,
        "quality": seen.quality.value,
        "facts": seen.to_json(),
    }


def _observation(row: ObservationRecord) -> Observation:
    return Observation.from_json(row.window_end, row.window_s, row.quality, row.facts)
