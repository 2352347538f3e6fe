"""Policies in SQL: the newest version of a pool's document holds; without one the defaults do, as version 0."""

from datetime import datetime

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from controlplane.decisions.models import PolicyRecord
from controlplane.decisions.policy import Policy
from controlplane.errors import Stale
from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.fleets.models import Pool


def current_policy(session: Session, pool_id: str) -> tuple[Policy, int]:
    """The policy in force and its version; (defaults, 0) while nobody set one."""
    row = _newest(session, pool_id)
    return (Policy(), 0) if row is None else (Policy.model_validate(row.document), row.version)


def current_policies(session: Session, pool_id: str | None = None) -> dict[str, tuple[Policy, int]]:
    """By pool, of all pools or of one: the policy in force and its version. Pools that nobody set one for are not among them."""
    newest = select(PolicyRecord.pool_id, func.max(PolicyRecord.version)).group_by(PolicyRecord.pool_id)
    if pool_id is not None:
        newest = newest.where(PolicyRecord.pool_id == pool_id)
    query = select(PolicyRecord).where(tuple_(PolicyRecord.pool_id, PolicyRecord.version).in_(newest))
    return {row.pool_id: (Policy.model_validate(row.document), row.version) for row in session.scalars(query)}


def list_versions(session: Session, pool_id: str, *, limit: int) -> list[PolicyRecord]:
    """Newest first."""
    query = select(PolicyRecord).where(PolicyRecord.pool_id == pool_id).order_by(PolicyRecord.version.desc())
    return list(session.scalars(query.limit(limit)))


def put_policy(
    session: Session, pool_id: str, policy: Policy, *, based_on: int, actor: str, now: datetime
) -> tuple[Policy, int]:
    """Sets the next version. `based_on` is the version that the writer had read; raises Stale when there is a newer one.

    The same document again makes no new version.
    """
    session.execute(select(Pool.id).where(Pool.id == pool_id).with_for_update())  # one version at a time
    present, version = current_policy(session, pool_id)
    if based_on != version:
        raise Stale(
            f"the policy is at version {version} by now, and yours was made from version {based_on}: "
            "read it again, and send your change with its ETag",
            version=version,
        )
    if version > 0 and present == policy:
        return present, version
    version += 1
    session.add(
        PolicyRecord(pool_id=pool_id, version=version, document=policy.to_json(), created_by=actor, created_at=now)
    )
    session.flush()
    events.record(
        session,
        kind=EventKind.POLICY_CHANGED,
        message=f"Policy version {version} set by {actor}",
        at=now,
        actor=actor,
        pool_id=pool_id,
        data={"version": version, "changed": sorted(_differing(present, policy))},
    )
    return policy, version


def _newest(session: Session, pool_id: str) -> PolicyRecord | None:
    query = select(PolicyRecord).where(PolicyRecord.pool_id == pool_id).order_by(PolicyRecord.version.desc())
    return session.scalars(query.limit(1)).first()


def _differing(before: Policy, after: Policy) -> list[str]:
    """Sections of the document that are not the same."""
    old, new = before.to_json(), after.to_json()
    return [section for section in new if old.get(section) != new[section]]
