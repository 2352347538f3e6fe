"""What `reconcile()` is given: a rollout and its nodes as they stand in SQL at one moment. Frozen values, no session."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from controlplane.rollouts.arms import Pair, Windows, grid, pairs, within
from controlplane.rollouts.phases import NodeState, PausedBy, RolloutPhase, Verb
from controlplane.rollouts.plan import Mode, Role, RolloutPlan
from inference_node.contract.served import ServedQuality
from inference_node.contract.settings import KnobValue

# A window is asked for so long after its end: the scrape that closes it must have arrived.
LAG_S = 1.0
# A pause may last for days: of its windows the newest are enough, beside those of the two planned looks.
KEPT_LOOKS = 2
# control-plane design 2.1: a crash so soon after the settings were applied is blamed on them.
CRASH_S = 120.0


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node's part in the rollout, beside what the node itself last reported.

    `reachable`: heard of within the heartbeat timeout. `instance_at_dispatch` is None until settings were sent.
    """

    id: str
    name: str
    role: Role
    wave: int
    state: NodeState
    generation: int | None
    dispatched_at: datetime | None
    applied_at: datetime | None
    instance_at_dispatch: str | None
    instance_id: str
    reachable: bool
    ready: bool
    observed_generation: int
    observed_hash: str
    rejected_generation: int | None = None
    rejected_reason: str | None = None
    quarantined: bool = False
    started_at: datetime | None = None
    served: ServedQuality | None = None

    @property
    def left_out(self) -> bool:
        """Whether this rollout must not (or no longer) send it the new settings."""
        return self.state is NodeState.QUARANTINED or (self.quarantined and not self.touched)

    @property
    def crashed(self) -> bool:
        """Whether its process came to an end under the new settings, or shortly after they were applied."""
        if self.dispatched_at is None or self.started_at is None or self.instance_id == self.instance_at_dispatch:
            return False
        return self.started_at <= (self.applied_at or self.dispatched_at) + timedelta(seconds=CRASH_S)

    @property
    def touched(self) -> bool:
        """Whether it was ever sent the new settings."""
        return self.generation is not None

    @property
    def refusal(self) -> str | None:
        """Why the node refused what it was sent last; None if it did not."""
        if self.generation is None or self.rejected_generation is None or self.rejected_generation < self.generation:
            return None
        return self.rejected_reason or "no reason given"

    def runs(self, settings_hash: str) -> bool:
        """Whether it reports these settings, and that it has heard the last word sent to it."""
        return (
            self.generation is not None
            and self.observed_generation >= self.generation
            and self.observed_hash == settings_hash
        )


@dataclass(frozen=True, slots=True)
class RolloutSnapshot:
    """Everything that `reconcile()` knows. `looks` counts the planned looks whose verdict was recorded; `windows` is by node id.

    `approvals` are those of the revision that is rolled out; `refused_by` says who refused it, and why. `in_flight_free`: to how
    many nodes of the fleet settings may be sent now (None: no limit). `answers_at_stake`: the change may make answers worse, so
    that they are judged, too. `listening_since`: when nodes were last begun to be heard, after our own absence.
    `steady_since` is when the settings of canary and control were last changed, or one of them started.
    """

    id: str
    pool_id: str
    phase: RolloutPhase
    phase_since: datetime
    version: int
    step: int
    plan: RolloutPlan
    from_hash: str
    to_hash: str
    from_number: int
    to_number: int
    changes: dict[str, tuple[KnobValue, KnobValue]]
    nodes: tuple[NodeView, ...]
    steady_since: datetime
    looks: int = 0
    request: Verb | None = None
    request_actor: str = ""
    request_reason: str = ""
    paused_from: RolloutPhase | None = None
    paused_by: PausedBy | None = None
    frozen_reason: str | None = None
    created_by: str = ""
    approvals: int = 0
    approvals_needed: int = 0
    refused_by: str | None = None
    not_before: datetime | None = None
    expires_at: datetime | None = None
    in_flight_free: int | None = None
    answers_at_stake: bool = False
    listening_since: datetime | None = None
    windows: Windows = field(default_factory=dict)

    @property
    def is_direct(self) -> bool:
        return self.plan.mode is Mode.DIRECT

    @property
    def canaries(self) -> tuple[NodeView, ...]:
        return tuple(node for node in self.nodes if node.role is Role.CANARY)

    @property
    def served(self) -> tuple[ServedQuality | None, ...]:
        """What each canary told of its answers under the settings that it was sent last."""
        told = [(node.served, node.generation) for node in self.canaries]
        return tuple(seen if seen is not None and seen.generation == sent else None for seen, sent in told)

    @property
    def touched(self) -> tuple[NodeView, ...]:
        return tuple(node for node in self.nodes if node.touched)

    def wave(self, number: int) -> tuple[NodeView, ...]:
        return tuple(node for node in self.nodes if node.wave == number)

    @property
    def canary_sent_at(self) -> datetime | None:
        times = [node.dispatched_at for node in self.canaries if node.dispatched_at is not None]
        return min(times) if times else None

    @property
    def judged_from(self) -> datetime | None:
        """From when on windows show the canary under its new settings; None until all canaries have applied them."""
        times = [node.applied_at for node in self.canaries]
        known = [at for at in times if at is not None]
        if not known or len(known) < len(times):
            return None
        return max(known) + timedelta(seconds=self.plan.policy.settle_s)

    @property
    def control_changed_at(self) -> datetime | None:
        """When the control stopped being one: its own wave has come."""
        times = [n.dispatched_at for n in self.nodes if n.role is Role.CONTROL and n.dispatched_at is not None]
        return min(times) if times else None

    @property
    def last_progress(self) -> datetime:
        """Since when nothing has moved that could have: while nobody took in what nodes say, none could confirm anything."""
        times = [at for node in self.nodes for at in (node.dispatched_at, node.applied_at) if at is not None]
        return max([self.phase_since, *times, *([] if self.listening_since is None else [self.listening_since])])

    def waited_s(self, now: datetime) -> float:
        return (now - self.phase_since).total_seconds()

    def with_windows(self, windows: Windows) -> "RolloutSnapshot":
        return replace(self, windows=windows)

    # Windows -----------------------------------------------------------------------------------------------------

    def pre_slots(self, now: datetime) -> list[datetime]:
        """Ends of the windows before the change, as many as the plan wants: the newest ones since the settings are steady."""
        end = self.canary_sent_at or now - timedelta(seconds=LAG_S)
        start = self.steady_since + timedelta(seconds=self.plan.policy.settle_s)
        return grid(start, end, self.plan.policy.window_s)[-self.plan.policy.windows :]

    def post_slots(self, now: datetime) -> list[datetime]:
        """Ends of the windows that show the change so far."""
        if self.judged_from is None:
            return []
        slots = grid(self.judged_from, now - timedelta(seconds=LAG_S), self.plan.policy.window_s)
        kept = KEPT_LOOKS * self.plan.policy.windows
        return slots if len(slots) <= 2 * kept else slots[:kept] + slots[-kept:]

    def pre(self) -> tuple[Pair, ...]:
        sent = self.canary_sent_at
        return tuple(pair for pair in self._pairs() if sent is None or pair.end <= sent)

    def post(self) -> tuple[Pair, ...]:
        """Canary against control, for as long as the control is one."""
        return self._after(self.judged_from, self.control_changed_at, self._pairs())

    def watched(self) -> tuple[Pair, ...]:
        """After the control has changed too: the canary by itself, from when everything sent so far has settled."""
        judged = [node for node in self.touched if node.applied_at is not None and not node.left_out]
        applied = [node.applied_at for node in judged if node.applied_at is not None]
        if self.judged_from is None or not applied:
            return ()
        start = max(self.judged_from, max(applied) + timedelta(seconds=self.plan.policy.settle_s))
        alone = pairs(self.windows, [node.id for node in judged], ())
        return self._after(start, None, alone)

    def _pairs(self) -> tuple[Pair, ...]:
        return pairs(self.windows, self.plan.canary, self.plan.control)

    def _after(self, start: datetime | None, end: datetime | None, found: Sequence[Pair]) -> tuple[Pair, ...]:
        if start is None:
            return ()
        return within(found, start, end or datetime.max.replace(tzinfo=start.tzinfo), self.plan.policy.window_s)
