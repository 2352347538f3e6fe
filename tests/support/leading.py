"""One controller that leads all pools, without the waiting that sharing out takes."""

from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from controlplane.processes import shards
from controlplane.processes.models import ControllerLease, ControllerMember


def take_over(session: Session, holder: str, *, lease_s: float = 3600.0) -> int:
    """Whoever led leads no more; `holder` does, everywhere, under the epoch that is returned."""
    session.execute(update(ControllerLease).values(expires_at_ms=0))
    session.execute(delete(ControllerMember))
    terms = shards.share_out(session, holder=holder, lease_s=lease_s).terms
    assert len(terms.epochs) == shards.SHARDS
    (epoch,) = set(terms.epochs.values())
    return epoch
