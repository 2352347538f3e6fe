"""Analysis windows: which are due, fetched from Prometheus outside any transaction, and kept in SQL with their rollout."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from controlplane.db import insert_if_absent
from controlplane.rollouts.models import RolloutWindow
from controlplane.rollouts.phases import RolloutPhase
from controlplane.rollouts.snapshot import KEPT_LOOKS, RolloutSnapshot
from controlplane.telemetry.collector import Collector
from controlplane.telemetry.observation import NodeRef, Observation
from controlplane.telemetry.prometheus import PrometheusUnavailable as PrometheusUnavailable

P = RolloutPhase
_JUDGED = {P.ANALYZING, P.PROMOTING, P.BAKING}
MAX_AT_ONCE = 24

ByEnd = Mapping[datetime, Mapping[str, Observation]]  # window end -> node id -> facts


def due(rollout: RolloutSnapshot, now: datetime) -> list[datetime]:
    """Ends of the windows that the rollout needs and does not have, oldest first."""
    if rollout.is_direct:
        return []
    phase = rollout.paused_from if rollout.phase is P.PAUSED else rollout.phase
    if phase is P.BASELINING:
        slots = rollout.pre_slots(now)
    elif phase in _JUDGED:
        slots = rollout.post_slots(now)
    else:
        return []
    needed = [node.id for node in measured(rollout)]
    there = {node_id: {seen.window_end for seen in rollout.windows.get(node_id, ())} for node_id in needed}
    return [slot for slot in slots if any(slot not in there[node_id] for node_id in needed)][:MAX_AT_ONCE]


def measured(rollout: RolloutSnapshot) -> list[NodeRef]:
    """Canary and control, and whatever else runs the new settings by now."""
    arms = {*rollout.plan.canary, *rollout.plan.control}
    return [NodeRef(node.id, node.name) for node in rollout.nodes if node.id in arms or node.touched]


def fetch(rollout: RolloutSnapshot, collector: Collector, ends: Sequence[datetime]) -> ByEnd:
    """The windows that end then; past ones, too, since Prometheus remembers. Raises PrometheusUnavailable."""
    nodes, window_s = measured(rollout), rollout.plan.policy.window_s
    return {end: collector.collect_nodes(nodes, end, window_s) for end in ends}


def save(session: Session, rollout_id: str, found: ByEnd) -> None:
    """A window that is there already stays as it is."""
    for end, nodes in found.items():
        for node_id, seen in nodes.items():
            insert_if_absent(
                session,
                RolloutWindow,
                rollout_id=rollout_id,
                node_id=node_id,
                window_end=end,
                window_s=seen.window_s,
                quality=seen.quality.value,
                facts=seen.to_json(),
            )


def load(
    session: Session, rollout_id: str, *, judged_from: datetime | None, now: datetime, window_s: float, windows: int
) -> dict[str, list[Observation]]:
    """By node id, oldest first: the baseline, the planned looks, and the newest ones."""
    query = select(RolloutWindow).where(RolloutWindow.rollout_id == rollout_id).order_by(RolloutWindow.window_end)
    if judged_from is not None:
        kept = timedelta(seconds=(KEPT_LOOKS * windows + 1) * window_s)
        query = query.where(or_(RolloutWindow.window_end <= judged_from + kept, RolloutWindow.window_end >= now - kept))
    found: dict[str, list[Observation]] = defaultdict(list)
    for row in session.scalars(query):
        seen = Observation.from_json(row.window_end, row.window_s, row.quality, row.facts)
        found[row.node_id].append(seen)
    return found
