"""What is tried, and when nothing is."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from controlplane.decisions.decision import DecisionInputs, NodeFacts, PastChange
from controlplane.decisions.error_budget import Tally
from controlplane.decisions.exploration import Asked, Chosen, choose
from controlplane.decisions.exploration_gates import Closed, Declined
from controlplane.decisions.exploration_policy import ExplorationMode, ExplorationPolicy
from controlplane.decisions.explored import Quantity, Tried, TryVerdict
from controlplane.decisions.policy import Autonomy, CertifiedVariant, ForecastUse, Guardrails, Policy, Quality, Slo
from controlplane.decisions.reasons import Trigger
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.settings import EngineSettings, Precision
from tests.support.exploring import AT, NODES, calm, exploring, tried

RANDOM = exploring(ExplorationMode.RANDOM)


def chosen(inputs: DecisionInputs, *past: Tried) -> Chosen:
    found = choose(inputs, past)
    assert isinstance(found, Chosen), found
    return found


def closed(inputs: DecisionInputs, *past: Tried) -> Declined:
    found = choose(inputs, past)
    assert isinstance(found, Declined), found
    return found


def seen(inputs: DecisionInputs, **facts: Any) -> DecisionInputs:
    """With these facts in the newest window."""
    assert inputs.observation is not None
    newest = replace(inputs.observation, **facts)
    return replace(inputs, observation=newest, history=(*inputs.history[:-1], newest))


class TestPolicy:
    @pytest.mark.parametrize(
        ("section", "words"),
        [
            ({"mode": "clever"}, r"exploration\.mode"),
            ({"per_h": 13}, r"exploration\.per_h"),
            ({"per_h": 0}, r"exploration\.per_h"),
            ({"lease_s": 59}, r"exploration\.lease_s"),
            ({"lease_s": 3601}, r"exploration\.lease_s"),
            ({"min_budget_left": 1.1}, r"exploration\.min_budget_left"),
            ({"per_h": 5}, "per_h: 5 tries of lease_s 900 do not fit into an hour"),
        ],
    )
    def test_names_what_is_wrong(self, section: dict[str, object], words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            Policy.model_validate({"exploration": section})

    def test_explores_nothing_unless_told_to(self) -> None:
        assert Policy().exploration == ExplorationPolicy(mode=ExplorationMode.OFF, per_h=1, lease_s=900)

    def test_a_short_lease_twelve_times_an_hour_is_possible(self) -> None:
        assert exploring(per_h=12, lease_s=60).exploration.per_h == 12


class TestGates:
    """Each closed gate by its own reason, in a pool that would otherwise be tried on."""

    def test_all_open(self) -> None:
        assert chosen(calm()).option.safe

    def test_off(self) -> None:
        assert closed(calm(policy=Policy())).why is Closed.OFF

    def test_one_at_a_time(self) -> None:
        going = Tried(AT - timedelta(hours=3), EngineSettings(), EngineSettings(), 0.0)
        assert closed(calm(), going).why is Closed.UNDER_WAY

    def test_one_an_hour(self) -> None:
        inputs = calm()
        past = tried(EngineSettings(max_batch_size=5), inputs.settings, hours=0.9)
        declined = closed(inputs, past)
        assert (declined.why, "allows 1" in declined.detail) == (Closed.ENOUGH_THIS_HOUR, True)
        assert chosen(calm(policy=exploring(per_h=2)), past)

    def test_a_try_needs_windows_of_the_settings_in_force_before_it(self) -> None:
        inputs = calm(policy=exploring(per_h=2, lease_s=60))
        past = replace(tried(EngineSettings(max_batch_size=5), inputs.settings), until=AT - timedelta(seconds=20))
        declined = closed(inputs, past)
        assert (declined.why, "ended 20 s ago" in declined.detail) == (Closed.NOT_CALM, True)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"observation": None}, "no figures"),
            ({"frozen_reason": "incident 7"}, "incident 7"),
            ({"active_rollout": "r1"}, "rollout is under way"),
            ({"nodes": (replace(NODES[0], ready=False), replace(NODES[1], ready=False))}, "0 of 2 nodes are ready"),
        ],
    )
    def test_the_world(self, changes: dict[str, Any], words: str) -> None:
        declined = closed(calm(**changes))
        assert declined.why is Closed.WORLD
        assert words in declined.detail

    def test_one_node_has_no_peers(self) -> None:
        assert closed(calm(nodes=NODES[:1])).why is Closed.ONE_NODE

    def test_an_alarm(self) -> None:
        assert closed(calm(alarm="PoolHot")).why is Closed.ALARM

    @pytest.mark.parametrize(
        ("served", "words"),
        [
            (None, "not known"),
            (Tally(known_s=600, first_tokens=100, gaps=4000), "not known"),
            (
                Tally(known_s=3600, first_tokens=1000, late=26, gaps=40_000, answers=1000),
                "48% of it is left, and 50% must be",
            ),
        ],
    )
    def test_the_error_budget(self, served: Tally | None, words: str) -> None:
        declined = closed(calm(served=served))
        assert (declined.why, words in declined.detail) == (Closed.BUDGET, True), declined

    def test_a_budget_that_is_half_spent_is_enough_for_a_policy_that_says_so(self) -> None:
        served = Tally(known_s=3600, first_tokens=1000, late=26, gaps=40_000, answers=1000)
        assert chosen(calm(served=served, policy=exploring(min_budget_left=0.4)))

    def test_no_model(self) -> None:
        assert closed(calm(step_times=())).why is Closed.MODEL_NOT_READY

    def test_too_few_windows(self) -> None:
        inputs = calm()
        assert closed(replace(inputs, history=inputs.history[-3:])).why is Closed.LEARNING

    def test_an_objective_that_is_broken(self) -> None:
        declined = closed(seen(calm(), itl_p95_s=0.4))
        assert (declined.why, "400 ms" in declined.detail) == (Closed.SLO_BROKEN, True)

    def test_a_queue(self) -> None:
        assert closed(seen(calm(), waiting=1.0)).why is Closed.QUEUE

    def test_a_breach_in_sight(self) -> None:
        assert closed(calm(load=6.0)).why is Closed.THREAT

    def test_a_spike_in_sight(self) -> None:
        inputs = calm()
        forecast = replace(inputs.forecasts["offered_rps"], spike_probability=0.5)
        declined = closed(replace(inputs, forecasts={"offered_rps": forecast}))
        assert (declined.why, "spike (0.50)" in declined.detail) == (Closed.THREAT, True)

    def test_a_spike_that_only_an_unproven_forecast_sees(self) -> None:
        inputs = calm()
        known = inputs.forecasts["offered_rps"]
        forecast = replace(known, spike_probability=0.5)
        assert inputs.policy.forecast.use is ForecastUse.EARNED
        declined = closed(replace(inputs, forecasts={"offered_rps": forecast}, newest=known))
        assert (declined.why, "spike (0.50)" in declined.detail) == (Closed.THREAT, True)

    def test_a_change_a_minute_ago(self) -> None:
        change = PastChange(AT - timedelta(seconds=60), Trigger.RELAXING)
        declined = closed(calm(changes=(change,)))
        assert (declined.why, "60 s old" in declined.detail) == (Closed.NOT_CALM, True)

    def test_latency_that_came_near_its_objective(self) -> None:
        inputs = calm()
        history = tuple(replace(each, ttft_p95_s=1.4) for each in inputs.history)
        assert closed(replace(inputs, history=history, observation=history[-1])).why is Closed.NOT_CALM

    def test_nothing_that_may_be_tried(self) -> None:
        policy = exploring()
        for_people = policy.model_copy(update={"autonomy": dict.fromkeys(policy.autonomy, Autonomy.APPROVE)})
        assert closed(calm(policy=for_people)).why is Closed.NOTHING_TO_TRY

    def test_nothing_that_is_safe(self) -> None:
        tight = exploring().model_copy(update={"slo": Slo(itl_p95_s=0.034)})
        inputs = calm(policy=tight)
        assert closed(inputs).why is Closed.NOTHING_SAFE


class TestCandidates:
    def test_knobs_that_people_keep_stay(self) -> None:
        policy = exploring()
        autonomy = policy.autonomy | {"max_batch_size": Autonomy.APPROVE}
        inputs = calm(policy=policy.model_copy(update={"autonomy": autonomy}))
        found = choose(inputs, ())
        if isinstance(found, Chosen):
            assert {each.settings.max_batch_size for each in found.considered} == {4}

    def test_what_was_rolled_back_is_barred(self) -> None:
        inputs = calm()
        first = chosen(inputs).option.settings
        back = PastChange(AT - timedelta(seconds=1200), Trigger.PROTECTIVE, first.content_hash(), rolled_back=True)
        assert chosen(replace(inputs, changes=(back,))).option.settings != first

    def test_what_was_tried_within_a_day_is_known(self) -> None:
        inputs = calm()
        first = chosen(inputs).option.settings
        assert chosen(inputs, tried(first, inputs.settings, hours=23)).option.settings != first
        assert chosen(inputs, tried(first, inputs.settings, hours=25)).option.settings == first

    def test_under_other_settings_in_force_it_has_gone_stale(self) -> None:
        inputs = calm()
        first = chosen(inputs).option.settings
        past = tried(first, inputs.settings.replace(max_batch_size=7))
        assert chosen(inputs, past).option.settings == first

    def test_what_told_nothing_may_be_tried_again_after_an_hour(self) -> None:
        inputs = calm()
        first = chosen(inputs).option.settings
        unclear = tried(first, inputs.settings, hours=1.5, verdict=TryVerdict.UNCLEAR)
        assert chosen(inputs, unclear).option.settings == first

    def test_worse_answers_only_as_far_as_the_policy_allows(self) -> None:
        """Everything on auto, and int8 certified as losing 2 %, where 1 % and then 3 % are allowed."""
        capabilities = NodeCapabilities(
            precisions=(Precision.BF16, Precision.INT8), max_batch_size=64, max_batched_tokens=2048, max_model_len=2048,
            kv_tokens=32768,
        )  # fmt: skip
        variant = CertifiedVariant(precision=Precision.INT8, quality_loss_ratio=0.02)
        nodes = tuple(NodeFacts(each.id, each.name, True, capabilities) for each in NODES)
        base = exploring()
        steps = calm().step_times
        for allowed, expected in ((0.01, {Precision.BF16}), (0.03, {Precision.BF16, Precision.INT8})):
            policy = base.model_copy(
                update={
                    "quality": Quality(max_loss_ratio=allowed, certified=(variant,)),
                    "autonomy": base.autonomy | {"precision": Autonomy.AUTO},
                }
            )
            inputs = calm(
                policy=policy,
                nodes=nodes,
                step_times=(*steps, replace(steps[0], precision=Precision.INT8, base_s=0.02)),
            )
            assert {each.settings.precision for each in chosen(inputs).considered} == expected


class TestSafety:
    def test_of_what_is_not_sure_enough_nothing_is_chosen(self) -> None:
        """The worst that is possible of the chosen one is within the objectives, in either arm."""
        policy = exploring().model_copy(update={"slo": Slo(itl_p95_s=0.06, ttft_p95_s=1.0)})
        for mode in (ExplorationMode.MODEL, ExplorationMode.RANDOM):
            inputs = calm(policy=policy.model_copy(update={"exploration": ExplorationPolicy(mode=mode)}))
            option = chosen(inputs).option
            assert option.itl_high_s <= 0.06
            assert option.ttft_high_s <= 1.0
            assert option.utilisation_high <= 0.9

    def test_settings_that_proved_half_as_slow_again_as_predicted_are_no_longer_safe(self) -> None:
        inputs = calm(policy=exploring().model_copy(update={"slo": Slo(itl_p95_s=0.045, ttft_p95_s=1.5)}))
        before = chosen(inputs)
        past = tried(before.option.settings, inputs.settings, hours=25, slower={Quantity.ITL: 1.5})
        again = chosen(inputs, past)
        assert before.option.settings not in {each.settings for each in again.considered if each.safe}
        assert again.option.settings != before.option.settings
        assert again.safe < before.safe

    def test_settings_that_proved_as_predicted_make_their_neighbours_safe(self) -> None:
        policy = exploring().model_copy(update={"slo": Slo(itl_p95_s=0.05, ttft_p95_s=1.5)})
        inputs = calm(policy=policy)
        first = chosen(inputs)
        as_predicted = dict.fromkeys(Quantity, 1.0)
        past = [
            tried(each.settings, inputs.settings, slower=as_predicted) for each in (first.option, *first.considered[:2])
        ]
        assert chosen(inputs, *past).safe > first.safe - len(past)

    def test_what_goes_as_far_as_what_did_harm_is_left_out(self) -> None:
        inputs = calm()
        harmful = replace(tried(inputs.settings.replace(max_batch_size=6), inputs.settings), harmful=True)
        assert chosen(inputs).option.settings.max_batch_size > 6
        found = chosen(inputs, harmful)
        assert all(each.settings.max_batch_size < 6 for each in found.considered)
        stale = replace(harmful, base=inputs.settings.replace(batch_wait_ms=4.0))
        assert chosen(inputs, stale).option == chosen(inputs).option

    def test_in_another_direction_it_says_nothing(self) -> None:
        inputs = calm()
        down = replace(tried(inputs.settings.replace(max_batch_size=3), inputs.settings), harmful=True)
        assert not any(each.settings.max_batch_size <= 3 for each in chosen(inputs, down).considered)
        assert chosen(inputs, down).option == chosen(inputs).option

    def test_what_proved_to_carry_less_promises_less(self) -> None:
        inputs = calm()
        first = chosen(inputs).option
        past = tried(first.settings, inputs.settings, hours=25, slower={Quantity.STEP: 1.4})
        again = next(
            e for e in chosen(inputs, past).considered if e.settings.max_batch_size == first.settings.max_batch_size
        )
        assert again.gain < first.gain


class TestArms:
    def test_the_model_takes_the_greatest_gain(self) -> None:
        found = chosen(calm())
        assert found.option.gain == max(each.gain for each in found.considered if each.safe)
        assert "greatest gain" in found.explanation

    def test_without_a_gain_it_takes_what_is_known_least(self) -> None:
        policy = exploring()
        full = policy.model_copy(
            update={
                "guardrails": Guardrails(bounds={**policy.guardrails.bounds, "max_batch_size": {"min": 1, "max": 4}})
            }
        )
        found = chosen(calm(policy=Policy.model_validate(full.to_json())))
        assert found.option.gain <= policy.objective.min_gain
        assert found.option.sd == max(each.sd for each in found.considered if each.safe)

    def test_random_is_even(self) -> None:
        """Chi-square over 600 pools, within 3.3 sd of what it is on average."""
        draws = Counter(
            chosen(replace(calm(policy=RANDOM), pool=f"pool-{number}")).option.settings.content_hash()
            for number in range(600)
        )
        number = chosen(calm(policy=RANDOM)).safe
        assert len(draws) == number
        expected = 600 / number
        statistic = sum((count - expected) ** 2 / expected for count in draws.values())
        assert statistic < number + 3.3 * (2 * number) ** 0.5

    def test_random_hangs_on_pool_and_moment_alone(self) -> None:
        inputs = calm(policy=RANDOM)
        assert chosen(inputs) == chosen(inputs)
        others = {chosen(calm(AT + timedelta(seconds=5 * k), policy=RANDOM)).option.settings for k in range(30)}
        assert len(others) > 5


@pytest.mark.parametrize("mode", [ExplorationMode.MODEL, ExplorationMode.RANDOM])
def test_what_was_asked_survives_json_and_is_chosen_again(mode: ExplorationMode) -> None:
    inputs = calm(policy=exploring(mode))
    past = (tried(EngineSettings(max_batch_size=6), inputs.settings, slower={Quantity.ITL: 1.2, Quantity.STEP: 1.1}),)
    back = Asked.from_json(Asked(inputs, past).to_json())
    assert back == Asked(inputs, past)
    assert choose(back.inputs, back.tried) == choose(inputs, past)
