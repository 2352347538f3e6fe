"""Brings together what `decide()` is given: reads SQL and fits step times, decides nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from controlplane.decisions.decision import DecisionInputs, NodeFacts, PastChange
from controlplane.decisions.freezing import frozen_reason
from controlplane.decisions.models import DecisionRecord
from controlplane.decisions.node_fits import offered_step_times
from controlplane.decisions.performance import workload_of
from controlplane.decisions.policies import current_policy
from controlplane.decisions.policy import Policy
from controlplane.decisions.reasons import Outcome, Trigger
from controlplane.decisions.step_time import fit_step_times
from controlplane.events.kinds import EventKind
from controlplane.events.models import Event
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node, Pool, SettingsRevision
from controlplane.forecasting.forecaster import Forecast
from controlplane.telemetry.observation import Observation
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.settings import EngineSettings
from inference_node.contract.step_profile import StepProfile, StepSample, pruning_bucket

# A node that was silent for longer is not waited for: it counts neither as missing nor as capacity.
FORGOTTEN_AFTER_S = 600.0
_LEAST_HISTORY_S, _SLACK_S = 120.0, 30.0
_LOOKED_AT = {"offered_rps", "waiting", "ttft_p95_s", "itl_p95_s"}
# `created_by` of revisions that the controller made starts with this; all others were wished for by people or brought by nodes.
CONTROLLER = "controller"


def gather_inputs(
    session: Session,
    pool: Pool,
    *,
    now: datetime,
    observation: Observation | None,
    history: Sequence[Observation],
    forecasts: Mapping[str, Forecast],
    active_rollout: str | None,
    heartbeat_timeout_s: float,
) -> DecisionInputs:
    """history: the pool's windows, oldest first, `observation` last. active_rollout: id of the rollout under way, if any."""
    policy, version = current_policy(session, pool.id)
    revision = fleets.current_revision(session, pool)
    settings = fleets.settings_of(revision)
    nodes = live_nodes(fleets.list_nodes(session, pool.id), now)
    profiles = [StepProfile.model_validate(node.step_profile or {}) for node in nodes]
    workload = workload_of(history)
    since = _same_numerics_since(fleets.list_revisions(session, pool.id, limit=50), settings)
    windows = [seen for seen in history if since is None or seen.window_end - timedelta(seconds=seen.window_s) >= since]
    return DecisionInputs(
        now=now,
        pool=pool.name,
        policy=policy,
        policy_version=version,
        settings=settings,
        nodes=tuple(
            NodeFacts(
                id=node.id,
                name=node.name,
                ready=fleets.node_health(node, now, heartbeat_timeout_s) is fleets.NodeHealth.READY,
                capabilities=NodeCapabilities.model_validate(node.capabilities),
            )
            for node in nodes
        ),
        observation=observation,
        history=needed_history(history, policy, now),
        forecasts=dict(forecasts),
        step_times=fit_step_times(
            _cells(profiles, settings), windows, settings.precision, offered_step_times(profiles, settings, workload)
        ),
        workload=workload,
        changes=past_changes(session, pool.id, policy, now),
        home=_home(session, pool.id),
        frozen_reason=frozen_reason(pool, policy, now),
        active_rollout=active_rollout,
    )


def needed_history(history: Sequence[Observation], policy: Policy, now: datetime) -> tuple[Observation, ...]:
    """The windows, and of each the facts, that decisions look at: they are kept with every decision, so they are kept small."""
    since = now - timedelta(seconds=max(policy.guardrails.cooldown_relaxing_s, _LEAST_HISTORY_S) + _SLACK_S)
    return tuple(
        Observation.from_json(
            seen.window_end,
            seen.window_s,
            seen.quality,
            {fact: value for fact, value in seen.to_json().items() if fact in _LOOKED_AT},
        )
        for seen in history
        if seen.window_end > since
    )


def live_nodes(nodes: Sequence[Node], now: datetime) -> list[Node]:
    """Nodes that were heard of within the last ten minutes."""
    return [node for node in nodes if (now - node.last_heartbeat_at).total_seconds() <= FORGOTTEN_AFTER_S]


def past_changes(session: Session, pool_id: str, policy: Policy, now: datetime) -> tuple[PastChange, ...]:
    """What changed lately, oldest first: decisions to apply, and rollouts (also people's) that ended."""
    rails = policy.guardrails
    since = now - timedelta(seconds=max(3600.0, rails.rolled_back_hold_s, rails.cooldown_relaxing_s))
    decided = session.scalars(
        select(DecisionRecord).where(
            DecisionRecord.pool_id == pool_id, DecisionRecord.at > since, DecisionRecord.outcome == Outcome.APPLY.value
        )
    )
    changes = [
        PastChange(at=row.at, trigger=Trigger(row.trigger), settings_hash=_hash(row), rolled_back=False)
        for row in decided
    ]
    ended = session.scalars(
        select(Event).where(
            Event.pool_id == pool_id,
            Event.at > since,
            Event.kind.in_([EventKind.ROLLOUT_COMPLETED.value, EventKind.ROLLOUT_ROLLED_BACK.value]),
        )
    )
    for event in ended:
        row = _decision_of(session, event)
        changes.append(
            PastChange(
                at=event.at,
                trigger=Trigger.TICK if row is None else Trigger(row.trigger),
                settings_hash=None if row is None else _hash(row),
                rolled_back=event.kind == EventKind.ROLLOUT_ROLLED_BACK.value,
                by_controller=False,  # the decision itself is counted above
            )
        )
    return tuple(sorted(changes, key=lambda change: change.at))


def _decision_of(session: Session, event: Event) -> DecisionRecord | None:
    if event.decision_id is None and event.rollout_id is None:
        return None
    query = select(DecisionRecord).where(
        or_(
            DecisionRecord.id == event.decision_id,
            (DecisionRecord.rollout_id == event.rollout_id) & DecisionRecord.rollout_id.is_not(None),
        )
    )
    return session.scalars(query.limit(1)).first()


def _hash(row: DecisionRecord) -> str | None:
    return None if row.chosen is None else EngineSettings.model_validate(row.chosen).content_hash()


def _home(session: Session, pool_id: str) -> EngineSettings | None:
    query = (
        select(SettingsRevision)
        .where(SettingsRevision.pool_id == pool_id, SettingsRevision.created_by.not_like(f"{CONTROLLER}%"))
        .order_by(SettingsRevision.number.desc())
    )
    row = session.scalars(query.limit(1)).first()
    return None if row is None else fleets.settings_of(row)


def _same_numerics_since(newest_first: Sequence[SettingsRevision], settings: EngineSettings) -> datetime | None:
    """From when on all revisions compute as `settings` does, so that their step times may be mixed; None for always."""
    key = settings.numerics_key()
    since: datetime | None = None
    for revision in newest_first:
        if fleets.settings_of(revision).numerics_key() != key:
            return since
        since = revision.created_at
    return None


def _cells(profiles: Sequence[StepProfile], settings: EngineSettings) -> list[StepSample]:
    """The nodes' measured cells under the pruning in force; others would bend the line."""
    pruning = pruning_bucket(settings.pruning_threshold)
    return [cell for profile in profiles for cell in profile.cells if cell.pruning == pruning]
