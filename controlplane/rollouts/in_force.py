"""Which settings a pool ran under, and since when: of a rollout under way, both those before it and those after it."""

from datetime import datetime, timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from controlplane.decisions.quality_books import Stretch
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Pool, SettingsRevision
from controlplane.rollouts.models import Rollout, RolloutNode
from controlplane.rollouts.phases import RolloutPhase as P
from inference_node.contract.settings import EngineSettings

# From the wish to the end: starts may lie 92 days ahead. So that a tick looks at the end of an index, not at a pool's whole past.
_LONGEST = timedelta(days=100)


def stretches(session: Session, pool: Pool, since: datetime) -> list[Stretch]:
    """Newest first, back to `since` or to when the pool began; none while it has no settings yet.

    A rollout counts from when the first node was told, or had applied it, whichever the record shows first (a node that is sent
    back is told again): until then it may wait for people, for its time or for a freeze to end.
    """
    told, applied = (
        select(func.min(moment)).where(RolloutNode.rollout_id == Rollout.id).scalar_subquery()
        for moment in (RolloutNode.dispatched_at, RolloutNode.applied_at)
    )
    query = (
        select(told, applied, Rollout.ended_at, Rollout.phase, Rollout.from_revision_id, Rollout.to_revision_id)
        .where(
            Rollout.pool_id == pool.id,
            Rollout.created_at > since - _LONGEST,
            or_(Rollout.ended_at.is_(None), Rollout.ended_at > since),
        )
        .order_by(Rollout.created_at.desc(), Rollout.id.desc())
    )
    changed = list[tuple[datetime, datetime | None, str, str, str]]()
    for told_at, applied_at, ended_at, phase, from_id, to_id in session.execute(query):
        moments = [moment for moment in (told_at, applied_at) if moment is not None]
        if moments:
            changed.append((min(moments), ended_at, phase, from_id, to_id))
    settings = _settings(session, {revision_id for row in changed for revision_id in row[3:]})
    found = list[Stretch]()
    for began_at, ended_at, phase, from_id, to_id in changed:
        if ended_at is not None:
            found.append(Stretch(ended_at, _left(phase, settings[from_id], settings[to_id])))
        found.append(Stretch(began_at, (settings[from_id], settings[to_id])))
    if changed:
        found.append(Stretch(pool.created_at, (settings[changed[-1][3]],)))
    elif pool.current_revision_id is not None:
        own = fleets.settings_of(fleets.get_revision(session, pool.current_revision_id))
        found.append(Stretch(pool.created_at, (own,)))
    return found


def _left(phase: str, before: EngineSettings, after: EngineSettings) -> tuple[EngineSettings, ...]:
    """What a rollout that ended so left on the nodes."""
    match P(phase):
        case P.COMPLETED:
            return (after,)
        case P.ROLLED_BACK:
            return (before,)
        case _:  # some nodes have the one, some the other
            return (before, after)


def _settings(session: Session, revision_ids: set[str]) -> dict[str, EngineSettings]:
    query = select(SettingsRevision).where(SettingsRevision.id.in_(revision_ids))
    return {revision.id: fleets.settings_of(revision) for revision in session.scalars(query)}
