"""A forecast moves something only where it has earned it; where not, it may advise, and it keeps things from being relaxed."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controlplane.decisions.decide import decide
from controlplane.decisions.decision import RULES, Decision, DecisionInputs, StepTime
from controlplane.decisions.policy import Autonomy, ForecastUse, Policy
from controlplane.decisions.reasons import Outcome, Reason, Trigger
from controlplane.forecasting.forecaster import Forecast, ForecastPoint
from controlplane.forecasting.merit import Merit
from inference_node.contract.settings import EngineSettings, Precision
from tests.support.decision_inputs import decision_inputs

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CALM, THREAT = 0.5, 30.0
EARNED = Merit(may_act=True, truths=100, cost=10.0, newest_cost=20.0)
UNPROVEN = Merit(may_act=False, truths=100, cost=30.0, newest_cost=20.0, threats=4.0, right=1.0, threats_seen=4)


def says(rate: float) -> Forecast:
    points = tuple(ForecastPoint(NOW + timedelta(seconds=5 * i), rate, rate, rate) for i in range(1, 7))
    return Forecast("offered_rps", NOW, 5.0, points, "holt_winters")


def use(how: ForecastUse) -> Policy:
    return Policy.model_validate({"forecast": {"use": how}})


def given(
    foreseen: float, newest: float, merit: Merit | None, how: ForecastUse = ForecastUse.EARNED, load: float = CALM
) -> DecisionInputs:
    return replace(
        decision_inputs(NOW, load),
        forecasts={"offered_rps": says(foreseen)},
        newest=says(newest),
        merit=merit,
        policy=use(how),
        rules=RULES,
    )


def plain(decision: Decision) -> Decision:
    """Without what is recorded of the voices."""
    figures = {name: value for name, value in decision.forecast.items() if name not in ("voice", "alone", "model")}
    return replace(decision, forecast=figures, explanation="")


class TestThreat:
    def test_only_the_forecast_sees_it_and_has_earned_it(self) -> None:
        decision = decide(given(THREAT, CALM, EARNED))
        assert (decision.outcome, decision.reason) == (Outcome.APPLY, Reason.BREACH_PREDICTED)
        assert decision.forecast["voice"] == "forecast"
        assert decision.forecast["alone"]["feared_rps"] == pytest.approx(decision.forecast["capacity_rps"])

    def test_only_the_forecast_sees_it_and_has_not(self) -> None:
        decision = decide(given(THREAT, CALM, UNPROVEN))
        assert (decision.outcome, decision.reason, decision.mode) == (
            Outcome.ADVISE,
            Reason.FORECAST_UNPROVEN,
            Autonomy.ADVISE,
        )
        assert decision.chosen is not None
        assert decision.trigger is Trigger.PROTECTIVE
        assert "cost 1.50 times" in decision.explanation
        assert "of 4 threats that only they saw 25% were right" in decision.explanation
        assert f"Advised: max_batch_size 4 -> {decision.chosen.max_batch_size}" in decision.explanation

    def test_what_scales_replicas_reads_the_newest_value_then(self) -> None:
        decision = decide(given(THREAT, CALM, UNPROVEN))
        assert decision.forecast["planned_rps"] == CALM
        assert decision.breach_probability == 0.0
        assert [(each.name, each.effect) for each in decision.constraints] == [("forecast_unproven", "advises")]
        assert decision.forecast["alone"]["planned_rps"] == THREAT

    def test_where_nothing_would_help_it_is_a_hold_with_the_same_reason(self) -> None:
        inputs = given(THREAT, CALM, UNPROVEN)
        fixed = inputs.policy.model_copy(update={"autonomy": dict.fromkeys(inputs.policy.autonomy, Autonomy.OFF)})
        decision = decide(replace(inputs, policy=fixed))
        assert (decision.outcome, decision.reason, decision.chosen) == (Outcome.HOLD, Reason.FORECAST_UNPROVEN, None)

    def test_on_few_windows_it_is_not_even_advice(self) -> None:
        inputs = given(THREAT, CALM, UNPROVEN)
        decision = decide(replace(inputs, history=inputs.history[-2:]))
        assert (decision.outcome, decision.reason) == (Outcome.HOLD, Reason.LEARNING)

    @pytest.mark.parametrize("merit", [None, EARNED, UNPROVEN])
    def test_what_both_see_is_acted_on_as_always(self, merit: Merit | None) -> None:
        always = decide(given(THREAT, THREAT, None, ForecastUse.ALWAYS, load=THREAT))
        assert always.outcome is Outcome.APPLY
        assert plain(decide(given(THREAT, THREAT, merit, load=THREAT))) == plain(always)

    def test_what_only_the_newest_value_sees_is_acted_on(self) -> None:
        decision = decide(given(CALM, THREAT, UNPROVEN, load=THREAT))
        assert (decision.outcome, decision.reason) == (Outcome.APPLY, Reason.BREACH_PREDICTED)

    def test_a_broken_objective_is_acted_on_whoever_says_what(self) -> None:
        inputs = given(THREAT, CALM, UNPROVEN)
        broken = replace(inputs.history[-1], ttft_p95_s=9.0, waiting=50.0)
        decision = decide(replace(inputs, observation=broken, history=(*inputs.history[:-1], broken)))
        assert (decision.outcome, decision.reason) == (Outcome.APPLY, Reason.SLO_BROKEN)


class TestUse:
    def test_off_goes_by_the_newest_value_alone_and_reports_the_forecast_beside_it(self) -> None:
        decision = decide(given(THREAT, CALM, EARNED, ForecastUse.OFF))
        assert (decision.outcome, decision.reason) == (Outcome.HOLD, Reason.WITHIN_SLO)
        assert decision.forecast["voice"] == "newest"
        assert decision.forecast["alone"]["likely_rps"] == THREAT

    def test_off_is_the_same_as_a_race_that_only_the_newest_value_runs(self) -> None:
        for newest in (CALM, THREAT):
            blind = replace(given(newest, newest, None), rules=3)
            assert plain(decide(given(THREAT, newest, EARNED, ForecastUse.OFF))) == plain(decide(blind))

    def test_always_is_what_older_rules_did(self) -> None:
        for foreseen in (CALM, THREAT):
            inputs = given(foreseen, CALM, UNPROVEN, ForecastUse.ALWAYS)
            assert plain(decide(inputs)) == plain(decide(replace(inputs, rules=3)))

    def test_older_rules_do_not_look_at_any_of_it(self) -> None:
        bare = replace(given(THREAT, CALM, None), newest=None, rules=3)
        for how in ForecastUse:
            found = replace(given(THREAT, CALM, UNPROVEN, how), rules=3)
            assert decide(found) == decide(bare)
            assert "voice" not in decide(found).forecast


class TestRelaxing:
    def _calm(self, foreseen: float, newest: float, merit: Merit, how: ForecastUse = ForecastUse.EARNED) -> Decision:
        inputs = replace(
            decision_inputs(NOW, windows=80),
            settings=EngineSettings(max_batch_size=16),
            home=EngineSettings(max_batch_size=8),
            step_times=(StepTime(Precision.BF16, 0.03, 0.03, 0.0008, 9, 0.05),),
            forecasts={"offered_rps": says(foreseen)},
            newest=says(newest),
            merit=merit,
            policy=use(how),
            rules=RULES,
        )
        return decide(inputs)

    def test_both_must_allow_it_while_the_gate_is_shut(self) -> None:
        assert self._calm(CALM, CALM, UNPROVEN).reason is Reason.RECOVERY
        # 0.58 requests/s are no breach for what is in force, and too many for what people chose.
        for foreseen, newest in ((0.58, CALM), (CALM, 0.58)):
            held = self._calm(foreseen, newest, UNPROVEN)
            assert (held.outcome, held.reason) == (Outcome.HOLD, Reason.WITHIN_SLO)

    def test_a_shut_gate_never_makes_it_easier(self) -> None:
        for foreseen in (CALM, 0.52, 0.54, 0.56, 0.6, 0.64, THREAT):
            if self._calm(foreseen, CALM, UNPROVEN).trigger is Trigger.RELAXING:
                assert self._calm(foreseen, CALM, EARNED).trigger is Trigger.RELAXING


@pytest.mark.parametrize("merit", [None, EARNED, UNPROVEN])
@pytest.mark.parametrize("how", ForecastUse)
def test_survives_the_database(merit: Merit | None, how: ForecastUse) -> None:
    inputs = given(THREAT, CALM, merit, how)
    again = DecisionInputs.from_json(json.loads(json.dumps(inputs.to_json())))
    assert again == inputs
    assert decide(again) == decide(inputs)


def test_inputs_that_were_stored_before_have_neither_a_newest_value_nor_a_merit() -> None:
    stored = replace(decision_inputs(NOW), rules=3).to_json()
    assert not {"newest", "merit"} & set(stored)
    del stored["policy"]["forecast"]["use"]
    again = DecisionInputs.from_json(stored)
    assert (again.newest, again.merit) == (None, None)
    assert decide(again) == decide(replace(decision_inputs(NOW), rules=3))
