"""What a pool's revisions tell: the settings in force, since when steps compute as they do, and those to come home to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.fleets import service as fleets
from controlplane.fleets.models import Pool, SettingsRevision
from inference_node.contract.settings import EngineSettings

# Those whose arithmetic is looked at; older ones hardly ever matter.
_REVISIONS = 50


@dataclass(frozen=True, slots=True)
class Lineage:
    """same_since: from when on all revisions compute as the settings do, None for always. home: what was in force last that
    somebody else than the controller wished for, None for nothing."""

    settings: EngineSettings
    same_since: datetime | None
    home: EngineSettings | None
    # The newest revisions, each with when it was made.
    newest_first: tuple[tuple[datetime, EngineSettings], ...] = ()


def read_lineage(session: Session, pool: Pool) -> Lineage:
    settings = fleets.settings_of(fleets.current_revision(session, pool))
    revisions = _own_revisions(session, pool.id)
    made = tuple((revision.created_at, fleets.settings_of(revision)) for revision in revisions)
    home = None if pool.home_revision_id is None else fleets.get_revision(session, pool.home_revision_id)
    return Lineage(
        settings,
        _same_numerics_since(revisions, settings),
        None if home is None else fleets.settings_of(home),
        made,
    )


class Lineages:
    """Of many pools, each read again when it has another revision: revisions themselves never change. Not thread-safe."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[tuple[str | None, str | None, int], Lineage]] = {}

    def of(self, session: Session, pool: Pool, newest: int) -> Lineage:
        """newest: number of the pool's newest revision, which need not be in force."""
        key = (pool.current_revision_id, pool.home_revision_id, newest)
        known = self._of.get(pool.id)
        if known is None or known[0] != key:
            known = self._of[pool.id] = (key, read_lineage(session, pool))
        return known[1]

    def forget_all_but(self, pool_ids: set[str]) -> None:
        for pool_id in [pool_id for pool_id in self._of if pool_id not in pool_ids]:
            del self._of[pool_id]


def _own_revisions(session: Session, pool_id: str) -> list[SettingsRevision]:
    """The newest of the pool's, not those of experiments, newest first."""
    own = (
        select(SettingsRevision)
        .where(SettingsRevision.pool_id == pool_id, SettingsRevision.is_trial.is_(False))
        .order_by(SettingsRevision.number.desc())
    )
    return list(session.scalars(own.limit(_REVISIONS)))


def _same_numerics_since(newest_first: Sequence[SettingsRevision], settings: EngineSettings) -> datetime | None:
    key = settings.numerics_key()
    since: datetime | None = None
    for revision in newest_first:
        if fleets.settings_of(revision).numerics_key() != key:
            return since
        since = revision.created_at
    return None
