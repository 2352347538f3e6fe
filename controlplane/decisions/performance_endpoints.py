"""What was learned of a pool's step times, for people."""

from typing import Self

from fastapi import APIRouter
from pydantic import Field

from controlplane.accounts.dependencies import require
from controlplane.accounts.roles import Role
from controlplane.decisions.models import PerformanceModelRecord
from controlplane.decisions.step_memory.levels import share_left
from controlplane.decisions.step_memory.memory import Memory, ModelState
from controlplane.decisions.step_memory.store import readable, records
from controlplane.dependencies import Now, ReadSession
from controlplane.fleets import service as fleets
from controlplane.problem import declared
from controlplane.schemas import Out, UtcTime
from inference_node.contract.settings import KvPrecision, Precision

router = APIRouter(tags=["decisions"])


class MachineOut(Out):
    """A kind of node that was among the pool's, as its nodes call themselves."""

    hardware: str
    model: str
    engine_version: str


class FactorsOut(Out):
    """How many times as long as the nodes expect each part of a step takes in service."""

    base: float
    rows: float
    prefill: float


class PerformanceModelOut(Out):
    """What was learned of one level: an arithmetic on one kind of machine."""

    precision: Precision
    kv_precision: KvPrecision
    pruning: float = Field(description="upper edge of a bucket of pruning_threshold, 0.1 wide; 0 is dense")
    machine: list[MachineOut]
    state: ModelState = Field(
        description="learning: too few windows, decisions do not look at it yet; level: one factor for all, as three cannot be "
        "told apart yet or foretell windows no better; ready: three; degraded: the machine changed and is learned anew"
    )
    factors: FactorsOut
    windows: int = Field(description="learned from")
    error_ratio: float | None = Field(description="running mean of how far off a step was from what was said before")
    fast_error_ratio: float | None = Field(description="median over the last eight windows, of the factors alone")
    changes: int = Field(description="how often the machine was found changed")
    in_force_since: UtcTime | None = Field(description="null while other settings are in force")
    learned_at: UtcTime | None
    share: float = Field(ge=0, le=1, description="how much of it still counts; half after a day out of force")

    @classmethod
    def of(cls, row: PerformanceModelRecord, memory: Memory, share: float) -> Self:
        base, rows, prefill = memory.told
        return cls(
            precision=Precision(row.precision),
            kv_precision=KvPrecision(row.kv_precision),
            pruning=row.pruning,
            machine=[MachineOut.model_validate(node) for node in row.machine],
            state=memory.state,
            factors=FactorsOut(base=base, rows=rows, prefill=prefill),
            windows=memory.windows,
            error_ratio=memory.error,
            fast_error_ratio=memory.fast_error,
            changes=memory.changes,
            in_force_since=memory.in_force_since,
            learned_at=memory.learned_at,
            share=share,
        )


class PerformanceOut(Out):
    pool_id: str
    levels: list[PerformanceModelOut] = Field(description="in force first, then what was learned last")


@router.get("/pools/{pool_id}/performance", dependencies=[require(Role.VIEWER)], responses=declared(401, 403, 404, 422))
def get_pool_performance(pool_id: str, session: ReadSession, now: Now) -> PerformanceOut:
    """What service taught of the pool's step times, by level; kept for 30 days after the last window of it."""
    pool = fleets.get_pool(session, pool_id)
    found = [(row, memory) for row in records(session, pool.id) if (memory := readable(row)) is not None]
    found.sort(key=lambda each: (each[1].in_force_since is not None, each[0].updated_at), reverse=True)
    return PerformanceOut(
        pool_id=pool.id,
        levels=[PerformanceModelOut.of(row, memory, share_left(memory, now)) for row, memory in found],
    )
