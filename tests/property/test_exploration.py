"""What exploration may never do, whatever it is given."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.decisions.decision import DecisionInputs, NodeFacts
from controlplane.decisions.error_budget import Tally
from controlplane.decisions.exploration import Asked, Chosen, choose
from controlplane.decisions.exploration_gates import Declined
from controlplane.decisions.exploration_policy import ExplorationMode, ExplorationPolicy
from controlplane.decisions.explored import LogError, Quantity, Tried, TryVerdict
from controlplane.decisions.policy import Autonomy, CertifiedVariant, Policy
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.settings import EngineSettings, Precision
from tests.property.test_decisions import inputs as any_inputs
from tests.support.exploring import AT, UNSPENT, calm

MODES = st.sampled_from((ExplorationMode.RANDOM, ExplorationMode.MODEL))
LEVELS = st.sampled_from((Autonomy.OFF, Autonomy.OBSERVE, Autonomy.APPROVE, Autonomy.AUTO))
BATCH = st.integers(1, 32)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    low, high = sorted(draw(st.tuples(BATCH, st.integers(1, 64))))
    document: dict[str, Any] = {
        "slo": {"ttft_p95_s": draw(st.floats(0.2, 3)), "itl_p95_s": draw(st.floats(0.03, 0.5))},
        "autonomy": {knob: draw(LEVELS) for knob in ("max_batched_tokens", "batch_wait_ms", "precision")}
        | {"max_batch_size": draw(st.sampled_from((Autonomy.AUTO, Autonomy.AUTO, Autonomy.APPROVE)))},
        "guardrails": {
            "bounds": {"max_batch_size": {"min": low, "max": high}, "max_batched_tokens": {"min": 128, "max": 1024}},
            "max_change_ratio": draw(st.floats(1.05, 8)),
            "cooldown_relaxing_s": 60,
        },
        "quality": {
            "max_loss_ratio": draw(st.floats(0, 0.05)),
            "certified": [
                CertifiedVariant(precision=Precision.INT8, quality_loss_ratio=draw(st.floats(0, 0.05))).model_dump()
            ],
        },
        "exploration": {"mode": draw(MODES)},
    }
    return Policy.model_validate(document)


@st.composite
def past(draw: st.DrawFn) -> tuple[Tried, ...]:
    found = []
    for _ in range(draw(st.integers(0, 6))):
        at = AT - timedelta(hours=draw(st.floats(1.5, 100)))
        errors = tuple(
            LogError(q, draw(st.floats(-1, 1)), draw(st.floats(0.01, 1)))
            for q in draw(st.sets(st.sampled_from(Quantity)))
        )
        found.append(
            Tried(
                at, EngineSettings(max_batch_size=draw(BATCH)), EngineSettings(max_batch_size=draw(BATCH)),
                draw(st.floats(0, 5)), at + timedelta(minutes=15), draw(st.sampled_from(TryVerdict)), errors,
            )
        )  # fmt: skip
    return tuple(found)


@st.composite
def open_pools(draw: st.DrawFn) -> DecisionInputs:
    """All gates are open, or the load closes them."""
    capabilities = NodeCapabilities(
        precisions=(Precision.BF16, Precision.INT8), max_batch_size=draw(st.integers(8, 64)), max_batched_tokens=2048,
        max_model_len=2048, kv_tokens=32768,
    )  # fmt: skip
    nodes = tuple(NodeFacts(f"n{k}", f"node-{k}", True, capabilities) for k in range(draw(st.integers(2, 4))))
    made = calm(windows=14, load=draw(st.floats(0.1, 2)), policy=draw(policies()), nodes=nodes)
    (step,) = made.step_times
    settings = EngineSettings(max_batch_size=draw(BATCH), batch_wait_ms=draw(st.sampled_from((0.0, 4.0))))
    return replace(made, settings=settings, step_times=(step, replace(step, precision=Precision.INT8, base_s=0.02)))


@given(open_pools(), past())
@settings(max_examples=150, deadline=None)
def test_never_beyond_bounds_trust_region_autonomy_or_quality(inputs: DecisionInputs, tried: tuple[Tried, ...]) -> None:
    found = choose(inputs, tried)
    if isinstance(found, Declined):
        return
    policy, now, then = inputs.policy, inputs.settings, found.option.settings
    rails = policy.guardrails
    for knob, (here, there) in now.changed(then).items():
        assert policy.autonomy_of(knob) is Autonomy.AUTO
        bounds = rails.bounds.get(knob)
        assert bounds is None or bounds.min <= float(there) <= bounds.max
        if knob in {"max_batch_size", "max_batched_tokens"}:
            assert float(here) / rails.max_change_ratio <= float(there) <= float(here) * rails.max_change_ratio
    assert found.option.predicted.quality_loss_ratio <= policy.quality.max_loss_ratio
    if then.max_batch_size != now.max_batch_size:
        assert all(then.max_batch_size <= n.capabilities.max_batch_size for n in inputs.nodes if n.capabilities)
    assert found.option.safe
    assert found.option.ttft_high_s <= policy.slo.ttft_p95_s
    assert found.option.itl_high_s <= policy.slo.itl_p95_s
    assert found.option in found.considered


def _closers() -> st.SearchStrategy[Callable[[DecisionInputs], DecisionInputs]]:
    """Each closes one gate of any pool."""

    def newest(inputs: DecisionInputs, **facts: Any) -> DecisionInputs:
        assert inputs.observation is not None
        seen = replace(inputs.observation, **facts)
        return replace(inputs, observation=seen, history=(*inputs.history[:-1], seen))

    def off(inputs: DecisionInputs) -> DecisionInputs:
        return replace(inputs, policy=inputs.policy.model_copy(update={"exploration": ExplorationPolicy()}))

    return st.sampled_from(
        (
            off,
            lambda i: replace(i, alarm="hot"),
            lambda i: replace(i, frozen_reason="by hand"),
            lambda i: replace(i, active_rollout="r"),
            lambda i: replace(i, observation=None),
            lambda i: replace(i, nodes=i.nodes[:1]),
            lambda i: replace(i, nodes=(replace(i.nodes[0], ready=False), *i.nodes[1:])),
            lambda i: replace(i, step_times=()),
            lambda i: replace(i, served=None),
            lambda i: replace(i, served=Tally(3600, 1000, 300, 40_000, 0, 1000, 0)),
            lambda i: replace(i, history=i.history[-2:]),
            lambda i: newest(i, waiting=3.0),
            lambda i: newest(i, itl_p95_s=9.0),
            lambda i: newest(i, ttft_p95_s=9.0),
        )
    )


@given(open_pools(), past(), _closers())
@settings(max_examples=150, deadline=None)
def test_never_through_a_closed_gate(
    inputs: DecisionInputs, tried: tuple[Tried, ...], close: Callable[[DecisionInputs], DecisionInputs]
) -> None:
    assert isinstance(choose(close(inputs), tried), Declined)


@given(any_inputs(), MODES)
@settings(max_examples=100, deadline=None)
def test_anything_that_decisions_are_given_is_answered_and_the_same_again(
    inputs: DecisionInputs, mode: ExplorationMode
) -> None:
    policy = inputs.policy.model_copy(update={"exploration": ExplorationPolicy(mode=mode)})
    asked = Asked(replace(inputs, policy=policy, served=UNSPENT), ())
    found = choose(asked.inputs, asked.tried)
    again = Asked.from_json(asked.to_json())
    assert choose(again.inputs, again.tried) == found


def test_the_pools_of_these_tests_are_often_tried_on() -> None:
    """Or the properties would say nothing."""
    found = 0

    @given(open_pools(), past())
    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    def count(inputs: DecisionInputs, tried: tuple[Tried, ...]) -> None:
        nonlocal found
        found += isinstance(choose(inputs, tried), Chosen)

    count()
    assert found >= 15
