"""Which settings a pool ran under, and since when: of a rollout under way, both those before it and those after it."""

from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from controlplane.decisions.quality_books import Stretch
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Pool, SettingsRevision
from controlplane.rollouts.models import Rollout
from controlplane.rollouts.phases import RolloutPhase as P
from inference_node.contract.settings import EngineSettings

# Until the canary is sent nothing has changed.
_BEGUN = (
    P.CANARY, P.ANALYZING, P.PAUSED, P.PROMOTING, P.BAKING, P.ROLLING_BACK, P.COMPLETED, P.ROLLED_BACK, P.ROLLBACK_FAILED,
)  # fmt: skip


def stretches(session: Session, pool: Pool, since: datetime) -> list[Stretch]:
    """Newest first, back to `since` or to when the pool began; none while it has no settings yet."""
    rows = session.execute(
        select(Rollout.created_at, Rollout.ended_at, Rollout.phase, Rollout.from_revision_id, Rollout.to_revision_id)
        .where(
            Rollout.pool_id == pool.id,
            Rollout.phase.in_([phase.value for phase in _BEGUN]),
            or_(Rollout.ended_at.is_(None), Rollout.ended_at > since),
        )
        .order_by(Rollout.created_at.desc(), Rollout.id.desc())
    ).all()
    settings = _settings(session, {row.from_revision_id for row in rows} | {row.to_revision_id for row in rows})
    found = list[Stretch]()
    for row in rows:
        before, after = settings[row.from_revision_id], settings[row.to_revision_id]
        if row.ended_at is not None:
            found.append(Stretch(row.ended_at, _left(row.phase, before, after)))
        found.append(Stretch(row.created_at, (before, after)))
    if rows:
        found.append(Stretch(pool.created_at, (settings[rows[-1].from_revision_id],)))
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
