"""The evidence behind a rollout's verdicts, as clients draw it."""

from collections.abc import Sequence

from pydantic import Field
from sqlalchemy.orm import Session

from controlplane.rollouts.arms import ArmWindow, Pair
from controlplane.rollouts.schemas import AnalysisOut, list_analyses
from controlplane.rollouts.snapshot import RolloutSnapshot
from controlplane.schemas import Out, UtcTime


class ArmWindowOut(Out):
    """Latencies in seconds, the geometric mean over the arm's nodes, null when no request finished; counts are sums."""

    ttft_p95_s: float | None
    itl_p95_s: float | None
    requests: int
    errors: int
    rejected: int
    offered_rps: float = Field(description="per node")


class PairOut(Out):
    """One window of both arms; `control` is null in a pool without one."""

    end: UtcTime
    canary: ArmWindowOut
    control: ArmWindowOut | None


class RolloutAnalysisOut(Out):
    """`before` and `after` are compared with each other, difference by difference; `watched` is the new settings by themselves,
    once the control has them, too."""

    canary: list[str] = Field(description="names of the nodes that change first")
    control: list[str] = Field(description="names of those they are compared with")
    window_s: float
    windows_wanted: int = Field(description="before, and again after, for a planned look")
    margin: float = Field(description="share by which a latency may get worse before it counts as worse")
    min_requests: int = Field(description="per arm, without which there is no verdict")
    judged_from: UtcTime | None = Field(description="when the canary's new settings had settled")
    before: list[PairOut] = Field(description="oldest first")
    after: list[PairOut]
    watched: list[PairOut]
    analyses: list[AnalysisOut] = Field(description="newest first")


def analysis_out(session: Session, seen: RolloutSnapshot) -> RolloutAnalysisOut:
    plan, names = seen.plan, {node.id: node.name for node in seen.nodes}
    return RolloutAnalysisOut(
        canary=[names[node_id] for node_id in plan.canary if node_id in names],
        control=[names[node_id] for node_id in plan.control if node_id in names],
        window_s=plan.policy.window_s,
        windows_wanted=plan.policy.windows,
        margin=plan.policy.margin,
        min_requests=plan.policy.min_requests,
        judged_from=seen.judged_from,
        before=_pairs(seen.pre()),
        after=_pairs(seen.post()),
        watched=_pairs(seen.watched()),
        analyses=list_analyses(session, seen.id),
    )


def _pairs(found: Sequence[Pair]) -> list[PairOut]:
    return [
        PairOut(
            end=pair.end, canary=_window(pair.canary), control=None if pair.control is None else _window(pair.control)
        )
        for pair in found
    ]


def _window(window: ArmWindow) -> ArmWindowOut:
    return ArmWindowOut.model_validate(window)
