"""Who leads, fenced: lease rows judged by the database's clock, whose epochs grow with each takeover.

A leader that was paused past its lease still believes that it leads; what stops it is `assert_holds` inside each of its
writing transactions, and the epoch that travels with each push to the nodes.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from controlplane.db import database_now_ms, insert_if_absent, table_of
from controlplane.errors import Fenced
from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.processes.models import ControllerLease

# Made once, since each tick of each pool asks it. In one order everywhere, so that no two transactions wait for one another.
_LEASES = table_of(ControllerLease).c
_HELD = select(_LEASES.name, _LEASES.epoch).order_by(_LEASES.name).with_for_update(read=True)
_ONE_HELD = _HELD.where(_LEASES.name == bindparam("name"))
_ALL_HELD = _HELD.where(_LEASES.name.in_(bindparam("names", expanding=True)))


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


def acquire_or_renew(
    session: Session, *, names: Collection[str], holder: str, lease_s: float, what: str = ""
) -> dict[str, Lease]:
    """Takes those of `names` that are free or expired, prolongs those that `holder` has; what it holds then, by name.

    `holder` must name one start of one process (`processes.service.process_name()` with something random), never two at
    once. What changes hands, also from an expired holder to itself, does so under one new epoch, above all that were, and is
    recorded as `control.leader_changed`, with `what` for people. The epoch may also grow under a holder that keeps the lease
    (`raise_epoch`): use those returned.
    """
    rows = _lock(session, names)
    for name in sorted(set(names) - rows.keys()):
        insert_if_absent(session, ControllerLease, name=name, holder="", epoch=0, expires_at_ms=0)
    if len(rows) < len(set(names)):
        rows = _lock(session, names)
    now_ms = database_now_ms(session)  # read after the locks: waiting for them may have taken long
    kept = {name: row for name, row in rows.items() if row.expires_at_ms > now_ms and row.holder == holder}
    free = {name: row for name, row in rows.items() if row.expires_at_ms <= now_ms}
    expires_at_ms = now_ms + round(lease_s * 1000)
    _write(session, kept, expires_at_ms=expires_at_ms)
    held = {name: Lease(name, holder, row.epoch, expires_at_ms) for name, row in kept.items()}
    if free:
        epoch = 1 + (session.scalar(select(func.max(ControllerLease.epoch))) or 0)
        _write(session, free, holder=holder, epoch=epoch, expires_at_ms=expires_at_ms)
        held |= {name: Lease(name, holder, epoch, expires_at_ms) for name in free}
        _tell(session, free, holder, epoch, what, datetime.fromtimestamp(now_ms / 1000, UTC))
    return held


def assert_holds(session: Session, terms: Mapping[str, int]) -> None:
    """Raises Fenced unless each lease (by name) still carries its epoch; takeovers then wait until this transaction has ended."""
    names = list(terms)
    held, given = (_ONE_HELD, {"name": names[0]}) if len(names) == 1 else (_ALL_HELD, {"names": names})
    rows = session.execute(held, given)
    current = {row.name: row.epoch for row in rows}
    for name, epoch in terms.items():
        if current.get(name) != epoch:
            raise Fenced(
                f"epoch {epoch} of the lease {name!r} is over (now {current.get(name)}): another controller leads, "
                "nothing was written",
                lease=name,
                epoch=epoch,
                current_epoch=current.get(name),
            )


def release(session: Session, *, names: Collection[str], holder: str) -> list[str]:
    """Ends the holder's terms at once, so that another need not wait for their expiry; those that it had."""
    mine = {name: row for name, row in _lock(session, names).items() if row.holder == holder and row.expires_at_ms > 0}
    _write(session, mine, expires_at_ms=0)
    return sorted(mine)


def current(session: Session, names: Collection[str]) -> dict[str, Lease]:
    """The leases as they stand, also expired ones; nothing for those that nobody ever held."""
    found = session.execute(select(*_COLUMNS).where(ControllerLease.name.in_(names)))
    return {row.name: Lease(*row) for row in found}


def current_holders(session: Session, names: Collection[str]) -> dict[str, Lease]:
    """The leases that someone holds now; without those that have expired or were released."""
    now_ms = database_now_ms(session)
    return {name: held for name, held in current(session, names).items() if held.holder and held.expires_at_ms > now_ms}


def raise_epoch(session: Session, name: str, *, above: int) -> int:
    """Makes sure that the epoch is greater than `above`, and returns it.

    A node that saw a higher epoch than SQL knows (the database was restored or lost) would refuse every push for ever.
    """
    insert_if_absent(session, ControllerLease, name=name, holder="", epoch=0, expires_at_ms=0)
    row = _lock(session, [name])[name]
    if row.epoch > above:
        return row.epoch
    session.execute(update(ControllerLease).where(ControllerLease.name == name).values(epoch=above + 1))
    return above + 1


_COLUMNS = (ControllerLease.name, ControllerLease.holder, ControllerLease.epoch, ControllerLease.expires_at_ms)


def _lock(session: Session, names: Collection[str]) -> dict[str, Lease]:
    query = select(*_COLUMNS).where(ControllerLease.name.in_(names)).order_by(ControllerLease.name).with_for_update()
    return {row.name: Lease(*row) for row in session.execute(query)}


def _write(session: Session, names: Collection[str], **values: object) -> None:
    if names:
        session.execute(update(ControllerLease).where(ControllerLease.name.in_(names)).values(**values))


def _tell(session: Session, taken: Mapping[str, Lease], holder: str, epoch: int, what: str, at: datetime) -> None:
    before = sorted({row.holder for row in taken.values() if row.holder})
    after = f"after {', '.join(before)}" if before else "no one before"
    events.record(
        session, kind=EventKind.CONTROL_LEADER_CHANGED, at=at, actor=holder,
        message=f"{holder} leads {what or ', '.join(sorted(taken))} as of epoch {epoch} ({after})",
        data={"leases": sorted(taken), "holder": holder, "epoch": epoch, "previous_holders": before},
    )  # fmt: skip
