"""Which events begin a trouble and which end it, for receivers that know troubles: PagerDuty, Alertmanager. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.events.kinds import EventKind as E
from controlplane.events.kinds import Severity


@dataclass(frozen=True, slots=True)
class Incident:
    """name: in CamelCase, as alerts are called. subject: what it is about, by the event's member. severity: the same at both
    ends, since it is a label of the alert and so part of what it is."""

    name: str
    subject: str
    severity: str
    begins: tuple[E, ...]
    ends: tuple[E, ...]


INCIDENTS = (
    Incident("NodeUnreachable", "node_id", "warning", (E.NODE_UNREACHABLE,), (E.NODE_RECOVERED, E.NODE_REMOVED)),
    Incident("NodeQuarantined", "node_id", "warning", (E.NODE_QUARANTINED,), (E.NODE_RELEASED, E.NODE_REMOVED)),
    Incident("BreachPredicted", "pool_id", "warning", (E.FORECAST_BREACH_PREDICTED,), (E.FORECAST_BREACH_CLEARED,)),
    Incident("EverythingFrozen", "everything", "warning", (E.CONTROL_FROZEN,), (E.CONTROL_UNFROZEN,)),
    Incident("SpikePredicted", "pool_id", "warning", (E.FORECAST_SPIKE_PREDICTED,), (E.FORECAST_SPIKE_CLEARED,)),
    Incident("ErrorBudgetBurns", "pool_id", "warning", (E.SLO_BURNING,), (E.SLO_RECOVERED,)),
    Incident("CapacityInsufficient", "pool_id", "warning", (E.CAPACITY_INSUFFICIENT,), (E.CAPACITY_SUFFICIENT,)),
    Incident("ModelDegraded", "pool_id", "warning", (E.MODEL_DEGRADED,), (E.MODEL_RECOVERED,)),
    Incident("PoolFrozen", "pool_id", "warning", (E.POOL_FROZEN,), (E.POOL_UNFROZEN,)),
    Incident(
        "RolloutApprovalRequired", "rollout_id", "info", (E.ROLLOUT_APPROVAL_REQUIRED,),
        (E.ROLLOUT_APPROVED, E.ROLLOUT_REJECTED, E.ROLLOUT_EXPIRED, E.ROLLOUT_SUPERSEDED, E.ROLLOUT_CANCELLED),
    ),
    Incident(
        "RolloutPaused", "rollout_id", "warning", (E.ROLLOUT_PAUSED,),
        (E.ROLLOUT_RESUMED, E.ROLLOUT_PROMOTING, E.ROLLOUT_COMPLETED, E.ROLLOUT_ROLLING_BACK, E.ROLLOUT_CANCELLED),
    ),
    Incident("RollbackFailed", "rollout_id", "error", (E.ROLLOUT_ROLLBACK_FAILED,), ()),
    Incident("MeshFailed", "pool_id", "warning", (E.MESH_FAILED,), (E.MESH_APPLIED,)),
    Incident("WebhookDisabled", "webhook_id", "warning", (E.WEBHOOK_DISABLED,), (E.WEBHOOK_ENABLED, E.WEBHOOK_REMOVED)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """An incident's beginning, or its end. key: the same for both. subject: (member, id), None for what is about all."""

    name: str
    key: str
    severity: str
    is_end: bool
    subject: tuple[str, str] | None


def ends_one(kind: str) -> bool:
    return any(kind in incident.ends for incident in INCIDENTS)


def is_one(kind: str, severity: str) -> bool:
    """Whether an event begins or ends an incident. What is no good news and stands in no list begins one that nothing ends."""
    listed = any(kind in incident.begins or kind in incident.ends for incident in INCIDENTS)
    return listed or severity != Severity.INFO


def changes(event: Mapping[str, Any]) -> list[Change]:
    """What an event snapshot begins and ends; some end more than one."""
    found = []
    for incident in INCIDENTS:
        is_end = event["kind"] in incident.ends
        if not is_end and event["kind"] not in incident.begins:
            continue
        subject = event.get(incident.subject) or event["details"].get(incident.subject)
        about = None if subject is None else (incident.subject, str(subject))
        key = f"trimtab:{incident.name}:{subject or 'all'}"
        found.append(Change(incident.name, key, incident.severity, is_end, about))
    if found:
        return found
    name = "".join(part.capitalize() for part in event["kind"].replace(".", "_").split("_"))
    about = next(
        ((member, str(event[member])) for member in ("rollout_id", "node_id", "pool_id") if event.get(member)), None
    )
    return [Change(name, f"trimtab:{name}:{about[1] if about else 'all'}", str(event["severity"]), False, about)]
