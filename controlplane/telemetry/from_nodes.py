"""What nodes wrote down while we were away: their windows become observations, and what they changed is told in the history."""

import math
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node
from controlplane.telemetry.collector import observation_of
from controlplane.telemetry.histograms import bucket_quantile
from controlplane.telemetry.observation import Observation, Quality, finite
from controlplane.telemetry.queries import TRIMTAB, EngineAdapter
from controlplane.telemetry.service import save_nodes
from inference_node.contract.history import NodeHistory, NodeWindow

# Clocks of nodes differ from ours, by less than this where somebody keeps them.
CLOCK_S = 60.0
# Longer than a node keeps them; what is older would be cleared away at once.
OLDEST = timedelta(days=7)


def take_history(session: Session, node_id: str, part: NodeHistory, *, now: datetime) -> bool:
    """Keeps the part, once: False for one that was taken before. A window that Prometheus has told already stays as it is.

    Windows from the future or from long ago are left out, and counted in the event.
    """
    node = fleets.lock_node(session, node_id)
    if part.number <= node.history_number:
        return False
    node.history_number = part.number
    newest = now + timedelta(seconds=CLOCK_S)
    windows = [window for window in part.windows if now - OLDEST < window.end <= newest]
    for window in windows:
        save_nodes(session, {node.id: node.pool_id}, {node.id: observation(window)})
    _tell(session, node, part, left_out=len(part.windows) - len(windows), now=now)
    return True


def observation(window: NodeWindow, adapter: EngineAdapter = TRIMTAB) -> Observation:
    """The same facts as Prometheus would have told of the window, from the same metrics."""
    facts: dict[str, float | None] = {
        **{fact: window.increases.get(name) for fact, name in adapter.counters.items()},
        **{fact: window.gauges.get(name) for fact, name in adapter.gauges.items()},
        **{fact: window.gauges.get(name) for fact, name in adapter.means.items()},
        **{fact: _ratio(window, *pair) for fact, pair in adapter.ratios.items()},
        **{fact: _quantile(window, name, q) for fact, (name, q) in adapter.quantiles.items()},
    }
    known = {fact: value for fact, told in facts.items() if (value := finite(told)) is not None}
    return observation_of(window.end, window.window_s, Quality.OK, known, nodes_up=1)


def _ratio(window: NodeWindow, top: str, bottom: str) -> float | None:
    over, under = window.increases.get(top), window.increases.get(bottom)
    return None if over is None or not under else over / under


def _quantile(window: NodeWindow, histogram: str, q: float) -> float | None:
    counts = window.buckets.get(histogram, {})
    try:
        return bucket_quantile(q, {float(bound): count for bound, count in counts.items() if math.isfinite(count)})
    except ValueError:  # a bound that is no number
        return None


def _tell(session: Session, node: Node, part: NodeHistory, *, left_out: int, now: datetime) -> None:
    for change in part.changes:
        words = ", ".join(f"{knob} {old} → {new}" for knob, (old, new) in change.changes.items())
        events.record(
            session, kind=EventKind.NODE_CHANGED_AWAY, at=now, actor=f"node:{node.name}", pool_id=node.pool_id,
            node_id=node.id,
            message=f"Node {node.name} changed its settings while it was on its own, at {change.at:%Y-%m-%d %H:%M:%S} UTC "
            f"by {change.by.value}: {words}",
            data={"at": change.at.isoformat(), "by": change.by.value, "generation": change.generation,
                  "changes": {knob: list(pair) for knob, pair in change.changes.items()}},
        )  # fmt: skip
    if part.windows:
        words = f"; {left_out} of a time that cannot be were left out" if left_out else ""
        events.record(
            session, kind=EventKind.NODE_HISTORY_TAKEN, at=now, actor=f"node:{node.name}", pool_id=node.pool_id,
            node_id=node.id,
            message=f"Node {node.name} told {len(part.windows)} windows from {part.windows[0].end:%Y-%m-%d %H:%M:%S} to "
            f"{part.windows[-1].end:%H:%M:%S} UTC, when it was on its own{words}",
            data={"windows": len(part.windows), "left_out": left_out, "since": part.away_since.isoformat()},
        )  # fmt: skip
