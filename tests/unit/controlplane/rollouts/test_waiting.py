from dataclasses import replace
from datetime import timedelta

from controlplane.decisions.policy import Policy
from controlplane.rollouts.phases import RolloutPhase, Verb
from controlplane.rollouts.plan import Candidate, make_plan
from tests.support.arms import START, plan
from tests.support.rollout_world import RolloutWorld, rollout

P = RolloutPhase


def world(**changes: object) -> RolloutWorld:
    return RolloutWorld(rollout(plan(), **changes))  # type: ignore[arg-type]


def phases(world: RolloutWorld) -> list[RolloutPhase]:
    return [to for _, to, _ in world.log]


class TestApproval:
    def test_holds_it_until_enough_have_agreed(self) -> None:
        w = world(approvals_needed=2, created_by="alice")
        w.run(30)
        assert w.is_in(P.PENDING_APPROVAL)
        w.snapshot = replace(w.snapshot, approvals=1)
        w.run(30)
        assert w.is_in(P.PENDING_APPROVAL)
        w.snapshot = replace(w.snapshot, approvals=2)
        w.run(200)
        assert phases(w)[:3] == [P.PENDING_APPROVAL, P.VALIDATING, P.BASELINING]
        assert w.is_in(P.COMPLETED)

    def test_refused_by_one_is_the_end(self) -> None:
        w = world(approvals_needed=2, approvals=1)
        w.run(3)
        w.snapshot = replace(w.snapshot, refused_by="bob refused it: not on a Friday")
        w.run(3)
        assert w.is_in(P.REJECTED)
        assert "not on a Friday" in (w.outcome or "")

    def test_that_never_comes_lets_it_expire(self) -> None:
        w = world(approvals_needed=1, expires_at=START + timedelta(seconds=60))
        w.run(59)
        assert w.is_in(P.PENDING_APPROVAL)
        w.run(5)
        assert w.is_in(P.EXPIRED)
        assert not w.snapshot.touched

    def test_a_person_gives_up_meanwhile(self) -> None:
        w = world(approvals_needed=1)
        w.run(3)
        w.ask(Verb.ABORT)
        w.run(3)
        assert w.is_in(P.CANCELLED)

    def test_promote_does_not_go_round_it(self) -> None:
        w = world(approvals_needed=1)
        w.run(3)
        w.ask(Verb.PROMOTE)
        w.run(30)
        assert w.is_in(P.PENDING_APPROVAL)
        assert w.refusals


class TestStart:
    def test_is_waited_for(self) -> None:
        w = world(not_before=START + timedelta(seconds=100))
        w.run(99)
        assert w.is_in(P.SCHEDULED)
        w.run(200)
        assert w.is_in(P.COMPLETED)

    def test_comes_after_the_approval(self) -> None:
        w = world(approvals_needed=1, not_before=START + timedelta(seconds=100))
        w.run(10)
        w.snapshot = replace(w.snapshot, approvals=1)
        w.run(10)
        assert phases(w) == [P.PENDING_APPROVAL, P.VALIDATING, P.SCHEDULED]


class TestPauseLimit:
    def test_a_pause_that_nobody_ends_is_rolled_back(self) -> None:
        w = RolloutWorld(rollout(plan(pause_limit_s=100)))
        w.run(60, until=P.ANALYZING)
        w.ask(Verb.PAUSE)
        w.run(90)
        assert w.is_in(P.PAUSED)
        w.run(30)
        assert w.is_in(P.ROLLED_BACK)


class TestInFlight:
    def test_a_wave_goes_out_as_far_as_the_fleet_allows(self) -> None:
        many = make_plan([Candidate(f"{k}-id", f"{k:02}", True) for k in range(20)], Policy(rollout=plan().policy))
        w = RolloutWorld(rollout(many, in_flight_free=1))
        w.run(200, until=P.PROMOTING)
        for _ in range(30):
            w.step()
            assert sum(view.state == "DISPATCHED" for view in w.snapshot.nodes) <= 1
            w.nodes_apply()
            busy = any(v.state == "DISPATCHED" for v in w.snapshot.nodes)
            w.snapshot = replace(w.snapshot, in_flight_free=0 if busy else 1)
            w.now += timedelta(seconds=1)
        assert sum(view.touched for view in w.snapshot.nodes) > 5

    def test_that_it_waits_for_others_is_no_lack_of_progress(self) -> None:
        w = RolloutWorld(rollout(plan(progress_deadline_s=30, bake_s=0)))
        w.run(200, until=P.ANALYZING)
        w.snapshot = replace(w.snapshot, in_flight_free=0)
        w.run(300)
        assert w.is_in(P.PROMOTING)
        w.snapshot = replace(w.snapshot, in_flight_free=1)
        w.run(30)
        assert w.is_in(P.COMPLETED)


class TestCrash:
    def _promoting(self, nodes: int) -> RolloutWorld:
        the_plan = make_plan(
            [Candidate(f"{k}-id", f"{k:02}", True) for k in range(nodes)], Policy(rollout=plan(bake_s=60).policy)
        )
        w = RolloutWorld(rollout(the_plan))
        w.run(300, until=P.BAKING)
        return w

    def test_one_goes_back_alone_and_is_left_out(self) -> None:
        w = self._promoting(10)
        victim = next(view for view in w.snapshot.nodes if view.wave == 3)
        w.change(victim.id, instance_id="second-life", started_at=w.now)
        w.run(100)
        assert w.is_in(P.COMPLETED)
        there = {view.id: view for view in w.snapshot.nodes}
        assert there[victim.id].state == "QUARANTINED"
        assert there[victim.id].observed_hash == "hash-old"

    def test_more_than_tolerated_take_all_back(self) -> None:
        w = self._promoting(10)
        for view in w.snapshot.nodes:
            if view.wave == 3:
                w.change(view.id, instance_id="second-life", started_at=w.now)
        w.run(20)
        assert w.is_in(P.ROLLED_BACK)
        assert {view.observed_hash for view in w.snapshot.nodes} == {"hash-old"}

    def test_long_after_the_change_is_not_blamed_on_it(self) -> None:
        w = self._promoting(10)
        victim = next(view for view in w.snapshot.nodes if view.wave == 3)
        w.change(victim.id, instance_id="second-life", started_at=w.now + timedelta(seconds=600))
        w.run(3)
        assert next(view for view in w.snapshot.nodes if view.id == victim.id).state == "APPLIED"

    def test_who_is_in_quarantine_is_left_out_of_the_waves(self) -> None:
        w = RolloutWorld(rollout(plan(bake_s=0)))
        w.change("control-id", quarantined=True)
        w.run(200)
        assert w.is_in(P.COMPLETED)
        assert not next(view for view in w.snapshot.nodes if view.id == "control-id").touched
