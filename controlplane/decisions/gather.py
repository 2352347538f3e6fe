"""Brings together what `decide()` is given: reads SQL and fits step times, decides nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.decisions.around import Around
from controlplane.decisions.decision import RULES, DecisionInputs, NodeFacts, PastChange
from controlplane.decisions.error_budget import Tally
from controlplane.decisions.guardrails import proven_by
from controlplane.decisions.lineage import Lineage
from controlplane.decisions.performance import workload_of
from controlplane.decisions.policy import Policy
from controlplane.decisions.step_memory.learning import Learned, Serving, learn_step_times
from controlplane.decisions.step_memory.levels import PoolMemory
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Pool
from controlplane.fleets.readings import NodeReading
from controlplane.forecasting.forecaster import Forecast
from controlplane.forecasting.merit import Merit
from controlplane.telemetry.observation import Observation
from inference_node.contract.settings import EngineSettings
from inference_node.contract.step_profile import StepArithmetic, StepProfile

# A node that was silent for longer is not waited for: it counts neither as missing nor as capacity.
FORGOTTEN_AFTER_S = 600.0
# Settings that proved good lately are few, and each is weighed and kept with every decision.
_MOST_KNOWN = 6
_LEAST_HISTORY_S, _SLACK_S = 120.0, 30.0
_LOOKED_AT = {"offered_rps", "rejected", "waiting", "ttft_p95_s", "itl_p95_s"}


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What SQL knows of a pool at a moment. same_since: from when on all revisions compute as the settings do; None: always.

    level: what all nodes compute with by their own word, None where they differ. newest_start: of the node that started last.
    """

    now: datetime
    name: str
    policy: Policy
    policy_version: int
    settings: EngineSettings
    nodes: tuple[NodeFacts, ...]
    profiles: tuple[StepProfile, ...]
    same_since: datetime | None
    changes: tuple[PastChange, ...]
    home: EngineSettings | None
    frozen_reason: str | None
    active_rollout: str | None
    alarm: str | None
    quality_spent_ratio: float | None = None
    known: tuple[EngineSettings, ...] = ()
    level: StepArithmetic | None = None
    newest_start: datetime | None = None


def read_facts(
    pool: Pool,
    nodes: Sequence[NodeReading],
    lineage: Lineage,
    policy: tuple[Policy, int],
    *,
    now: datetime,
    around: Around,
    active_rollout: str | None,
    heartbeat_timeout_s: float,
    quality_spent_ratio: float | None = None,
) -> PoolFacts:
    """nodes: those that live. policy: with its version. around: read of this pool, and maybe of others.

    active_rollout: id of the rollout under way, if any. quality_spent_ratio: as `spent_ratio` says."""
    rules, version = policy
    return PoolFacts(
        now=now,
        name=pool.name,
        policy=rules,
        policy_version=version,
        settings=lineage.settings,
        nodes=tuple(
            NodeFacts(
                id=node.id,
                name=node.name,
                ready=fleets.node_health(node, now, heartbeat_timeout_s) is fleets.NodeHealth.READY,
                capabilities=node.capabilities,
            )
            for node in nodes
        ),
        profiles=tuple(node.step_profile for node in nodes),
        same_since=lineage.same_since,
        changes=around.changes[pool.id],
        home=lineage.home,
        frozen_reason=around.frozen_reason(pool, rules, now),
        active_rollout=active_rollout,
        alarm=around.alarms.get(pool.id),
        quality_spent_ratio=quality_spent_ratio,
        known=_known(lineage, around.changes[pool.id]),
        level=_level_of_all(nodes),
        newest_start=max((node.started_at for node in nodes), default=None),
    )


def learn(facts: PoolFacts, memory: PoolMemory, history: Sequence[Observation]) -> Learned:
    """What the newest window adds to what is remembered of the pool's step times, and the step times that follow."""
    since = facts.same_since
    windows = [seen for seen in history if since is None or seen.window_end - timedelta(seconds=seen.window_s) >= since]
    serving = Serving(facts.profiles, facts.settings, facts.level, facts.newest_start)
    return learn_step_times(memory, serving, windows, workload_of(history), facts.now)


def make_inputs(
    facts: PoolFacts,
    *,
    observation: Observation | None,
    history: Sequence[Observation],
    forecasts: Mapping[str, Forecast],
    served: Tally | None = None,
    learned: Learned | None = None,
    newest: Forecast | None = None,
    merit: Merit | None = None,
) -> DecisionInputs:
    """history: the pool's windows, oldest first, `observation` last. served: counts of the policy's burn window. learned: from
    `learn` with the same windows; None where nothing is remembered. newest: the newest load as a forecast, and merit: what the
    other one has been worth against it."""
    return DecisionInputs(
        now=facts.now,
        pool=facts.name,
        policy=facts.policy,
        policy_version=facts.policy_version,
        settings=facts.settings,
        nodes=facts.nodes,
        observation=observation,
        history=needed_history(history, facts.policy, facts.now),
        forecasts=dict(forecasts),
        step_times=(learned or learn(facts, PoolMemory(), history)).step_times,
        workload=workload_of(history),
        changes=facts.changes,
        home=facts.home,
        frozen_reason=facts.frozen_reason,
        active_rollout=facts.active_rollout,
        alarm=facts.alarm,
        quality_spent_ratio=facts.quality_spent_ratio,
        known=facts.known,
        served=served,
        newest=newest,
        merit=merit,
        rules=RULES,
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


def live_nodes(nodes: Sequence[NodeReading], now: datetime) -> list[NodeReading]:
    """Nodes that were heard of within the last ten minutes."""
    return [node for node in nodes if (now - node.last_heartbeat_at).total_seconds() <= FORGOTTEN_AFTER_S]


def _known(lineage: Lineage, changes: Sequence[PastChange]) -> tuple[EngineSettings, ...]:
    """The newest few of the pool's settings, other than those in force, that proved good on the whole of it lately."""
    proven = proven_by(changes)
    if not proven:
        return ()
    own = dict.fromkeys(settings for _, settings in lineage.newest_first if settings != lineage.settings)
    return tuple(settings for settings in own if settings.content_hash() in proven)[:_MOST_KNOWN]


def _level_of_all(nodes: Sequence[NodeReading]) -> StepArithmetic | None:
    levels = {node.arithmetic for node in nodes}
    return levels.pop() if len(levels) == 1 else None
