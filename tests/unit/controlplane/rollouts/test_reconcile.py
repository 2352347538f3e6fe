from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from controlplane.decisions.policy import OnInconclusive, Policy
from controlplane.rollouts.analysis import Verdict
from controlplane.rollouts.phases import PausedBy, RolloutPhase, Verb
from controlplane.rollouts.plan import Candidate, Mode, RolloutPlan, make_plan
from controlplane.rollouts.reconcile import reconcile
from controlplane.rollouts.snapshot import NodeView
from controlplane.telemetry.observation import Observation
from tests.support.arms import CANARY, CONTROL, START, plan, window
from tests.support.rollout_world import NEW, OLD, RolloutWorld, WindowOf, rollout

P = RolloutPhase


def world(the_plan: RolloutPlan | None = None, **changes: object) -> RolloutWorld:
    return RolloutWorld(rollout(the_plan or plan(), **changes))  # type: ignore[arg-type]


def phases(world: RolloutWorld) -> list[RolloutPhase]:
    return [to for _, to, _ in world.log]


def slower(factor: float, *, only: str = CANARY) -> WindowOf:
    """Windows in which the new settings multiply the latency of one node."""

    def measure(view: NodeView, end: datetime) -> Observation:
        worse = view.id == only and view.dispatched_at is not None and end > view.dispatched_at
        return window(end, ttft_s=0.3 * (factor if worse else 1.0), itl_s=0.06 * (factor if worse else 1.0))

    return measure


def failing(share: float) -> WindowOf:
    def measure(view: NodeView, end: datetime) -> Observation:
        bad = view.id == CANARY and view.dispatched_at is not None and end > view.dispatched_at
        return window(end, requests=20 * (1 - share if bad else 1), errors=20 * share if bad else 0)

    return measure


def silent(view: NodeView, end: datetime) -> Observation:
    return window(end, ttft_s=None, itl_s=None, requests=0)


class TestAGoodChange:
    def test_goes_through_every_phase(self) -> None:
        w = world()
        w.run(200)
        assert phases(w) == [P.BASELINING, P.CANARY, P.ANALYZING, P.PROMOTING, P.BAKING, P.COMPLETED]
        assert {view.observed_hash for view in w.snapshot.nodes} == {NEW}
        assert w.verdicts == [Verdict.PASS]

    def test_uses_windows_from_before_so_that_the_canary_starts_at_once(self) -> None:
        w = world()
        w.run(10, until=P.CANARY)
        assert w.now - START <= timedelta(seconds=2)

    def test_waits_for_the_baseline_of_nodes_that_were_changed_just_now(self) -> None:
        w = world(steady_since=START)
        w.run(120, until=P.CANARY)
        assert timedelta(seconds=40) <= w.now - START <= timedelta(seconds=60)

    def test_of_a_single_node_bakes_after_the_canary(self) -> None:
        w = world(plan(control=False))
        w.run(200)
        assert phases(w) == [P.BASELINING, P.CANARY, P.ANALYZING, P.BAKING, P.COMPLETED]

    def test_reaches_a_large_pool_in_waves(self) -> None:
        nodes = [Candidate(f"{k:02}-id", f"{k:02}", True) for k in range(20)]
        small = plan().policy
        w = world(make_plan(nodes, Policy(rollout=small)))
        w.run(300)
        assert w.is_in(P.COMPLETED)
        assert w.snapshot.step == 3
        times = [{view.dispatched_at for view in w.snapshot.wave(k)} for k in (1, 2, 3)]
        assert all(len(each) == 1 for each in times)

    def test_direct_goes_straight_to_all(self) -> None:
        nodes = [Candidate(CANARY, "a", True), Candidate(CONTROL, "b", True)]
        w = world(make_plan(nodes, Policy(rollout=plan().policy), Mode.DIRECT), frozen_reason="incident")
        w.run(10)
        assert phases(w) == [P.PROMOTING, P.COMPLETED]


class TestABadChange:
    def test_doubled_latency_is_rolled_back_and_the_rest_untouched(self) -> None:
        w = world()
        w.measure = slower(2.0)
        w.run(200)
        assert w.is_in(P.ROLLED_BACK)
        assert w.verdicts == [Verdict.FAIL]
        assert "p95 TTFT" in (w.outcome or "")
        assert {view.observed_hash for view in w.snapshot.nodes} == {OLD}
        assert not w.snapshot.wave(1)[0].touched

    def test_five_percent_errors_are_rolled_back(self) -> None:
        w = world()
        w.measure = failing(0.05)
        w.run(200)
        assert w.is_in(P.ROLLED_BACK)
        assert "server error" in (w.outcome or "")

    def test_a_guard_fires_in_a_pause_too(self) -> None:
        w = world()
        w.measure = failing(0.5)
        w.run(60, until=P.ANALYZING)
        w.ask(Verb.PAUSE)
        w.run(60)
        assert w.is_in(P.ROLLED_BACK)
        assert P.PAUSED in phases(w)

    def test_a_guard_fires_while_baking(self) -> None:
        w = world(plan(bake_s=60))
        w.run(100, until=P.BAKING)
        w.measure = lambda view, end: window(end, requests=10, errors=10)
        w.run(100)
        assert w.is_in(P.ROLLED_BACK)
        assert {view.observed_hash for view in w.snapshot.nodes} == {OLD}


class TestTheCanary:
    def test_that_refuses_is_rolled_back_with_its_reason(self) -> None:
        w = world()
        w.run(20, answer=False, until=P.CANARY)
        generation = w.snapshot.canaries[0].generation
        w.change(CANARY, rejected_generation=generation, rejected_reason="out_of_memory: 3 GB are free, 5 GB needed")
        w.step()
        assert w.is_in(P.ROLLING_BACK)
        assert "3 GB are free" in (w.outcome or "")
        w.run(5)
        assert w.is_in(P.ROLLED_BACK)

    def test_that_vanishes_is_rolled_back_without_it(self) -> None:
        w = world()
        w.run(60, until=P.ANALYZING)
        w.change(CANARY, reachable=False)
        w.run(5)
        assert w.is_in(P.ROLLED_BACK)
        assert "cannot be reached and gets it when it is back" in w.log[-1][2]

    def test_that_restarts_under_the_new_settings_is_rolled_back(self) -> None:
        w = world()
        w.run(60, until=P.ANALYZING)
        w.change(CANARY, instance_id="second-life")
        w.run(5)
        assert w.is_in(P.ROLLED_BACK)
        assert "restarted" in (w.outcome or "")

    def test_that_never_confirms_is_rolled_back_at_the_deadline(self) -> None:
        w = world(plan(progress_deadline_s=30))
        w.run(60, answer=False, until=P.ROLLING_BACK)
        assert w.is_in(P.ROLLING_BACK)
        assert "within 30 s" in (w.outcome or "")

    def test_that_is_not_ready_is_not_begun_with(self) -> None:
        w = world()
        w.change(CANARY, ready=False)
        w.run(3)
        assert w.is_in(P.REJECTED)
        assert not w.snapshot.touched


class TestOtherNodes:
    def test_one_that_is_silent_does_not_hold_the_rollout_up(self) -> None:
        w = world()
        w.run(100, until=P.PROMOTING)
        w.change(CONTROL, reachable=False, observed_hash=OLD, observed_generation=1)
        w.run(60)
        assert w.is_in(P.COMPLETED)
        assert "1 of 2 nodes" in (w.outcome or "")

    def test_one_that_refuses_rolls_everything_back(self) -> None:
        w = world()
        w.run(100, answer=True, until=P.PROMOTING)
        refused = w.snapshot.wave(1)[0].generation
        w.change(CONTROL, rejected_generation=refused, rejected_reason="no", observed_hash=OLD, observed_generation=1)
        w.step()
        assert w.is_in(P.ROLLING_BACK)

    def test_one_that_restarts_goes_on(self) -> None:
        w = world()
        w.run(100, until=P.PROMOTING)
        w.change(CONTROL, instance_id="second-life", observed_hash=OLD, observed_generation=1)
        w.run(60)
        assert w.is_in(P.COMPLETED)


class TestInconclusive:
    def test_pauses_after_twice_the_time(self) -> None:
        w = world()
        w.measure = silent
        w.run(200)
        assert w.is_in(P.PAUSED)
        assert w.snapshot.paused_by is PausedBy.INCONCLUSIVE
        assert w.verdicts == [Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE]

    def test_promotes_where_the_policy_says_so_and_says_so(self) -> None:
        w = world(plan(on_inconclusive=OnInconclusive.PROMOTE))
        w.measure = silent
        w.run(200)
        assert w.is_in(P.COMPLETED)
        words = next(message for _, to, message in w.log if to is P.PROMOTING)
        assert "inconclusive, and the policy says to go on when no guard fired" in words

    def test_a_baseline_that_is_too_short_is_not_waited_for_twice(self) -> None:
        """Half of the windows before had no request: looking longer adds none to them, and the policy goes on anyway."""
        w = world(plan(on_inconclusive=OnInconclusive.PROMOTE))
        w.measure = lambda view, end: window(end) if view.touched or int(end.timestamp()) % 10 else silent(view, end)
        w.run(60, until=P.PROMOTING)
        assert w.verdicts == [Verdict.INCONCLUSIVE]

    def test_resumed_by_a_person_looks_again(self) -> None:
        w = world()
        w.measure = silent
        w.run(200, until=P.PAUSED)
        w.measure = lambda view, end: window(end)
        w.ask(Verb.RESUME)
        w.run(3)
        assert len(w.verdicts) == 3


class TestWithoutMetrics:
    def test_nothing_is_begun(self) -> None:
        w = world()
        w.measure = None
        w.run(100)
        assert w.is_in(P.PAUSED)
        assert w.snapshot.paused_by is PausedBy.ERROR
        assert not w.snapshot.touched

    def test_a_canary_under_way_waits_and_goes_on_by_itself(self) -> None:
        w = world()
        w.run(60, until=P.ANALYZING)
        w.measure = None
        w.run(40)
        assert w.is_in(P.PAUSED)
        assert w.verdicts == [Verdict.ERROR]
        w.measure = lambda view, end: window(end)
        w.run(200)
        assert w.is_in(P.COMPLETED)

    def test_missing_metrics_never_promote(self) -> None:
        w = world(plan(on_inconclusive=OnInconclusive.PROMOTE))
        w.run(60, until=P.ANALYZING)
        w.measure = None
        w.run(400)
        assert w.is_in(P.PAUSED)


class TestRequests:
    def test_abort_before_the_canary_just_ends(self) -> None:
        w = world(steady_since=START)
        w.run(3)
        w.ask(Verb.ABORT)
        w.run(2)
        assert w.is_in(P.CANCELLED)
        assert not w.snapshot.touched

    @pytest.mark.parametrize("at", [P.CANARY, P.ANALYZING, P.PROMOTING, P.BAKING])
    def test_abort_afterwards_rolls_back(self, at: RolloutPhase) -> None:
        w = world()
        w.run(200, until=at)
        w.ask(Verb.ABORT)
        w.run(10)
        assert w.is_in(P.ROLLED_BACK)
        assert {view.observed_hash for view in w.snapshot.nodes} == {OLD}

    def test_promote_skips_the_verdict(self) -> None:
        w = world()
        w.run(200, until=P.ANALYZING)
        w.ask(Verb.PROMOTE)
        w.step()
        assert w.is_in(P.PROMOTING)
        assert w.verdicts == []

    def test_pause_and_resume_lead_back_to_where_it_was(self) -> None:
        w = world()
        w.run(200, until=P.ANALYZING)
        w.ask(Verb.PAUSE)
        w.run(30)
        assert w.is_in(P.PAUSED)
        w.ask(Verb.RESUME)
        w.run(200)
        assert w.is_in(P.COMPLETED)

    def test_what_is_no_longer_possible_is_answered(self) -> None:
        w = world(steady_since=START)
        w.run(3)
        w.ask(Verb.PROMOTE)
        w.run(2)
        assert w.refusals == ["promote is not possible in BASELINING"]


class TestFreeze:
    def test_pauses_and_lifts_by_itself(self) -> None:
        w = world()
        w.run(60, until=P.ANALYZING)
        w.snapshot = replace(w.snapshot, frozen_reason="incident 7")
        w.run(60)
        assert w.is_in(P.PAUSED)
        assert w.snapshot.paused_by is PausedBy.FREEZE
        w.snapshot = replace(w.snapshot, frozen_reason=None)
        w.run(200)
        assert w.is_in(P.COMPLETED)

    def test_does_not_stop_a_way_back(self) -> None:
        w = world()
        w.run(60, until=P.ANALYZING)
        w.snapshot = replace(w.snapshot, frozen_reason="incident 7")
        w.ask(Verb.ABORT)
        w.run(10)
        assert w.is_in(P.ROLLED_BACK)

    def test_keeps_what_has_not_begun_waiting_for_its_end(self) -> None:
        w = world(frozen_reason="incident 7")
        w.run(60)
        assert w.is_in(P.SCHEDULED)
        w.snapshot = replace(w.snapshot, frozen_reason=None)
        w.run(200)
        assert w.is_in(P.COMPLETED)


class TestOutage:
    """Of the API or its database, amid a canary: what nodes confirmed meanwhile was not written down."""

    def test_deadlines_count_from_when_nodes_are_heard_again(self) -> None:
        w = world(plan(progress_deadline_s=30))
        w.run(60, until=P.CANARY, answer=False)
        w.now += timedelta(seconds=300)
        w.snapshot = replace(w.snapshot, listening_since=w.now)
        w.run(20, answer=False)
        assert w.is_in(P.CANARY)
        w.run(60, until=P.ANALYZING)
        assert w.is_in(P.ANALYZING)

    def test_and_still_end(self) -> None:
        w = world(plan(progress_deadline_s=30))
        w.run(60, until=P.CANARY, answer=False)
        w.snapshot = replace(w.snapshot, listening_since=w.now)
        w.run(40, answer=False)
        assert w.is_in(P.ROLLING_BACK)


class TestRollback:
    def test_that_a_live_node_never_confirms_is_said_to_have_failed(self) -> None:
        w = world(plan(progress_deadline_s=30))
        w.run(60, until=P.ANALYZING)
        w.ask(Verb.ABORT)
        w.run(60, answer=False)
        assert w.is_in(P.ROLLBACK_FAILED)
        assert "did not answer in time" in (w.outcome or "")

    def test_needs_a_second_only(self) -> None:
        w = world()
        w.run(60, until=P.ANALYZING)
        began = w.now
        w.ask(Verb.ABORT)
        w.run(30, until=P.ROLLED_BACK)
        assert w.now - began <= timedelta(seconds=3)


def test_an_ended_rollout_is_left_alone() -> None:
    step = reconcile(rollout(plan(), P.COMPLETED), START)
    assert (step.actions, step.requeue_after_s) == ((), None)
