"""A change that makes something worse, on a pool in SQL under simulated time.

What the nodes say and measure is drawn; snapshot, windows, guards, statistics, moves, wishes and heartbeats are the product's.

Windows are drawn as control-plane design 2.2 does: one load shock that all nodes share (AR(1)), each node's own level and noise.
"""

import math
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from controlplane.decisions.policy import Policy, RolloutPolicy
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node
from controlplane.rollouts import windows
from controlplane.rollouts.models import Rollout, RolloutNode
from controlplane.rollouts.phases import RolloutPhase
from controlplane.rollouts.plan import Role
from controlplane.telemetry.observation import Observation
from inference_node.contract.served import ServedQuality, ServedSample
from inference_node.contract.settings import EngineSettings, KnobValue, Precision
from tests.support.arms import window
from tests.support.rollouts_in_sql import NOW, Lab, lab

NODES = 60  # of which 5 %, three, are canaries
STEP_S = 5.0
_SCORED_EACH = 2  # requests a node and step
POLICY = Policy(rollout=RolloutPolicy(windows=60, quarantine_s=0))  # windows of 10 s: one look takes ten minutes
REQUESTS, ERROR_RATE = 50, 0.002  # per node and window
_SHOCK_SD, _RHO, _SPREAD, _NOISE_SD = 0.2, 0.8, 0.05, 0.05


class Harm(StrEnum):
    """What the new settings do to a node that runs them."""

    NONE = "none"
    LATENCY = "latency +30 %"
    ERRORS = "errors +2 points"
    ANSWERS = "bad answers"  # the node lets the new level pass, and what it serves lies far from full precision
    QUALITY = "quality drop"  # the node measures the new level and refuses it: RejectCode.QUALITY
    CRASH = "crash loop"
    SILENCE = "silence"


_PRUNES = {Harm.NONE, Harm.ANSWERS}


@dataclass(frozen=True, slots=True)
class Fate:
    """`judged_s`: from the canary's confirmation (or from the sending, where it never came) to the way back, in seconds."""

    phase: RolloutPhase
    outcome: str
    judged_s: float
    others_touched: int
    all_as_before: bool


@dataclass
class BadChange:
    """One pool, one change, one seed. Everything random comes from the seed."""

    session: Session
    harm: Harm
    seed: int
    lab: Lab = field(init=False)
    now: datetime = NOW
    _shock: float = 0.0

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.harm}:{self.seed}")
        self.lab = lab(self.session, nodes=NODES)
        self.levels = {node.id: math.exp(self.random.gauss(0, _SPREAD)) for node in self.lab.nodes()}
        self.shocks: dict[datetime, float] = {}

    def run(self) -> Fate:
        """Until the rollout has ended or waits for a person. Raises AssertionError when neither happens within an hour."""
        knobs: dict[str, KnobValue] = {"pruning_threshold": 0.3} if self.harm in _PRUNES else {}
        rollout = self.lab.begin(batch=self.random.randint(9, 64), now=self.now, policy=POLICY, knobs=knobs)
        sent_at = back_at = None
        before = {node.id: node.observed_hash for node in self.lab.nodes()}
        wishes = {node.id: node.desired_generation for node in self.lab.nodes()}
        for _ in range(720):
            self._beat(rollout)
            self._measure(rollout)
            self.lab.step(rollout, self.now)
            phase = RolloutPhase(rollout.phase)
            if phase is RolloutPhase.ANALYZING or (phase is RolloutPhase.CANARY and sent_at is None):
                sent_at = rollout.phase_since
            if phase is RolloutPhase.ROLLING_BACK and back_at is None:
                back_at = self.now
            if phase.is_terminal or phase is RolloutPhase.PAUSED:
                break
            self.now += timedelta(seconds=STEP_S)
        else:
            raise AssertionError(f"{self.harm} with seed {self.seed}: still {rollout.phase} after an hour")
        for _ in range(60):  # a node that was silent or crashed comes back, and gets what its pool has
            self.now += timedelta(seconds=STEP_S)
            self._beat(rollout)
        judged_s = math.inf if sent_at is None or back_at is None else (back_at - sent_at).total_seconds()
        canaries = self._arm(rollout, Role.CANARY)
        others = [node for node in self.lab.nodes() if node.id not in canaries]
        return Fate(
            phase=RolloutPhase(rollout.phase),
            outcome=rollout.outcome or rollout.paused_reason or "",
            judged_s=judged_s,
            others_touched=sum(node.desired_generation != wishes[node.id] for node in others),
            all_as_before=all(node.observed_hash == before[node.id] for node in self.lab.nodes()),
        )

    def _beat(self, rollout: Rollout) -> None:
        """All are heard of but silent ones; who was sent something does what the harm lets it."""
        ended = RolloutPhase(rollout.phase) in {RolloutPhase.ROLLED_BACK, RolloutPhase.ROLLBACK_FAILED}
        bad = self._hash_of_new(rollout)
        behind = select(Node).where(Node.desired_generation != Node.observed_generation)
        for node in list(self.session.scalars(behind)):
            assert node.desired_revision is not None
            is_bad = node.desired_revision.content_hash == bad
            if self.harm is Harm.QUALITY and is_bad:
                if node.rejected_generation != node.desired_generation:
                    words = "mean KL to full precision 0.41 is above the ceiling 0.10"
                    self.lab.beat(node, self.now, rejected_generation=node.desired_generation, rejected_reason=words)
            elif not (self.harm is Harm.SILENCE and node.observed_hash == bad and not ended):
                self._obey(node)
        for node in self.session.scalars(select(Node).where(Node.observed_hash == bad)):
            if self.harm is Harm.CRASH and self.random.random() < 0.5:
                node.instance_id, node.started_at = f"life-{self.random.random()}", self.now
        self._tell_answers()
        quiet = [Node.observed_hash != bad] if self.harm is Harm.SILENCE and not ended else []
        self.session.execute(update(Node).where(Node.is_there, *quiet).values(last_heartbeat_at=self.now))
        self.session.expire_all()

    def _obey(self, node: Node) -> None:
        assert node.desired_revision is not None
        self.lab.beat(
            node, self.now, settings=EngineSettings.model_validate(node.desired_revision.settings),
            observed_generation=node.desired_generation, observed_epoch=node.desired_epoch,
        )  # fmt: skip

    def _tell_answers(self) -> None:
        """Canaries that were asked to have scored some more of what they served."""
        for node in self.session.scalars(select(Node).where(Node.observed_generation == Node.desired_generation)):
            if node.watch is None:
                continue
            kl = 0.5 if self.harm is Harm.ANSWERS else 0.03
            before = () if node.served is None else ServedQuality.model_validate(node.served).samples
            new = tuple(self._scored(kl) for _ in range(_SCORED_EACH))
            told = ServedQuality(
                generation=node.watch["generation"], precision=Precision.BF16, pruning_threshold=0.3,
                samples=(*before, *new)[: node.watch["most"]],
            )  # fmt: skip
            self.lab.beat(node, self.now, served=told)

    def _scored(self, kl: float) -> ServedSample:
        """Requests differ from one another by half as a rule."""
        tokens = self.random.randint(20, 255)
        drawn = kl * self.random.lognormvariate(-0.125, 0.5)
        return ServedSample(tokens=tokens, kl=drawn, agreed=round(tokens * math.exp(-drawn)))

    def _measure(self, rollout: Rollout) -> None:
        seen = self.lab.snapshot(rollout, self.now)
        due = windows.due(seen, self.now)
        if not due:
            return
        applied = {node.id: node.applied_at for node in seen.nodes}
        ids = [ref.id for ref in windows.measured(seen)]
        bad, hashes = self._hash_of_new(rollout), {node.id: node.observed_hash for node in seen.nodes}
        found: dict[datetime, dict[str, Observation]] = {}
        for end in due:
            since = {id_: at for id_, at in applied.items() if at is not None and at <= end}
            found[end] = {id_: self._window(id_, end, id_ in since and hashes[id_] == bad) for id_ in ids}
        windows.save(self.session, rollout.id, found)

    def _window(self, node_id: str, end: datetime, changed: bool) -> Observation:
        shock, level = self._shock_at(end), self.levels[node_id]
        slower = 1.3 if changed and self.harm is Harm.LATENCY else 1.0
        rate = ERROR_RATE + (0.02 if changed and self.harm is Harm.ERRORS else 0.0)
        requests = max(0, round(self.random.gauss(REQUESTS, math.sqrt(REQUESTS))))
        errors = sum(self.random.random() < rate for _ in range(requests))
        ttft, itl = (math.exp(self.random.gauss(0, _NOISE_SD)) for _ in range(2))
        return window(
            end, ttft_s=0.3 * level * slower * math.exp(shock) * ttft, itl_s=0.03 * level * slower * math.exp(shock) * itl,
            requests=requests - errors, errors=errors, window_s=POLICY.rollout.window_s,
        )  # fmt: skip

    def _shock_at(self, end: datetime) -> float:
        if end not in self.shocks:
            self._shock = _RHO * self._shock + self.random.gauss(0, _SHOCK_SD * math.sqrt(1 - _RHO**2))
            self.shocks[end] = self._shock
        return self.shocks[end]

    def _hash_of_new(self, rollout: Rollout) -> str:
        return fleets.get_revision(self.session, rollout.to_revision_id).content_hash

    def _arm(self, rollout: Rollout, role: Role) -> set[str]:
        rows = select(RolloutNode.node_id).where(RolloutNode.rollout_id == rollout.id, RolloutNode.role == role.value)
        return set(self.session.scalars(rows))
