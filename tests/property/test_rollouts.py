"""Whatever happens to a rollout, it moves legally, ends or waits for something that has a name, and forgets no node."""

from dataclasses import replace
from datetime import datetime

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from controlplane.decisions.policy import OnInconclusive, Policy
from controlplane.rollouts.actions import Dispatch
from controlplane.rollouts.analysis import Verdict
from controlplane.rollouts.phases import MOVES, PausedBy, RolloutPhase, Verb
from controlplane.rollouts.plan import Candidate, RolloutPlan, make_plan
from controlplane.rollouts.reconcile import reconcile
from controlplane.rollouts.snapshot import NodeView
from controlplane.telemetry.observation import Observation, Quality
from tests.support.arms import plan, window
from tests.support.rollout_world import NEW, OLD, RolloutWorld, WindowOf, rollout

P = RolloutPhase
EVENTS = (
    "pause",
    "resume",
    "promote",
    "abort",
    "freeze",
    "thaw",
    "lose",
    "find",
    "restart",
    "refuse",
    "stall",
    "answer",
)

events = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 4), st.integers(1, 12)), max_size=10)
weather = st.sampled_from(["calm", "worse", "errors", "silent", "missing", "stale"])
policies = st.sampled_from(list(OnInconclusive))


def measuring(kind: str) -> WindowOf | None:
    def measure(view: NodeView, end: datetime) -> Observation:
        changed = view.observed_hash == NEW
        match kind:
            case "worse" if changed:
                return window(end, ttft_s=3.0, itl_s=0.6)
            case "errors" if changed:
                return window(end, requests=10, errors=10)
            case "silent":
                return window(end, ttft_s=None, itl_s=None, requests=0)
            case "stale":
                return window(end, quality=Quality.STALE)
        return window(end)

    return None if kind == "missing" else measure


def made(nodes: int, on_inconclusive: OnInconclusive) -> RolloutPlan:
    policy = plan(on_inconclusive=on_inconclusive, progress_deadline_s=30).policy
    return make_plan([Candidate(f"{k}-id", str(k), True) for k in range(nodes)], Policy(rollout=policy))


def happen(world: RolloutWorld, event: str, which: int, answers: list[bool]) -> None:
    view = world.snapshot.nodes[which % len(world.snapshot.nodes)]
    match event:
        case "pause" | "resume" | "promote" | "abort":
            if world.snapshot.request is not Verb.ABORT:  # the service lets nothing replace an abort
                world.ask(Verb(event))
        case "freeze" | "thaw":
            world.snapshot = replace(world.snapshot, frozen_reason="incident" if event == "freeze" else None)
        case "lose" | "find":
            world.change(view.id, reachable=event == "find", ready=event == "find")
        case "restart":
            world.change(view.id, instance_id=f"{view.instance_id}+")
        case "refuse":
            if view.generation is not None and not view.runs(NEW) and not view.runs(OLD):
                world.change(view.id, rejected_generation=view.generation, rejected_reason="no")
        case "stall" | "answer":
            answers[0] = event == "answer"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nodes=st.integers(1, 12), story=events, sky=weather, on_inconclusive=policies)
@example(
    nodes=1,
    story=[("stall", 0, 2), ("restart", 0, 1), ("refuse", 0, 1), ("answer", 0, 1), ("lose", 0, 1)],
    sky="calm",
    on_inconclusive=OnInconclusive.PAUSE,
)
def test_every_story_ends_or_waits_for_a_named_thing(
    nodes: int, story: list[tuple[str, int, int]], sky: str, on_inconclusive: OnInconclusive
) -> None:
    """Legality of each move is asserted by the world as it carries it out."""
    world = RolloutWorld(rollout(made(nodes, on_inconclusive)), measure=measuring(sky))
    answers = [True]
    for event, which, seconds in story:
        if world.phase.is_terminal:
            break  # what happens to nodes later is for anti-entropy, not for an ended rollout
        happen(world, event, which, answers)
        world.run(seconds, answer=answers[0])
    world.settle(answer=answers[0])
    if world.phase is P.SCHEDULED:
        assert world.snapshot.frozen_reason is not None  # frozen before it began: it waits for the end of that
        assert not world.snapshot.touched
        return
    ended = world.phase.is_terminal
    assert ended or world.phase is P.PAUSED
    assert ended or world.snapshot.paused_by in set(PausedBy)
    _check_end(world, answers[0])


def _check_end(world: RolloutWorld, answering: bool) -> None:
    live = [view for view in world.snapshot.nodes if view.reachable]
    match world.phase:
        case P.COMPLETED:
            assert all(view.runs(NEW) for view in live)
        case P.ROLLED_BACK:
            assert all(view.observed_hash == OLD for view in live if view.touched)
        case P.CANCELLED | P.REJECTED:
            assert not world.snapshot.touched
        case P.ROLLBACK_FAILED:
            assert not answering or any(view.refusal for view in live)
        case _:
            pass


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nodes=st.integers(1, 6), story=events, sky=weather)
def test_inconclusive_never_promotes_unless_the_policy_says_so(
    nodes: int, story: list[tuple[str, int, int]], sky: str
) -> None:
    """With `on_inconclusive: pause`, only a PASS or a person leads to the other nodes."""
    world = RolloutWorld(rollout(made(nodes, OnInconclusive.PAUSE)), measure=measuring(sky))
    answers, asked = [True], False
    for event, which, seconds in story:
        asked = asked or event == "promote"
        happen(world, event, which, answers)
        world.run(seconds, answer=answers[0])
    world.settle(answer=answers[0])
    onwards = {P.PROMOTING, P.BAKING, P.COMPLETED} & {to for _, to, _ in world.log}
    assert not onwards or Verdict.PASS in world.verdicts or asked


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nodes=st.integers(1, 6), story=events, sky=weather)
def test_reconciling_twice_orders_the_same_and_its_effect_is_not_ordered_again(
    nodes: int, story: list[tuple[str, int, int]], sky: str
) -> None:
    """Pure: the same snapshot, the same order. Idempotent: what was carried out is not ordered again while nothing happens."""
    world = RolloutWorld(rollout(made(nodes, OnInconclusive.PAUSE)), measure=measuring(sky))
    answers = [True]
    for event, which, seconds in story:
        happen(world, event, which, answers)
        world.run(seconds, answer=answers[0])
        world.fetch()
        once, twice = reconcile(world.snapshot, world.now), reconcile(world.snapshot, world.now)
        assert once == twice
        sent: list[tuple[str, bool]] = []
        for _ in range(12):  # time stands still, nodes say nothing
            step = world.step()
            for action in step.actions:
                if isinstance(action, Dispatch):
                    for node_id in action.node_ids:
                        assert (node_id, action.back) not in sent, "sent twice"
                        sent.append((node_id, action.back))
            if not step.actions:
                break
        else:
            raise AssertionError(f"never comes to rest in {world.phase}: {step.actions}")


def test_every_phase_can_be_left_or_is_an_end() -> None:
    reachable, front = {P.VALIDATING}, [P.VALIDATING]
    while front:
        for target in MOVES[front.pop()] - reachable:
            reachable.add(target)
            front.append(target)
    assert reachable == set(P)
