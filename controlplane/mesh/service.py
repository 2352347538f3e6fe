"""Keeps in SQL what each pool's route should say, owes it to the Kubernetes API, and notes what became of it.

Level-triggered, as the nodes' settings are: what should be is worked out afresh and compared with what was wished last, so
that a lost debt, a crash or an edit by hand is healed by the next look.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.db import insert_if_absent
from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from controlplane.events.models import OutboxItem
from controlplane.fleets import service as fleets
from controlplane.mesh.models import MeshRoute
from controlplane.mesh.wish import Wish, find_wish
from controlplane.processes import shards
from controlplane.processes.shards import Terms

OUTBOX_KIND = "mesh"
# What could not be applied is owed again; what could is put in place again, over edits by hand and pods that were made anew.
RETRY_S, RESYNC_S = 15.0, 60.0


def find_due(session: Session, wishes: Mapping[str, Wish | None], now: datetime) -> list[str]:
    """Ids of the pools whose route is to be written; wishes: by pool. Reads only, so that a fleet in order costs no write."""
    return [pool_id for pool_id, wish in wishes.items() if _is_due(session, pool_id, wish, now)]


def owe_routes(session: Session, pool_ids: list[str], *, terms: Terms, now: datetime) -> int:
    """Owes what is missing; returns how much. Raises Fenced for a deposed leader."""
    shards.assert_leads_all(session, terms, pool_ids)
    owed = 0
    for pool_id in pool_ids:
        pool = fleets.get_pool(session, pool_id)
        wish = find_wish(session, pool)
        if _is_due(session, pool_id, wish, now):
            owed += _owe(session, pool_id, wish, now)
    return owed


def record_applied(session: Session, pool_id: str, generation: int, now: datetime, *, missing: list[str]) -> None:
    """The route of this generation is in force. missing: pods that there are none of. Tells it once, of each generation."""
    row = session.get(MeshRoute, pool_id, populate_existing=True, with_for_update=True)
    if row is None or generation != row.generation:
        return  # a newer one is on its way, and tells for itself
    is_news, row.error = row.applied_generation < generation, None
    row.applied_generation, row.applied, row.applied_at = generation, row.desired, now
    if is_news:
        wish = Wish.model_validate(row.desired)
        message = f"Traffic: {wish.canary_weight} % to the new settings, by {_object(wish)}: {wish.why}"
        if missing:
            message += f" (no pod is named {', '.join(missing[:5])}{' and others' if len(missing) > 5 else ''})"
        data = {"generation": generation, "canary_weight": wish.canary_weight, "pods_missing": missing}
        _tell(session, row, EventKind.MESH_APPLIED, message, now, Severity.WARNING if missing else Severity.INFO, data)
    session.flush()


def record_failure(session: Session, pool_id: str, generation: int, now: datetime, *, error: str) -> None:
    """A try failed; more follow. Tells it once, of each generation."""
    row = session.get(MeshRoute, pool_id, populate_existing=True, with_for_update=True)
    if row is None or generation != row.generation:
        return
    if row.error is None:
        wish = Wish.model_validate(row.desired)
        message = f"Traffic was not shifted to {wish.canary_weight} % yet: {error}"
        _tell(session, row, EventKind.MESH_FAILED, message, now, Severity.WARNING, {"generation": generation})
    row.error = error
    session.flush()


def overtake(session: Session, pool_id: str, found: int, now: datetime) -> None:
    """The object carries a generation above all of ours, as after a database was restored: ours goes on above that."""
    row = session.get(MeshRoute, pool_id, populate_existing=True, with_for_update=True)
    if row is not None and found >= row.generation:
        row.generation, row.applied_generation, row.applied = found + 1, 0, None
        _owe_debt(session, row, now)


def _is_due(session: Session, pool_id: str, wish: Wish | None, now: datetime) -> bool:
    row = session.get(MeshRoute, pool_id)
    if wish is None:
        return row is not None
    if row is None or not Wish.model_validate(row.desired).says_the_same(wish):
        return True
    patience_s = RESYNC_S if row.applied_generation == row.generation else RETRY_S
    return now - row.owed_at >= timedelta(seconds=patience_s)


def _owe(session: Session, pool_id: str, wish: Wish | None, now: datetime) -> int:
    row = session.get(MeshRoute, pool_id, with_for_update=True)
    if wish is None:
        if row is not None:  # the route itself stays: without it the clients had none
            session.delete(row)
        return 0
    if row is None:
        insert_if_absent(
            session, MeshRoute, pool_id=pool_id, rollout_id=wish.rollout_id, generation=1, desired=wish.to_json(),
            desired_at=now, owed_at=now, applied_generation=0,
        )  # fmt: skip
        row = session.get_one(MeshRoute, pool_id)
    elif not Wish.model_validate(row.desired).says_the_same(wish):
        # The way back after a rollout's end is part of its timeline, too.
        row.rollout_id = wish.rollout_id or Wish.model_validate(row.desired).rollout_id
        row.generation += 1
        row.desired, row.desired_at, row.error = wish.to_json(), now, None
    return _owe_debt(session, row, now)


def _owe_debt(session: Session, row: MeshRoute, now: datetime) -> int:
    key = f"mesh:{row.pool_id}:{row.generation}"
    is_open = OutboxItem.done_at.is_(None) & OutboxItem.dead_at.is_(None)
    row.owed_at = now
    query = select(OutboxItem.id).where(is_open & ((OutboxItem.key == key) | OutboxItem.key.startswith(f"{key}:")))
    if session.scalars(query.limit(1)).first() is not None:
        return 0
    payload = {"pool_id": row.pool_id, "generation": row.generation, "rollout_id": row.rollout_id}
    again = f"{key}:{int(now.timestamp())}"
    events.owe(session, kind=OUTBOX_KIND, key=again, payload=payload, at=now)
    return 1


def _object(wish: Wish) -> str:
    found = wish.route()
    return f"{found['kind']} {wish.mesh.namespace}/{wish.mesh.route}"


def _tell(
    session: Session,
    row: MeshRoute,
    kind: EventKind,
    message: str,
    now: datetime,
    severity: Severity,
    data: dict[str, object],
) -> None:
    events.record(
        session, kind=kind, message=message, at=now, severity=severity, actor="controller", pool_id=row.pool_id,
        rollout_id=row.rollout_id, data=data,
    )  # fmt: skip
