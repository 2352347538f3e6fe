"""Tables: `rollouts`, `rollout_nodes`, `rollout_approvals`, `rollout_windows`, `analyses`, `explorations`.

The history of a rollout is its rows in `events`."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.db import Base, BigId, Id
from controlplane.ids import new_id


class Rollout(Base):
    """A change from one revision to another. Every move is a compare-and-set on (phase, version) under the writer's epoch.

    `active_pool_id` is the pool while the rollout is under way and empty after its end: its unique key keeps a pool to one.
    `request*` is a person's wish that the controller has not met yet; `paused_*` say where a pause leads back to, and what
    lifts it. `not_before` is when it may begin, `expires_at` until when it must have.
    """

    __tablename__ = "rollouts"
    __table_args__ = (Index("ix_rollouts_pool_id_created_at", "pool_id", "created_at"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    pool_id: Mapped[str] = mapped_column(ForeignKey("pools.id"))
    active_pool_id: Mapped[str | None] = mapped_column(Id, unique=True)
    decision_id: Mapped[str | None] = mapped_column(ForeignKey("decisions.id"))
    from_revision_id: Mapped[str] = mapped_column(ForeignKey("settings_revisions.id"))
    to_revision_id: Mapped[str] = mapped_column(ForeignKey("settings_revisions.id"))
    phase: Mapped[str] = mapped_column(String(24), index=True)
    phase_since: Mapped[datetime]
    version: Mapped[int] = mapped_column(default=1)
    epoch: Mapped[int]
    step: Mapped[int] = mapped_column(default=0)
    plan: Mapped[dict[str, Any]]
    request: Mapped[str | None] = mapped_column(String(24))
    request_actor: Mapped[str | None] = mapped_column(String(128))
    request_reason: Mapped[str | None] = mapped_column(Text)
    paused_from: Mapped[str | None] = mapped_column(String(24))
    paused_by: Mapped[str | None] = mapped_column(String(16))
    paused_reason: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str | None] = mapped_column(Text)
    created_by: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[datetime]
    approvals_needed: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class RolloutNode(Base):
    """A node's part in a rollout: its role, the generation that it was sent, and how far it is.

    `instance_id` is the process that was there when the new settings were sent: another one means that it restarted since.
    """

    __tablename__ = "rollout_nodes"
    __table_args__ = (UniqueConstraint("rollout_id", "node_id"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    rollout_id: Mapped[str] = mapped_column(ForeignKey("rollouts.id"))
    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.id"))
    role: Mapped[str] = mapped_column(String(16))
    wave: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    generation: Mapped[int | None]
    instance_id: Mapped[str | None] = mapped_column(String(64))
    dispatched_at: Mapped[datetime | None]
    applied_at: Mapped[datetime | None]
    detail: Mapped[str | None] = mapped_column(Text)


class RolloutApproval(Base):
    """What a person thinks of the settings with this hash: one row a person and rollout."""

    __tablename__ = "rollout_approvals"
    __table_args__ = (UniqueConstraint("rollout_id", "actor"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    rollout_id: Mapped[str] = mapped_column(ForeignKey("rollouts.id"))
    actor: Mapped[str] = mapped_column(String(128))
    at: Mapped[datetime]
    settings_hash: Mapped[str] = mapped_column(String(16))
    agrees: Mapped[bool]
    comment: Mapped[str] = mapped_column(Text, default="")


class RolloutWindow(Base):
    """One analysis window of one node: what the verdict rests on, kept with the rollout. `facts` is an Observation as JSON."""

    __tablename__ = "rollout_windows"
    __table_args__ = (UniqueConstraint("rollout_id", "node_id", "window_end"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    rollout_id: Mapped[str] = mapped_column(ForeignKey("rollouts.id"))
    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.id"))
    window_end: Mapped[datetime]
    window_s: Mapped[float]
    quality: Mapped[str] = mapped_column(String(16))
    facts: Mapped[dict[str, Any]]


class Analysis(Base):
    """One look at canary against baseline: verdict, and per metric the samples, effect, interval and margin."""

    __tablename__ = "analyses"
    __table_args__ = (Index("ix_analyses_rollout_id_at", "rollout_id", "at"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    rollout_id: Mapped[str] = mapped_column(ForeignKey("rollouts.id"))
    at: Mapped[datetime]
    verdict: Mapped[str] = mapped_column(String(16))
    explanation: Mapped[str] = mapped_column(Text)
    measurements: Mapped[list[dict[str, Any]]]


class Exploration(Base):
    """Settings that the controller tries on one node under a lease, and what came of it.

    `active_pool_id` is the pool until the outcome is known and empty after: its unique key keeps a pool to one. The node goes
    back at `ended_at`, and its last windows come a tick later. `unfit`: it was ended since the settings did harm.
    `generation` and `instance_id` are the node's wish and process then: others mean that the try is over. `choice` is
    `decisions.exploration.Chosen`, `asked` what it rests on (`Asked`, for an exact replay), `outcome` a `TryOutcome`; `served`
    is what the node told last of its answers.
    """

    __tablename__ = "explorations"
    __table_args__ = (Index("ix_explorations_pool_id_at", "pool_id", "at"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    pool_id: Mapped[str] = mapped_column(ForeignKey("pools.id"))
    active_pool_id: Mapped[str | None] = mapped_column(Id, unique=True)
    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.id"))
    revision_id: Mapped[str] = mapped_column(ForeignKey("settings_revisions.id"))
    arm: Mapped[str] = mapped_column(String(16))
    at: Mapped[datetime]
    lease_s: Mapped[float]
    generation: Mapped[int]
    instance_id: Mapped[str] = mapped_column(String(64))
    epoch: Mapped[int]
    code_version: Mapped[str] = mapped_column(String(32))
    settings: Mapped[dict[str, Any]]
    base: Mapped[dict[str, Any]]
    explanation: Mapped[str] = mapped_column(Text)
    choice: Mapped[dict[str, Any]]
    asked: Mapped[dict[str, Any]]
    applied_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    ended_why: Mapped[str | None] = mapped_column(Text)
    unfit: Mapped[bool] = mapped_column(default=False)
    verdict: Mapped[str | None] = mapped_column(String(16))
    outcome: Mapped[dict[str, Any] | None]
    served: Mapped[dict[str, Any] | None]
