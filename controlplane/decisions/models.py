"""Tables: `policies`, `decisions` and `performance_models`."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.db import Base, Id
from controlplane.ids import new_id


class PolicyRecord(Base):
    """A version of a pool's policy (objective, guardrails, autonomy, canary); without a row the defaults hold as version 0."""

    __tablename__ = "policies"
    __table_args__ = (UniqueConstraint("pool_id", "version"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    pool_id: Mapped[str] = mapped_column(ForeignKey("pools.id"))
    version: Mapped[int]
    document: Mapped[dict[str, Any]]
    created_by: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[datetime]


class DecisionRecord(Base):
    """One decision, kept for good. Repeated equal holds are one row whose `repeats` and `last_at` grow.

    `inputs` holds everything that `decide()` was given, so that the decision can be replayed exactly. `burn` follows from them
    (`error_budget.Burn`, as JSON with its words), and stands beside them since they are long and it is read often.
    """

    __tablename__ = "decisions"
    __table_args__ = (Index("ix_decisions_pool_id_at", "pool_id", "at"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    pool_id: Mapped[str] = mapped_column(ForeignKey("pools.id"))
    at: Mapped[datetime] = mapped_column(index=True)
    last_at: Mapped[datetime]
    repeats: Mapped[int] = mapped_column(default=1)
    outcome: Mapped[str] = mapped_column(String(16), index=True)
    reason: Mapped[str] = mapped_column(String(48))
    explanation: Mapped[str] = mapped_column(Text)
    trigger: Mapped[str] = mapped_column(String(32))
    actor: Mapped[str] = mapped_column(String(128))
    mode: Mapped[str] = mapped_column(String(16))
    epoch: Mapped[int]
    code_version: Mapped[str] = mapped_column(String(32))
    previous: Mapped[dict[str, Any]]
    chosen: Mapped[dict[str, Any] | None]
    inputs: Mapped[dict[str, Any]]
    forecast: Mapped[dict[str, Any]]
    breach_probability: Mapped[float | None]
    burn: Mapped[dict[str, Any] | None]
    candidates: Mapped[list[dict[str, Any]]]
    constraints: Mapped[list[dict[str, Any]]]
    rollout_id: Mapped[str | None] = mapped_column(Id)


class PerformanceModelRecord(Base):
    """What was learned of the pool's step times at one level: an arithmetic (precision, keys and values, pruning) on one kind of
    machine. `key` is the level's hash, `memory` a `step_memory.Memory`; what stands beside them is of it, for people."""

    __tablename__ = "performance_models"

    pool_id: Mapped[str] = mapped_column(ForeignKey("pools.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(32), primary_key=True)
    machine: Mapped[list[dict[str, Any]]]
    precision: Mapped[str] = mapped_column(String(16))
    kv_precision: Mapped[str] = mapped_column(String(16))
    pruning: Mapped[float]
    memory: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    in_force: Mapped[bool]
    windows: Mapped[int]
    error_ratio: Mapped[float | None]
    epoch: Mapped[int]
    updated_at: Mapped[datetime] = mapped_column(index=True)
