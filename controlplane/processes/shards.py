"""Which controller leads which pools: the pools are dealt into shards, each shard has a lease, the controllers share these out.

The number of shards is fixed, so that no two controllers can differ about where a pool belongs; how many controllers there
are may change at any time. Each renews what it holds, gives up what is beyond its share and takes what is free within it.
"""

import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from controlplane.db import database_now_ms, insert_if_absent
from controlplane.processes import lease
from controlplane.processes.models import ControllerMember

# More controllers than this find nothing to lead and stand by. A change of it moves pools between leases: it takes a migration.
SHARDS = 16
NAMES = tuple(f"pools-{shard:02d}" for shard in range(SHARDS))
# A member that went without a word is forgotten after so many leases.
_FORGOTTEN_AFTER = 20


def shard_of(pool_id: str) -> int:
    return zlib.crc32(pool_id.encode()) % SHARDS


def lease_of(pool_id: str) -> str:
    """The name of the lease under which the pool is led."""
    return NAMES[shard_of(pool_id)]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a controller leads. epochs: by name of the lease."""

    epochs: Mapping[str, int]

    @classmethod
    def everywhere(cls, epoch: int) -> Self:
        """Of one controller that leads all pools under one epoch."""
        return cls(dict.fromkeys(NAMES, epoch))

    def of(self, pool_id: str) -> int | None:
        """The epoch to write under, None for a pool that somebody else leads."""
        return self.epochs.get(lease_of(pool_id))

    def __bool__(self) -> bool:
        return bool(self.epochs)


NOTHING = Terms({})


@dataclass(frozen=True, slots=True)
class Share:
    """What a controller holds, and how many shards are its part: with fewer it asks again soon."""

    terms: Terms
    quota: int


@dataclass(frozen=True, slots=True)
class Leader:
    """A controller that leads now. epoch: the newest of its shards; expires_at: the earliest of their ends."""

    holder: str
    shards: frozenset[int]
    epoch: int
    expires_at: datetime


def share_out(session: Session, *, holder: str, lease_s: float) -> Share:
    """Renews what `holder` has, hands back what is beyond its part, takes what is free within it.

    A newcomer takes part in the sharing after one lease of time, unless nobody else does: pools are not handed to a process
    that dies each time it starts.
    """
    now_ms = database_now_ms(session)
    parts = _quotas(_members(session, holder, lease_s, now_ms))
    quota = parts.get(holder, 0)
    rows = lease.current(session, NAMES)
    mine = [name for name in NAMES if _is_held(rows.get(name), now_ms) and rows[name].holder == holder]
    free = [name for name in NAMES if not _is_held(rows.get(name), now_ms)]
    if len(mine) > quota:
        lease.release(session, names=mine[quota:], holder=holder)
        mine = mine[:quota]
    wanted = mine + free[: max(0, quota - len(mine))]
    held = lease.acquire_or_renew(
        session, names=wanted, holder=holder, lease_s=lease_s, what=_words(free, quota - len(mine))
    )
    return Share(Terms({name: each.epoch for name, each in held.items()}), quota)


def leave(session: Session, holder: str) -> None:
    """Hands everything back, so that the others need not wait for its end."""
    lease.release(session, names=NAMES, holder=holder)
    session.execute(delete(ControllerMember).where(ControllerMember.holder == holder))


def assert_leads(session: Session, pool_id: str, epoch: int) -> None:
    """Raises Fenced unless the pool is still led under `epoch`; a takeover then waits until this transaction has ended."""
    lease.assert_holds(session, {lease_of(pool_id): epoch})


def assert_leads_all(session: Session, terms: Terms, pool_ids: Iterable[str]) -> None:
    """`assert_leads` for several pools. Raises Fenced when one of them is not led under these terms."""
    lease.assert_holds(session, {lease_of(pool_id): terms.epochs.get(lease_of(pool_id), -1) for pool_id in pool_ids})


def epoch_of(session: Session, pool_id: str) -> int:
    """The newest epoch under which the pool was ever led, 0 when it never was: for wishes that people make."""
    name = lease_of(pool_id)
    held = lease.current(session, [name]).get(name)
    return 0 if held is None else held.epoch


def leaders(session: Session) -> list[Leader]:
    """Who leads now, most shards first."""
    by_holder: dict[str, list[lease.Lease]] = {}
    for held in lease.current_holders(session, NAMES).values():
        by_holder.setdefault(held.holder, []).append(held)
    found = [
        Leader(
            holder,
            frozenset(NAMES.index(each.name) for each in terms),
            max(each.epoch for each in terms),
            min(each.expires_at for each in terms),
        )
        for holder, terms in by_holder.items()
    ]
    return sorted(found, key=lambda leader: (-len(leader.shards), leader.holder))


def _members(session: Session, holder: str, lease_s: float, now_ms: int) -> list[str]:
    """Notes that `holder` is there, and returns those who share."""
    expires_at_ms = now_ms + round(lease_s * 1000)
    insert_if_absent(session, ControllerMember, holder=holder, joined_at_ms=now_ms, expires_at_ms=expires_at_ms)
    own = session.get_one(ControllerMember, holder, populate_existing=True)
    if own.expires_at_ms <= now_ms:
        own.joined_at_ms = now_ms  # it was away
    own.expires_at_ms = expires_at_ms
    session.flush()
    forgotten = ControllerMember.expires_at_ms < now_ms - round(_FORGOTTEN_AFTER * lease_s * 1000)
    session.execute(delete(ControllerMember).where(forgotten))
    there = list(session.scalars(select(ControllerMember).where(ControllerMember.expires_at_ms > now_ms)))
    # Was heard of a lease after it came.
    settled = [member for member in there if member.expires_at_ms - member.joined_at_ms >= round(2000 * lease_s)]
    return [member.holder for member in settled or there]


def _quotas(members: Collection[str]) -> dict[str, int]:
    """How many shards each leads: all of them together, and no two differ by more than one."""
    least, more = divmod(SHARDS, len(members))
    return {name: least + (place < more) for place, name in enumerate(sorted(members))}


def _is_held(held: lease.Lease | None, now_ms: int) -> bool:
    return held is not None and held.expires_at_ms > now_ms


def _words(free: list[str], room: int) -> str:
    count = min(len(free), max(0, room))
    return "all pools" if count == SHARDS else f"{count} of {SHARDS} parts of the pools"
