"""What no decision may do, whatever it is given."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from controlplane.decisions.decide import decide
from controlplane.decisions.decision import RULES, Decision, DecisionInputs, NodeFacts, PastChange, StepTime, Workload
from controlplane.decisions.error_budget import Tally
from controlplane.decisions.policy import (
    Autonomy,
    ForecastPolicy,
    ForecastUse,
    Guardrails,
    Objective,
    Policy,
    Slo,
)
from controlplane.decisions.reasons import Outcome, Reason, Trigger
from controlplane.forecasting.forecaster import Forecast, ForecastPoint
from controlplane.forecasting.merit import Merit
from controlplane.telemetry.observation import Observation, Quality
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.settings import EngineSettings, KnobBounds, Precision

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
positive = st.floats(0.001, 100, allow_nan=False)
ANY_QUALITY = st.sampled_from([Quality.OK, Quality.OK, Quality.PARTIAL, Quality.STALE, Quality.MISSING])
maybe = st.none() | st.floats(0, 100, allow_nan=False)


@st.composite
def observations(draw: st.DrawFn, at: datetime, qualities: st.SearchStrategy[Quality]) -> Observation:
    return Observation(
        window_end=at,
        window_s=5.0,
        quality=draw(qualities),
        offered_rps=draw(maybe),
        requests=draw(maybe),
        running=draw(maybe),
        waiting=draw(st.none() | st.floats(0, 500)),
        ttft_p95_s=draw(maybe),
        itl_p95_s=draw(maybe),
        step_mean_s=draw(st.none() | st.floats(0.001, 2)),
        decode_rows_mean=draw(st.none() | st.floats(0, 64)),
        prefill_tokens_mean=draw(st.none() | st.floats(0, 512)),
        prefix_hit_ratio=draw(st.none() | st.floats(0, 1)),
        prompt_tokens_mean=draw(st.none() | st.floats(1, 4000)),
        generation_tokens_mean=draw(st.none() | st.floats(1, 1000)),
        nodes_up=2,
    )


@st.composite
def forecasts(draw: st.DrawFn) -> Forecast:
    points = []
    for step in range(draw(st.integers(1, 6))):
        low, middle, high = sorted(draw(st.tuples(*[st.floats(0, 80)] * 3)))
        points.append(ForecastPoint(NOW + timedelta(seconds=5 * (step + 1)), low, middle, high))
    return Forecast("offered_rps", NOW, 5.0, tuple(points), "test")


merits = st.builds(
    Merit,
    may_act=st.booleans(),
    truths=st.integers(0, 1000),
    cost=st.floats(0, 1e6),
    newest_cost=st.floats(0, 1e6),
    threats=st.floats(0, 50),
    threats_seen=st.integers(0, 50),
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    low, high = sorted(draw(st.tuples(st.integers(1, 64), st.integers(1, 64))))
    return Policy(
        slo=Slo(ttft_p95_s=draw(positive), itl_p95_s=draw(positive)),
        autonomy={
            "max_batch_size": draw(st.sampled_from(Autonomy)),
            "max_batched_tokens": draw(st.sampled_from(Autonomy)),
            "batch_wait_ms": draw(st.sampled_from(Autonomy)),
        },
        guardrails=Guardrails(
            bounds={"max_batch_size": KnobBounds(min=low, max=high)},
            max_change_ratio=draw(st.floats(1.05, 8)),
            cooldown_relaxing_s=draw(st.floats(0, 60)),
            max_changes_per_h=draw(st.integers(0, 3)),
        ),
        objective=Objective(breach_probability=draw(st.floats(0, 1))),
        forecast=ForecastPolicy(use=draw(st.sampled_from(ForecastUse))),
    )


@st.composite
def inputs(draw: st.DrawFn, qualities: st.SearchStrategy[Quality] = ANY_QUALITY) -> DecisionInputs:
    history = tuple(
        draw(observations(NOW - timedelta(seconds=5 * age), qualities))
        for age in range(draw(st.integers(1, 8)), -1, -1)
    )
    capabilities = NodeCapabilities(
        precisions=(Precision.BF16,), max_batch_size=32, max_batched_tokens=1024, max_model_len=2048, kv_tokens=9999
    )
    batch = st.integers(1, 32)
    return DecisionInputs(
        rules=draw(st.sampled_from((1, RULES))),
        now=NOW,
        pool="p",
        policy=draw(policies()),
        policy_version=1,
        settings=EngineSettings(max_batch_size=draw(batch), batch_wait_ms=draw(st.floats(0, 50))),
        nodes=tuple(NodeFacts(f"n{i}", f"n{i}", draw(st.booleans()), capabilities) for i in range(2)),
        observation=history[-1],
        history=history,
        forecasts=draw(st.just({}) | forecasts().map(lambda f: {"offered_rps": f})),
        newest=draw(st.none() | forecasts()),
        merit=draw(st.none() | merits),
        step_times=draw(
            st.just(())
            | st.builds(
                StepTime,
                precision=st.just(Precision.BF16),
                base_s=st.floats(0, 0.5),
                row_s=st.floats(0, 0.1),
                prefill_token_s=st.floats(0, 0.01),
                samples=st.just(12),
                error_ratio=st.floats(0, 1),
            ).map(lambda step: (step,))
        ),
        changes=tuple(
            draw(
                st.lists(
                    st.builds(
                        PastChange,
                        at=st.floats(0, 4000).map(lambda s: NOW - timedelta(seconds=s)),
                        trigger=st.sampled_from(Trigger),
                    ),
                    max_size=3,
                )
            )
        ),
        workload=draw(st.none() | st.builds(Workload, st.floats(1, 4000), st.floats(1, 1000))),
        home=draw(st.none() | batch.map(lambda size: EngineSettings(max_batch_size=size))),
        frozen_reason=draw(st.none() | st.just("by hand")),
        active_rollout=draw(st.none() | st.just("r1")),
    )


@st.composite
def open_inputs(draw: st.DrawFn) -> DecisionInputs:
    """Inputs under which a change is really weighed: fresh facts, ready nodes, a known model, and often a threat."""
    load = draw(st.floats(0.5, 40))
    points = tuple(
        ForecastPoint(NOW + timedelta(seconds=5 * step), 0.7 * load, load, draw(st.floats(1, 2)) * load)
        for step in (1, 2)
    )
    ages = range(16, -1, -1)
    ttft = draw(st.none() | st.floats(0.05, 5))
    history = tuple(
        Observation(
            NOW - timedelta(seconds=5 * age),
            5.0,
            Quality.OK,
            offered_rps=load,
            requests=10.0,
            waiting=draw(st.sampled_from([0.0, 0.0, 20.0])) if age == 0 else 0.0,
            ttft_p95_s=ttft,
            itl_p95_s=0.05,
            prompt_tokens_mean=40.0,
            generation_tokens_mean=48.0,
        )
        for age in ages
    )
    capabilities = NodeCapabilities(
        precisions=(Precision.BF16,), max_batch_size=32, max_batched_tokens=1024, max_model_len=2048, kv_tokens=9999
    )
    return DecisionInputs(
        now=NOW,
        pool="p",
        policy=draw(policies()),
        policy_version=1,
        settings=EngineSettings(
            max_batch_size=draw(st.integers(1, 32)), batch_wait_ms=draw(st.sampled_from([0.0, 8.0]))
        ),
        nodes=tuple(NodeFacts(f"n{i}", f"n{i}", True, capabilities) for i in range(2)),
        observation=history[-1],
        history=history,
        forecasts={"offered_rps": Forecast("offered_rps", NOW, 5.0, points, "test")},
        step_times=(
            StepTime(Precision.BF16, draw(st.floats(0.005, 0.1)), draw(st.floats(0.0005, 0.01)), 0.0008, 12, 0.05),
        ),
        workload=Workload(40.0, 48.0),
        home=draw(st.none() | st.integers(1, 32).map(lambda size: EngineSettings(max_batch_size=size))),
    )


many = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@many
@given(open_inputs() | inputs())
def test_chosen_settings_stay_in_every_bound(given_: DecisionInputs) -> None:
    """Policy bounds, trust region, node capabilities and autonomy all hold for what is applied or advised."""
    decision = decide(given_)
    assert decision.explanation
    if decision.chosen is None:
        assert decision.outcome in {Outcome.HOLD, Outcome.REJECT}
        return
    now, chosen, rails = given_.settings, decision.chosen, given_.policy.guardrails
    changed = now.changed(chosen)
    assert changed
    assert all(given_.policy.autonomy_of(knob).rank >= Autonomy.ADVISE.rank for knob in changed)
    if decision.outcome is Outcome.APPLY:
        assert all(given_.policy.autonomy_of(knob) is Autonomy.AUTO for knob in changed)
    if "max_batch_size" in changed:
        bounds = rails.bounds["max_batch_size"]
        assert bounds.min <= chosen.max_batch_size <= bounds.max
        ratio = rails.max_change_ratio
        assert now.max_batch_size / ratio <= chosen.max_batch_size <= now.max_batch_size * ratio
    assert chosen.max_batch_size <= 32 or "max_batch_size" not in changed
    assert chosen.max_batched_tokens <= 1024


@many
@given(open_inputs() | inputs())
def test_equal_inputs_give_the_equal_decision_also_out_of_the_database(given_: DecisionInputs) -> None:
    """Inputs survive JSON, and the decision made from them again is the same to the last digit."""
    stored = json.loads(json.dumps(given_.to_json(), allow_nan=False))
    again = DecisionInputs.from_json(stored)
    assert again == given_
    first, second = decide(given_), decide(again)
    assert first == second
    assert json.dumps(first.to_json(), allow_nan=False) == json.dumps(second.to_json(), allow_nan=False)


@many
@given(inputs(st.sampled_from([Quality.MISSING, Quality.STALE])))
def test_nothing_is_changed_without_fresh_data(given_: DecisionInputs) -> None:
    decision = decide(given_)
    assert decision.outcome is Outcome.HOLD
    assert decision.chosen is None


@many
@given(open_inputs(), st.sampled_from(["frozen", "rollout", "budget", "nodes"]))
def test_a_guardrail_stops_any_change(given_: DecisionInputs, guardrail: str) -> None:
    """No change while the pool is frozen, a rollout is under way, no node is ready, or beyond the changes that are allowed."""
    match guardrail:
        case "frozen":
            given_ = replace(given_, frozen_reason="by hand")
        case "rollout":
            given_ = replace(given_, active_rollout="r1")
        case "nodes":
            given_ = replace(given_, nodes=tuple(replace(node, ready=False) for node in given_.nodes))
        case _:
            allowed = given_.policy.guardrails.max_changes_per_h
            change = PastChange(NOW - timedelta(minutes=30), Trigger.PROTECTIVE)
            given_ = replace(given_, changes=(change,) * allowed)
    assert decide(given_).chosen is None


@pytest.mark.parametrize(
    "is_wanted",
    [
        lambda d: (d.outcome, d.reason) == (Outcome.APPLY, Reason.BREACH_PREDICTED),
        lambda d: d.reason is Reason.RECOVERY,
        lambda d: d.outcome is Outcome.ADVISE,
    ],
    ids=["protects", "recovers", "advises"],
)
def test_the_open_inputs_do_lead_to_changes(is_wanted: Callable[[Decision], bool]) -> None:
    """Else the properties above would hold of nothing. Raises NoSuchExample when none is found."""
    search = settings(max_examples=4000, deadline=None, phases=[Phase.generate], database=None)
    find(open_inputs(), lambda given_: is_wanted(decide(given_)), settings=search)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.1, 6), st.floats(0, 6), st.integers(1, 16))
def test_more_load_never_makes_a_breach_less_likely(rate: float, more: float, batch: int) -> None:
    """Monotone safety: what is safe at a load is safe at any lower one."""
    low, high = (_decided_at(load, batch) for load in (rate, rate + more))
    assert low <= high + 1e-9


def _decided_at(rate: float, batch: int) -> float:
    point = ForecastPoint(NOW + timedelta(seconds=5), 0.8 * rate, rate, 1.4 * rate)
    seen = Observation(
        NOW, 5.0, Quality.OK, offered_rps=rate, requests=10, waiting=0, prompt_tokens_mean=40, generation_tokens_mean=48
    )
    decision = decide(
        DecisionInputs(
            now=NOW,
            pool="p",
            policy=Policy(),
            policy_version=1,
            settings=EngineSettings(max_batch_size=batch),
            nodes=(NodeFacts("n", "n", True),),
            observation=seen,
            history=(seen,),
            forecasts={"offered_rps": Forecast("offered_rps", NOW, 5.0, (point,) * 6, "test")},
            step_times=(StepTime(Precision.BF16, 0.03, 0.003, 0.0008, 9, 0.05),),
            workload=Workload(40.0, 48.0),
        )
    )
    assert decision.breach_probability is not None
    return decision.breach_probability


@pytest.mark.parametrize("rate", [0.0, 1e-6, 1e3])
def test_extreme_loads_are_decided_in_finite_numbers(rate: float) -> None:
    assert 0 <= _decided_at(rate, 4) <= 1


@given(open_inputs())
def test_a_pool_whose_error_budget_burns_is_only_protected(found: DecisionInputs) -> None:
    """It is never relaxed, and what protects comes out as it does without a burn."""
    whole = Tally(known_s=3600.0, first_tokens=1000.0, answers=1000.0)
    calm = decide(replace(found, rules=RULES, served=whole))
    burning = decide(replace(found, rules=RULES, served=replace(whole, late=500.0)))
    assert burning.trigger is not Trigger.RELAXING
    if calm.trigger is Trigger.PROTECTIVE or calm.reason not in {Reason.WITHIN_SLO, Reason.RECOVERY}:
        assert calm.trigger is Trigger.RELAXING or burning == calm


def _under(found: DecisionInputs, use: ForecastUse, newest: Forecast, *, may_act: bool) -> Decision:
    policy = found.policy.model_copy(update={"forecast": ForecastPolicy(use=use)})
    merit = Merit(may_act=may_act, truths=50, cost=2.0, newest_cost=1.0)
    return decide(replace(found, policy=policy, newest=newest, merit=merit, rules=RULES))


@many
@given(open_inputs(), forecasts())
def test_a_forecast_that_has_not_earned_it_moves_nothing(found: DecisionInputs, newest: Forecast) -> None:
    """What is changed for protection is what the newest value alone would change; what is relaxed, it would relax, too."""
    shut, blind = (_under(found, use, newest, may_act=False) for use in (ForecastUse.EARNED, ForecastUse.OFF))
    if shut.outcome is Outcome.APPLY:
        assert blind.outcome is Outcome.APPLY
        assert shut.trigger is blind.trigger
        if shut.trigger is Trigger.PROTECTIVE:
            assert shut.chosen == blind.chosen
    if shut.reason is Reason.FORECAST_UNPROVEN:
        assert shut.outcome in {Outcome.ADVISE, Outcome.HOLD}
        assert blind.trigger is not Trigger.PROTECTIVE


@many
@given(open_inputs(), forecasts())
def test_a_forecast_that_has_earned_it_is_followed_as_if_it_always_were(
    found: DecisionInputs, newest: Forecast
) -> None:
    assert _under(found, ForecastUse.EARNED, newest, may_act=True) == _under(
        found, ForecastUse.ALWAYS, newest, may_act=False
    )
