"""Who leads, fenced: a lease row judged by the database's clock, whose epoch grows with each takeover.

A leader that was paused past its lease still believes that it leads; what stops it is `assert_leads` inside each of its
writing transactions, and the epoch that travels with each push to the nodes.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from controlplane.db import database_now_ms, insert_if_absent
from controlplane.errors import Fenced
from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.processes.models import ControllerLease

CONTROLLER = "controller"


@dataclass(frozen=True, slots=True)
class Lease:
    """A term of leadership. `expires_at_ms` is Unix milliseconds by the database's clock."""

    name: str
    holder: str
    epoch: int
    expires_at_ms: int

    @property
    def expires_at(self) -> datetime:
        return datetime.fromtimestamp(self.expires_at_ms / 1000, UTC)


def acquire_or_renew(session: Session, *, name: str, holder: str, lease_s: float) -> Lease | None:
    """Takes the lease when it is free or expired, prolongs it when `holder` has it; None while another holds it.

    `holder` must name one start of one process (`processes.service.process_name()` with something random), never two at
    once. Each change of hands, also from an expired holder to itself, adds one to the epoch and records
    `control.leader_changed`. The epoch may also grow under a holder that keeps the lease (`raise_epoch`): use the one returned.
    """
    fresh = insert_if_absent(session, ControllerLease, name=name, holder="", epoch=0, expires_at_ms=0)
    row = _lock(session, name)
    assert row is not None
    now_ms = database_now_ms(session)  # read after the lock: waiting for it may have taken long
    expires_at_ms = now_ms + round(lease_s * 1000)
    alive = row.expires_at_ms > now_ms
    if alive and row.holder != holder:
        return None
    epoch = row.epoch if alive else row.epoch + 1
    session.execute(
        update(ControllerLease)
        .where(ControllerLease.name == name)
        .values(holder=holder, epoch=epoch, expires_at_ms=expires_at_ms)
    )
    if not alive:
        before = "no one before" if fresh or not row.holder else f"after {row.holder}, epoch {row.epoch}"
        events.record(
            session,
            kind=EventKind.CONTROL_LEADER_CHANGED,
            message=f"{holder} leads as of epoch {epoch} ({before})",
            at=datetime.fromtimestamp(now_ms / 1000, UTC),
            actor=holder,
            data={"lease": name, "holder": holder, "epoch": epoch, "previous_holder": row.holder or None},
        )
    return Lease(name, holder, epoch, expires_at_ms)


def assert_leads(session: Session, name: str, epoch: int) -> None:
    """Raises Fenced unless the lease still carries `epoch`; a takeover then waits until this transaction has ended."""
    query = select(ControllerLease.epoch).where(ControllerLease.name == name).with_for_update(read=True)
    current = session.scalar(query)
    if current != epoch:
        raise Fenced(
            f"epoch {epoch} of the lease {name!r} is over (now {current}): another controller leads, nothing was written",
            epoch=epoch,
            current_epoch=current,
        )


def release(session: Session, *, name: str, holder: str) -> bool:
    """Ends the holder's term at once, so that another need not wait for its expiry. False when it had none."""
    row = _lock(session, name)
    if row is None or row.holder != holder:
        return False
    session.execute(update(ControllerLease).where(ControllerLease.name == name).values(expires_at_ms=0))
    return True


def current(session: Session, name: str) -> Lease | None:
    """The lease as it stands, also an expired one; None when nobody ever held it."""
    columns = (ControllerLease.name, ControllerLease.holder, ControllerLease.epoch, ControllerLease.expires_at_ms)
    row = session.execute(select(*columns).where(ControllerLease.name == name)).one_or_none()
    return None if row is None else Lease(*row)


def current_holder(session: Session, name: str) -> Lease | None:
    """The lease while someone holds it; None when it has expired or was released."""
    held = current(session, name)
    return held if held is not None and held.holder and held.expires_at_ms > database_now_ms(session) else None


def raise_epoch(session: Session, name: str, *, above: int) -> int:
    """Makes sure that the epoch is greater than `above`, and returns it.

    A node that saw a higher epoch than SQL knows (the database was restored or lost) would refuse every push for ever.
    """
    insert_if_absent(session, ControllerLease, name=name, holder="", epoch=0, expires_at_ms=0)
    row = _lock(session, name)
    assert row is not None
    if row.epoch > above:
        return row.epoch
    session.execute(update(ControllerLease).where(ControllerLease.name == name).values(epoch=above + 1))
    return above + 1


def _lock(session: Session, name: str) -> Lease | None:
    columns = (ControllerLease.name, ControllerLease.holder, ControllerLease.epoch, ControllerLease.expires_at_ms)
    row = session.execute(select(*columns).where(ControllerLease.name == name).with_for_update()).one_or_none()
    return None if row is None else Lease(*row)
