"""Tables: `fleets`, `pools`, `general_freeze`, `pool_alarms`, `nodes`, `settings_revisions`."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, ForeignKey, Index, String, Text, UniqueConstraint, false
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column, relationship

from controlplane.db import Base, Id
from controlplane.ids import new_id
from controlplane.sealing import SealedText


class Fleet(Base):
    __tablename__ = "fleets"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    created_at: Mapped[datetime]


class Pool(Base):
    """Nodes that serve one model under one objective; tuning and rollouts happen per pool.

    `current_revision_id` is what a new node gets: the last revision whose rollout completed, or the first node's own settings.
    `home_revision_id` is the last of those that somebody else than the controller wished for: what it leads back to.
    """

    __tablename__ = "pools"
    __table_args__ = (UniqueConstraint("fleet_id", "name"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    fleet_id: Mapped[str] = mapped_column(ForeignKey("fleets.id"))
    name: Mapped[str] = mapped_column(String(63))
    model: Mapped[str] = mapped_column(String(255))
    current_revision_id: Mapped[str | None] = mapped_column(Id)
    home_revision_id: Mapped[str | None] = mapped_column(Id)
    frozen_at: Mapped[datetime | None]
    frozen_reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]

    fleet: Mapped[Fleet] = relationship(lazy="joined")


class GeneralFreeze(Base):
    """While its one row stands, no pool may change, whichever there are. Pools keep their own freezes beside it."""

    __tablename__ = "general_freeze"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(String(128))


class PoolAlarm(Base):
    """Somebody asks that the pool be protected. `id` is theirs; told_at: when they last said so."""

    __tablename__ = "pool_alarms"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    pool_id: Mapped[str] = mapped_column(ForeignKey("pools.id"), index=True)
    reason: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime]
    told_at: Mapped[datetime]


class SettingsRevision(Base):
    """A version of a pool's settings. Immutable; `number` only grows within its pool.

    is_trial: made to be tried on one node under a lease, so never in force on the pool.
    """

    __tablename__ = "settings_revisions"
    __table_args__ = (UniqueConstraint("pool_id", "number"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    pool_id: Mapped[str] = mapped_column(ForeignKey("pools.id"))
    number: Mapped[int]
    settings: Mapped[dict[str, Any]]
    content_hash: Mapped[str] = mapped_column(String(16))
    created_by: Mapped[str] = mapped_column(String(128))
    reason: Mapped[str] = mapped_column(Text, default="")
    is_trial: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[datetime]


class Node(Base):
    """One engine process: who it is, what is desired of it, and what it last observed of itself.

    `desired_generation` numbers the wishes for this node and only grows; `observed_*` come from acknowledgements and
    heartbeats. `refusals` counts those in a row. A node in quarantine keeps what it has; a removed one is kept for history,
    until one of its name joins again. The node is in sync when desired_generation == observed_generation and the hashes agree.
    """

    __tablename__ = "nodes"
    __table_args__ = (UniqueConstraint("pool_id", "name"), Index("ix_nodes_pool_id", "pool_id"))

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    pool_id: Mapped[str] = mapped_column(ForeignKey("pools.id"))
    name: Mapped[str] = mapped_column(String(63))
    url: Mapped[str] = mapped_column(String(255))
    admin_token: Mapped[str] = mapped_column(SealedText)
    token_hash: Mapped[str] = mapped_column(String(64), index=True)
    instance_id: Mapped[str] = mapped_column(String(64))
    version: Mapped[str] = mapped_column(String(32))
    capabilities: Mapped[dict[str, Any]]
    hardware: Mapped[dict[str, Any]]
    step_profile: Mapped[dict[str, Any]] = mapped_column(default=dict)
    registered_at: Mapped[datetime]
    started_at: Mapped[datetime]

    state: Mapped[str] = mapped_column(String(16))
    last_heartbeat_at: Mapped[datetime]
    unreachable_since: Mapped[datetime | None]
    running: Mapped[int] = mapped_column(default=0)
    waiting: Mapped[int] = mapped_column(default=0)
    kv_usage: Mapped[float] = mapped_column(default=0.0)

    desired_generation: Mapped[int] = mapped_column(default=0)
    desired_epoch: Mapped[int] = mapped_column(default=0)
    desired_revision_id: Mapped[str | None] = mapped_column(ForeignKey("settings_revisions.id"))
    desired_since: Mapped[datetime | None]
    # What is desired is an experiment: the node goes back to its pool's settings so long after it applied it.
    lease_s: Mapped[float | None]
    # What it shall score again of what it serves under the present wish, and what came of it (contract/served.py).
    watch: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    served: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    # The last part of what it wrote down on its own that was taken: each is taken once.
    history_number: Mapped[int] = mapped_column(BigInteger, default=0)

    observed_generation: Mapped[int] = mapped_column(default=0)
    observed_epoch: Mapped[int] = mapped_column(default=0)
    observed_hash: Mapped[str] = mapped_column(String(16))
    observed_settings: Mapped[dict[str, Any]]
    observed_at: Mapped[datetime]
    # The life of the node that said so; its registration may be older than what it said since.
    observed_instance_id: Mapped[str | None] = mapped_column(String(64), default=None)
    applied_step: Mapped[int] = mapped_column(BigInteger, default=0)
    preparing_generation: Mapped[int | None]
    rejected_generation: Mapped[int | None]
    rejected_reason: Mapped[str | None] = mapped_column(Text)
    drifted: Mapped[bool] = mapped_column(default=False)
    edited: Mapped[bool] = mapped_column(default=False)
    refusals: Mapped[int] = mapped_column(default=0)
    quarantined_until: Mapped[datetime | None]
    quarantined_reason: Mapped[str | None] = mapped_column(Text)
    removed_at: Mapped[datetime | None]

    @hybrid_property
    def is_there(self) -> bool:
        return self.removed_at is None

    @is_there.inplace.expression
    @classmethod
    def _is_there(cls) -> ColumnElement[bool]:
        return cls.removed_at.is_(None)

    pool: Mapped[Pool] = relationship(lazy="joined")
    desired_revision: Mapped[SettingsRevision | None] = relationship(lazy="joined")
