"""A pool of two ready nodes in SQL with the lease held, and the words of the nodes, for tests of what is written."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from controlplane.decisions.policy import Policy, RolloutPolicy
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node, Pool
from controlplane.processes.shards import Terms
from controlplane.rollouts import service, windows
from controlplane.rollouts.execute import execute
from controlplane.rollouts.loading import load_snapshot
from controlplane.rollouts.models import Rollout
from controlplane.rollouts.phases import RolloutPhase
from controlplane.rollouts.reconcile import reconcile
from controlplane.rollouts.snapshot import RolloutSnapshot
from inference_node.contract.settings import EngineSettings, KnobValue
from tests.support.arms import window
from tests.support.leading import take_over
from tests.support.registrations import heartbeat_of, registration

NOW = datetime.fromisoformat("2026-01-01T12:00:00+00:00")
POLICY = Policy(rollout=RolloutPolicy(window_s=5, windows=8, settle_s=5, bake_s=0, progress_deadline_s=60))
TIMEOUT_S = 15.0
HOLDER = "controller@test:1"


@dataclass(slots=True)
class Lab:
    """`epoch` is the one that the lease carries."""

    session: Session
    pool: Pool
    epoch: int

    @property
    def terms(self) -> Terms:
        return Terms.everywhere(self.epoch)

    def nodes(self) -> list[Node]:
        return fleets.list_nodes(self.session, self.pool.id)

    def begin(
        self, batch: int = 16, now: datetime = NOW, *, knobs: dict[str, KnobValue] | None = None, **changes: object
    ) -> Rollout:
        """knobs: beside max_batch_size."""
        current = fleets.settings_of(fleets.current_revision(self.session, self.pool))
        settings = current.replace(max_batch_size=batch, **(knobs or {}))
        revision = fleets.create_revision(self.session, self.pool, settings, created_by="alice", reason="test", now=now)
        options: dict[str, object] = {
            "pool": self.pool, "to_revision": revision, "decision_id": None, "policy": POLICY, "epoch": self.epoch,
            "created_by": "alice", "reason": "test", "now": now,
        }  # fmt: skip
        return service.create_rollout(self.session, **(options | changes))  # type: ignore[arg-type]

    def snapshot(self, rollout: Rollout, now: datetime = NOW) -> RolloutSnapshot:
        found = load_snapshot(self.session, rollout.id, now=now, heartbeat_timeout_s=TIMEOUT_S)
        assert found is not None
        return found

    def step(self, rollout: Rollout, now: datetime = NOW, *, epoch: int | None = None) -> None:
        """One reconcile, carried out."""
        seen = self.snapshot(rollout, now)
        execute(self.session, seen, reconcile(seen, now), epoch=self.epoch if epoch is None else epoch, now=now)
        self.session.refresh(rollout)

    def beat(self, node: Node, now: datetime, **changes: object) -> None:
        fleets.heartbeat(self.session, node, heartbeat_of(node, **changes), now=now)

    def obey(self, now: datetime) -> None:
        """Every node reports what is desired of it."""
        for node in self.nodes():
            assert node.desired_revision is not None
            self.beat(
                node, now, settings=EngineSettings.model_validate(node.desired_revision.settings),
                observed_generation=node.desired_generation, observed_epoch=node.desired_epoch,
            )  # fmt: skip


def lab(session: Session, *, nodes: int = 2) -> Lab:
    """Registered an hour ago, heard of now."""
    for number in range(1, nodes + 1):
        fleets.register_node(session, registration(f"node-{number}"), now=NOW - timedelta(hours=1))
    found = Lab(session, fleets.list_pools(session)[0], take_over(session, HOLDER))
    found.obey(NOW)
    return found


def measure(lab: Lab, rollout: Rollout, now: datetime) -> None:
    """Calm windows for all that is due."""
    seen = lab.snapshot(rollout, now)
    ids = [node.id for node in lab.nodes()]
    found = {end: {node_id: window(end) for node_id in ids} for end in windows.due(seen, now)}
    windows.save(lab.session, rollout.id, found)


def drive(lab: Lab, rollout: Rollout, now: datetime, *, until: RolloutPhase, seconds: int = 200) -> datetime:
    """Second by second: nodes obey, windows are calm, the controller steps. Returns when it got there."""
    for _ in range(seconds):
        lab.obey(now)
        measure(lab, rollout, now)
        lab.step(rollout, now)
        if rollout.phase == until:
            return now
        now += timedelta(seconds=1)
    raise AssertionError(f"still {rollout.phase}, wanted {until}")
