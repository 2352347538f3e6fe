"""What a pool's revisions tell: the settings in force, since when steps compute as they do, and those to come home to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.fleets import service as fleets
from controlplane.fleets.models import Pool, SettingsRevision
from inference_node.contract.settings import EngineSettings

# `created_by` of revisions that the controller made starts with this; all others were wished for by people or brought by nodes.
CONTROLLER = "controller"
# Those whose arithmetic is looked at; older ones hardly ever matter.
_REVISIONS = 50


@dataclass(frozen=True, slots=True)
class Lineage:
    """same_since: from when on all revisions compute as the settings do, None for always. home: what somebody else than the
    controller wished for last, None for nothing."""

    settings: EngineSettings
    same_since: datetime | None
    home: EngineSettings | None
    # The newest revisions, each with when it was made.
    newest_first: tuple[tuple[datetime, EngineSettings], ...] = ()


def read_lineage(session: Session, pool: Pool) -> Lineage:
    settings = fleets.settings_of(fleets.current_revision(session, pool))
    newest = fleets.list_revisions(session, pool.id, limit=_REVISIONS)
    # What is only tried out on a node was never in force on the pool.
    revisions = [revision for revision in newest if revision.created_by != fleets.EXPLORER]
    made = tuple((revision.created_at, fleets.settings_of(revision)) for revision in revisions)
    since = _same_numerics_since(revisions, settings)
    return Lineage(settings, since, _home(session, pool.id, revisions, are_all=len(newest) < _REVISIONS), made)


class Lineages:
    """Of many pools, each read again when it has another revision: revisions themselves never change. Not thread-safe."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[tuple[str | None, int], Lineage]] = {}

    def of(self, session: Session, pool: Pool, newest: int) -> Lineage:
        """newest: number of the pool's newest revision, which need not be in force."""
        key = (pool.current_revision_id, newest)
        known = self._of.get(pool.id)
        if known is None or known[0] != key:
            known = self._of[pool.id] = (key, read_lineage(session, pool))
        return known[1]

    def forget_all_but(self, pool_ids: set[str]) -> None:
        for pool_id in [pool_id for pool_id in self._of if pool_id not in pool_ids]:
            del self._of[pool_id]


def _home(
    session: Session, pool_id: str, newest_first: Sequence[SettingsRevision], *, are_all: bool
) -> EngineSettings | None:
    for revision in newest_first:
        if not revision.created_by.startswith(CONTROLLER):
            return fleets.settings_of(revision)
    if are_all:
        return None
    query = (
        select(SettingsRevision)
        .where(SettingsRevision.pool_id == pool_id, SettingsRevision.created_by.not_like(f"{CONTROLLER}%"))
        .order_by(SettingsRevision.number.desc())
    )
    row = session.scalars(query.limit(1)).first()
    return None if row is None else fleets.settings_of(row)


def _same_numerics_since(newest_first: Sequence[SettingsRevision], settings: EngineSettings) -> datetime | None:
    key = settings.numerics_key()
    since: datetime | None = None
    for revision in newest_first:
        if fleets.settings_of(revision).numerics_key() != key:
            return since
        since = revision.created_at
    return None
