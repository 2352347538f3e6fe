"""The limit of the queue: how long it may be, who may turn it, and what refused requests count for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.decisions.admission import (
    bare_hash,
    fitting_queue,
    is_too_long,
    limited,
    turns_queue,
    with_queue,
)
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import (
    RULES,
    Decision,
    DecisionInputs,
    NodeFacts,
    PastChange,
    StepTime,
    Workload,
)
from controlplane.decisions.guardrails import relaxing_blocks
from controlplane.decisions.objective import violation
from controlplane.decisions.performance import PoolModel
from controlplane.decisions.policy import Autonomy, CertifiedVariant, Guardrails, Policy, Quality, Slo
from controlplane.decisions.reasons import Outcome, Reason, Trigger
from controlplane.decisions.situation import Situation, assess
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.settings import EngineSettings, KnobBounds, Precision
from tests.support.closed_loop import ClosedLoop
from tests.support.decision_inputs import THREAT_RPS, decision_inputs
from tests.support.simulated_pool import SimulatedPool

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STEP = StepTime(Precision.BF16, base_s=0.03, row_s=0.003, prefill_token_s=0.0008, samples=9, error_ratio=0.0)
TURNED = Policy(autonomy={"max_queue": Autonomy.AUTO})
SHORT, LONG_PROMPTS = Workload(40, 50), Workload(2000, 20)


def model(batch: int = 4, load: Workload = SHORT, queue: int = 256, **facts: Any) -> PoolModel:
    settings = EngineSettings(max_batch_size=batch, max_batched_tokens=2048, max_queue=queue)
    return PoolModel(settings, STEP, load, 2, sees_prompts_queue=True, **facts)


def policy(ttft_s: float = 1.5, **guardrails: Any) -> Policy:
    return Policy(
        slo=Slo(ttft_p95_s=ttft_s), guardrails=Guardrails(**guardrails), autonomy={"max_queue": Autonomy.AUTO}
    )


class TestFittingQueue:
    def test_is_a_little_less_than_what_is_served_within_the_objective(self) -> None:
        found = fitting_queue(model(), policy(10.0), 10.0)
        served_in_time = 10.0 * model().node_rps
        assert 0.5 * served_in_time < found < served_in_time

    def test_grows_with_the_objective(self) -> None:
        found = [fitting_queue(model(), policy(seconds), 10.0) for seconds in (1.0, 2.0, 5.0, 20.0)]
        assert found == sorted(found)

    def test_is_none_where_a_prompt_alone_takes_longer(self) -> None:
        assert fitting_queue(model(load=LONG_PROMPTS), policy(0.5), 10.0) == 0

    def test_rows_that_wait_for_their_prompt_stand_in_the_queue_as_well(self) -> None:
        """A batch of 64 holds a few that decode; the others are a queue by another name."""
        small, large = (fitting_queue(model(batch, LONG_PROMPTS), policy(30.0), 10.0) for batch in (2, 64))
        assert small >= 1
        assert large < 1

    def test_a_burst_fills_rows_faster_than_prompts_are_computed(self) -> None:
        calm, burst = (model(8, LONG_PROMPTS).prompts_in_batch_s(rate) for rate in (0.1, 50.0))
        assert burst > calm
        assert burst <= 7 * (2000 * STEP.prefill_token_s + 2 * STEP.base_s)

    def test_rows_beyond_the_memory_let_requests_in_that_then_wait(self) -> None:
        roomy, tight = (model(64, kv_rows=rows) for rows in (1000.0, 10.0))
        assert (roomy.rows_without_memory, tight.rows_without_memory) == (0, 54)
        assert tight.capacity_rps < roomy.capacity_rps
        assert fitting_queue(tight, policy(10.0), 10.0) < 1 <= fitting_queue(roomy, policy(10.0), 10.0)


class TestLimit:
    def test_goes_no_further_than_one_change_may(self) -> None:
        found = limited(model(), EngineSettings(max_queue=256), policy(max_change_ratio=4.0), 10.0)
        assert found.settings.max_queue == 64

    def test_keeps_the_policys_bounds(self) -> None:
        bounds = Guardrails().bounds | {"max_queue": KnobBounds(min=100, max=300)}
        assert limited(model(), EngineSettings(), policy(bounds=bounds), 10.0).settings.max_queue == 100

    @pytest.mark.parametrize("queue", [3, 5, 7])
    def test_one_that_is_near_enough_stays(self, queue: int) -> None:
        assert 5 <= fitting_queue(model(), policy(5.0), 10.0) < 6
        now = EngineSettings(max_queue=queue)
        assert limited(model(queue=queue), now, policy(5.0), 10.0).settings.max_queue == queue

    def test_is_one_of_few_values_so_that_settings_come_again(self) -> None:
        found = {
            limited(model(), EngineSettings(max_queue=40), policy(5.0 + 0.01 * step), 10.0).settings.max_queue
            for step in range(400)
        }
        assert found <= {10, 12, 16, 24, 32, 40}

    def test_is_too_long_only_when_it_is_far_off(self) -> None:
        wanted = fitting_queue(model(), policy(5.0), 10.0)
        assert not is_too_long(model(queue=round(1.8 * wanted)), policy(5.0), 10.0)
        assert is_too_long(model(queue=round(3 * wanted)), policy(5.0), 10.0)

    def test_nothing_else_of_the_settings_changes(self) -> None:
        before = EngineSettings(max_batch_size=7)
        assert before.changed(with_queue(before, 9)) == {"max_queue": (256, 9)}


def overload(rules: int = RULES, policy: Policy = TURNED, **changes: Any) -> DecisionInputs:
    """Four requests a second where one of them takes a second of a pool that carries fewer."""
    given = decision_inputs(NOW, THREAT_RPS, waiting=60.0)
    fixed = policy.model_copy(
        update={"autonomy": policy.autonomy | {"max_batch_size": Autonomy.OFF, "max_batched_tokens": Autonomy.OFF}}
    )
    return replace(given, policy=fixed, rules=rules, home=given.settings, **changes)


class TestWhoMayTurnIt:
    def test_nobody_by_default(self) -> None:
        inputs = overload(policy=Policy())
        assert not turns_queue(inputs)
        assert decide(inputs).chosen is None

    def test_the_controller_where_the_policy_says_so(self) -> None:
        decision = decide(overload())
        assert decision.outcome is Outcome.APPLY
        assert decision.chosen is not None
        assert decision.previous.changed(decision.chosen) == {"max_queue": (256, 64)}

    def test_not_under_older_rules(self) -> None:
        inputs = overload(rules=3)
        assert not turns_queue(inputs)
        assert decide(inputs).chosen is None
        assert all(c.predicted.refused_ratio is None for c in decide(inputs).candidates)

    def test_what_was_recorded_before_there_was_such_a_figure_has_none_now(self) -> None:
        made = decide(overload(rules=3)).to_json()
        assert all("refused_ratio" not in candidate["predicted"] for candidate in made["candidates"])
        assert Decision.from_json(made).to_json() == made

    def test_refused_requests_stand_beside_each_candidate(self) -> None:
        decision = decide(overload(settings=EngineSettings(max_batch_size=4, max_queue=2)))
        now = decision.candidates[0]
        assert now.predicted.refused_ratio is not None
        assert now.predicted.refused_ratio > 0.2
        assert "would be refused" in now.verdict


class TestWhatRefusedRequestsCountFor:
    def test_they_have_missed(self) -> None:
        situation = assess(overload())
        assert isinstance(situation, Situation)
        predicted = decide(overload()).candidates[0].predicted
        none, some = (replace(predicted, ttft_p95_s=0.1, itl_p95_s=0.1, refused_ratio=share) for share in (0.0, 0.1))
        assert violation(none, TURNED) == 0
        assert violation(some, TURNED) == pytest.approx(0.1 / (1 - TURNED.slo.attainment))

    def test_a_queue_that_makes_everybody_late_is_worse_than_one_that_refuses_some(self) -> None:
        predicted = decide(overload()).candidates[0].predicted
        late = replace(predicted, ttft_p95_s=20.0, itl_p95_s=0.1, refused_ratio=0.0)
        refusing = replace(predicted, ttft_p95_s=1.0, itl_p95_s=0.1, refused_ratio=0.4)
        assert violation(refusing, TURNED) < violation(late, TURNED)

    def test_more_of_them_than_may_miss_break_the_objectives(self) -> None:
        given = overload()
        assert given.observation is not None
        quiet = replace(given.observation, waiting=0.0, ttft_p95_s=0.2)
        few, many = (replace(quiet, rejected=share * THREAT_RPS * 5) for share in (0.02, 0.2))
        found = [assess(replace(given, observation=seen)) for seen in (few, many)]
        assert [each.slo_broken if isinstance(each, Situation) else "" for each in found] == [
            None, "20% of the requests were refused, where 5% may miss their objectives",
        ]  # fmt: skip

    def test_nothing_is_relaxed_after_them(self) -> None:
        calm = replace(decision_inputs(NOW, windows=80), rules=RULES)
        assert relaxing_blocks(calm, 0.0, 0.0) is None
        refusing = replace(calm.history[-10], rejected=1.0)
        history = (*calm.history[:-10], refusing, *calm.history[-9:])
        missing = relaxing_blocks(replace(calm, history=history), 0.0, 0.0)
        assert missing is not None and "refused" in missing.detail
        assert relaxing_blocks(replace(calm, history=history, rules=3), 0.0, 0.0) is None


class TestInTheCalm:
    CALM = replace(decision_inputs(NOW, windows=80), policy=policy(10.0), rules=RULES)

    def test_the_limit_is_made_to_fit_before_it_is_needed(self) -> None:
        decision = decide(self.CALM)
        assert (decision.outcome, decision.reason) == (Outcome.APPLY, Reason.QUEUE_FITTED)
        assert decision.chosen is not None
        assert decision.previous.changed(decision.chosen) == {"max_queue": (256, 64)}
        assert "429" in decision.explanation

    def test_one_that_fits_stays(self) -> None:
        inputs = replace(self.CALM, settings=EngineSettings(max_batch_size=4, max_queue=6))
        assert decide(inputs).reason is Reason.WITHIN_SLO

    def test_it_takes_nobodys_turn(self) -> None:
        just = PastChange(NOW - timedelta(seconds=60), Trigger.PROTECTIVE, "x")
        assert decide(replace(self.CALM, changes=(just,))).reason is Reason.WITHIN_SLO

    def test_the_way_home_does_not_bring_the_long_queue_back(self) -> None:
        fitted = EngineSettings(max_batch_size=4, max_queue=6)
        inputs = replace(self.CALM, settings=fitted, home=fitted.replace(max_queue=256))
        assert decide(inputs).reason is Reason.WITHIN_SLO


@pytest.mark.parametrize("seed", range(2))
def test_in_an_overload_those_that_are_served_are_served_in_time(seed: int) -> None:
    """Truth, not prediction: three times what the pool carries, for ten minutes."""

    def rate(at_s: float) -> float:
        return 12.0 if at_s >= 120 else 1.0

    fixed = {"max_batch_size": Autonomy.OFF, "max_batched_tokens": Autonomy.OFF}
    late, turned = (
        ClosedLoop(SimulatedPool(rate, EngineSettings(max_batch_size=8), seed=seed), Policy(autonomy={**fixed, **more}))
        for more in ({}, {"max_queue": Autonomy.AUTO})
    )
    for loop in (late, turned):
        loop.run(720)
    ends = [
        max(seen.ttft_p95_s for seen in loop.history[-24:] if seen.ttft_p95_s is not None) for loop in (late, turned)
    ]
    assert ends[0] > 10 * Slo().ttft_p95_s
    assert ends[1] < 1.3 * Slo().ttft_p95_s
    served = [sum(seen.requests or 0.0 for seen in loop.history[-24:]) for loop in (late, turned)]
    assert served[1] > 0.95 * served[0]


class TestTheWayHome:
    ABLE = NodeCapabilities(
        precisions=(Precision.BF16, Precision.INT8), max_batch_size=64, max_batched_tokens=2048, max_model_len=2048,
        kv_tokens=100_000,
    )  # fmt: skip
    STEPS = (
        StepTime(Precision.BF16, 0.03, 0.003, 0.0008, 9, 0.05),
        StepTime(Precision.INT8, 0.012, 0.0012, 0.0003, 9, 0.05),
    )

    def _decision(self, queue: int, ttft_s: float) -> Decision:
        """Calm at int8, where a node serves more than twice as much as at home."""
        variants = tuple(
            CertifiedVariant(precision=precision, quality_loss_ratio=loss)
            for precision, loss in ((Precision.BF16, 0.0), (Precision.INT8, 0.005))
        )
        base = policy(ttft_s)
        rules = base.model_copy(
            update={
                "autonomy": base.autonomy | {"precision": Autonomy.AUTO},
                "quality": Quality(certified=variants),
            }
        )
        settings = EngineSettings(max_batch_size=8, max_queue=queue, precision=Precision.INT8)
        home = settings.replace(precision=Precision.BF16.value, max_queue=256)
        return decide(
            replace(
                decision_inputs(NOW, windows=80), policy=rules, rules=RULES, settings=settings, home=home,
                nodes=(NodeFacts("n", "n", True, self.ABLE),), step_times=self.STEPS,
            )
        )  # fmt: skip

    @pytest.mark.parametrize("ttft_s", [1.5, 3.0, 10.0])
    @pytest.mark.parametrize("queue", [2, 5, 8])
    def test_leads_back_to_the_better_answers_whatever_limit_fits_there(self, queue: int, ttft_s: float) -> None:
        decision = self._decision(queue, ttft_s)
        if decision.reason is Reason.QUEUE_FITTED:  # one thing after the other
            assert decision.chosen is not None
            decision = self._decision(decision.chosen.max_queue, ttft_s)
        assert (decision.outcome, decision.reason) == (Outcome.APPLY, Reason.RECOVERY)
        assert decision.chosen is not None
        assert decision.chosen.precision is Precision.BF16
        assert decision.chosen.max_queue < 256


class TestTooShort:
    def test_a_limit_that_refuses_bursts_is_lengthened(self) -> None:
        """The model sees no overload, and requests are refused all the same."""
        given = replace(decision_inputs(NOW), policy=policy(10.0), rules=RULES)
        assert given.observation is not None
        refusing = replace(given.observation, waiting=0.0, rejected=0.2 * 0.3 * 5)
        settings = EngineSettings(max_batch_size=4, max_queue=1)
        decision = decide(replace(given, observation=refusing, settings=settings, home=settings))
        assert (decision.outcome, decision.reason) == (Outcome.APPLY, Reason.SLO_BROKEN)
        assert decision.chosen is not None
        assert settings.changed(decision.chosen) == {"max_queue": (1, 4)}


class TestTakenBack:
    def test_is_not_tried_again_with_another_limit(self) -> None:
        first = decide(overload())
        assert first.chosen is not None
        back = PastChange(
            NOW - timedelta(seconds=60), Trigger.PROTECTIVE, "another", rolled_back=True, by_controller=False,
            bare_hash=bare_hash(first.chosen),
        )  # fmt: skip
        again = decide(replace(overload(), changes=(back,)))
        assert again.outcome is Outcome.REJECT
        assert again.reason is Reason.RECENTLY_ROLLED_BACK


class TestMemory:
    """A node holds keys and values of a thousand tokens; a request of the pool takes 88 of them when it ends."""

    ABLE = NodeCapabilities(
        precisions=(Precision.BF16,), max_batch_size=64, max_batched_tokens=2048, max_model_len=2048, kv_tokens=1000
    )

    def _rows_without(self, **seen: Any) -> int:
        given = overload(settings=EngineSettings(max_batch_size=20), nodes=(NodeFacts("n", "n", True, self.ABLE),))
        assert given.observation is not None
        situation = assess(replace(given, observation=replace(given.observation, **seen)))
        assert isinstance(situation, Situation)
        return situation.model.rows_without_memory

    def test_bounds_the_rows(self) -> None:
        assert self._rows_without() == 20 - 1000 // 88

    def test_is_as_full_as_those_that_run_make_it_where_long_ones_stay(self) -> None:
        assert self._rows_without(running=4.0, kv_usage=0.8) == 20 - 5

    def test_short_ones_that_run_now_prove_nothing(self) -> None:
        assert self._rows_without(running=10.0, kv_usage=0.1) == 20 - 1000 // 88

    def test_a_node_that_does_not_tell_has_room_for_all(self) -> None:
        given = overload(settings=EngineSettings(max_batch_size=20))
        situation = assess(given)
        assert isinstance(situation, Situation)
        assert situation.model.rows_without_memory == 0

    def test_those_without_room_wait_and_are_late(self) -> None:
        nodes = (NodeFacts("n", "n", True, self.ABLE),)
        wide, fitting = (
            decide(overload(settings=EngineSettings(max_batch_size=batch, max_queue=2), nodes=nodes)).candidates[0]
            for batch in (60, 11)
        )
        assert wide.predicted.ttft_p95_s > 3 * fitting.predicted.ttft_p95_s
