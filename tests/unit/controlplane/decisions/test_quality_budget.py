"""Faster, worse answers are paid for out of a budget: while some of it is left, and exact ones come back once it is spent."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.decisions.decide import decide
from controlplane.decisions.decision import RULES, Decision, DecisionInputs, NodeFacts, PastChange, StepTime
from controlplane.decisions.error_budget import Tally
from controlplane.decisions.guardrails import relaxing_blocks
from controlplane.decisions.policy import Autonomy, CertifiedVariant, Policy, Quality
from controlplane.decisions.reasons import Outcome, Reason, Trigger
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.settings import EngineSettings, Precision
from tests.support.decision_inputs import CALM_RPS, THREAT_RPS, decision_inputs

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BUDGET, LOSS = 0.03, 0.06
EXACT, FAST = Precision.BF16, Precision.INT4


def _policy() -> Policy:
    default = Policy()
    return default.model_copy(
        update={
            "autonomy": default.autonomy | {"precision": Autonomy.AUTO, "max_batch_size": Autonomy.OFF},
            "quality": Quality(
                max_loss_ratio=0.1,
                average_loss_ratio=BUDGET,
                certified=(
                    CertifiedVariant(precision=EXACT, quality_loss_ratio=0.0),
                    CertifiedVariant(precision=FAST, quality_loss_ratio=LOSS),
                ),
            ),
        }
    )


def _inputs(load: float, precision: Precision, spent: float | None, **changes: Any) -> DecisionInputs:
    given = decision_inputs(NOW, load)
    able = NodeCapabilities(
        precisions=(EXACT, FAST), max_batch_size=64, max_batched_tokens=2048, max_model_len=2048, kv_tokens=32768
    )
    steps = (StepTime(EXACT, 0.03, 0.003, 0.0008, 9, 0.05), StepTime(FAST, 0.004, 0.0004, 0.0001, 9, 0.05))
    settings = EngineSettings(max_batch_size=4, precision=precision)
    defaults: dict[str, Any] = {
        "policy": _policy(),
        "settings": settings,
        "nodes": (NodeFacts("n", "n", True, able),),
        "step_times": steps,
        "home": settings.replace(precision=EXACT.value),
        "quality_spent_ratio": spent,
        "rules": RULES,
    }
    return replace(given, **(defaults | changes))


def test_a_surge_is_met_with_the_faster_level_while_the_budget_lasts() -> None:
    decision = decide(_inputs(THREAT_RPS, EXACT, spent=0.0))
    assert decision.outcome is Outcome.APPLY
    assert decision.chosen is not None
    assert decision.chosen.precision is FAST


def _with_batches() -> Policy:
    policy = _policy()
    return policy.model_copy(update={"autonomy": policy.autonomy | {"max_batch_size": Autonomy.AUTO}})


def _known(settings: EngineSettings) -> PastChange:
    """A rollout to them was completed lately."""
    return PastChange(NOW - timedelta(minutes=20), Trigger.TICK, settings.content_hash(), by_controller=False)


def test_a_surge_is_met_with_what_is_known_and_holds_before_what_has_more_room() -> None:
    """It goes to all nodes at once; what carries more would leave half of the pool as it is while its canary is looked at."""
    inputs = _inputs(THREAT_RPS, EXACT, spent=0.0, policy=_with_batches())
    roomiest = decide(inputs).chosen
    assert roomiest is not None
    known = roomiest.replace(max_batch_size=roomiest.max_batch_size // 2)
    changes = (_known(known),)
    assert decide(replace(inputs, changes=changes)).chosen == known
    assert decide(replace(inputs, changes=changes, rules=4)).chosen == roomiest
    taken_back = (*changes, replace(changes[0], rolled_back=True))
    assert decide(replace(inputs, changes=taken_back)).chosen == roomiest
    beside = roomiest.replace(max_batch_size=roomiest.max_batch_size // 2 + 5)
    changes = (_known(beside),)
    assert decide(replace(inputs, changes=changes)).chosen == roomiest
    assert decide(replace(inputs, changes=changes, known=(beside,))).chosen == beside


@pytest.mark.parametrize("spent", [0.95 * BUDGET, BUDGET, None])
def test_without_budget_left_or_books_the_faster_level_is_not_proposed(spent: float | None) -> None:
    decision = decide(_inputs(THREAT_RPS, EXACT, spent=spent))
    assert decision.chosen is None or decision.chosen.precision is EXACT


def test_exact_answers_come_back_when_the_budget_is_spent_although_the_load_is_high() -> None:
    decision = decide(_inputs(THREAT_RPS, FAST, spent=1.01 * BUDGET))
    assert (decision.outcome, decision.reason) == (Outcome.APPLY, Reason.QUALITY_BUDGET)
    assert decision.chosen is not None
    assert decision.chosen.precision is EXACT
    assert "3.03%" in decision.explanation


def test_they_come_back_in_settings_that_are_known_where_those_are_as_good() -> None:
    """Those are in force at once. What is spent while a canary is looked at nobody gave."""
    inputs = _inputs(CALM_RPS, FAST, spent=1.01 * BUDGET, policy=_with_batches())
    nearest = decide(inputs).chosen
    assert nearest is not None and nearest.precision is EXACT
    known = nearest.replace(max_batch_size=nearest.max_batch_size + 4)
    changes = (_known(known),)
    with_known = decide(replace(inputs, changes=changes))
    assert with_known.reason is Reason.QUALITY_BUDGET
    assert with_known.chosen == known
    assert decide(replace(inputs, changes=changes, rules=4)).chosen == nearest


def test_what_is_known_and_misses_by_more_than_models_err_is_left() -> None:
    inputs = _inputs(8.0, FAST, spent=1.01 * BUDGET, policy=_with_batches())
    best = decide(inputs)
    assert best.chosen is not None and best.chosen.precision is EXACT
    missed = {each.settings: each.violation for each in best.candidates}
    far = [s for s, v in missed.items() if s.precision is EXACT and v > 1.3 * missed[best.chosen] > 0]
    assert far
    assert decide(replace(inputs, changes=(_known(far[0]),))).chosen == best.chosen


def test_what_nobody_measured_is_no_way_back() -> None:
    """At the level in force it is weighed as if it lost nothing."""
    policy = _with_batches()
    exact_only = tuple(each for each in policy.quality.certified if each.precision is EXACT)
    policy = policy.model_copy(update={"quality": policy.quality.model_copy(update={"certified": exact_only})})
    inputs = _inputs(CALM_RPS, FAST, spent=1.01 * BUDGET, policy=policy)
    known = _known(inputs.settings.replace(max_batch_size=8))
    decision = decide(replace(inputs, changes=(known,)))
    assert decision.reason is Reason.QUALITY_BUDGET
    assert decision.chosen is not None and decision.chosen.precision is EXACT


def test_a_policy_that_knows_nothing_prefers_nothing() -> None:
    policy = _with_batches()
    rollout = policy.rollout.model_copy(update={"known_for_s": 0.0})
    inputs = _inputs(THREAT_RPS, EXACT, spent=0.0, policy=policy.model_copy(update={"rollout": rollout}))
    roomiest = decide(inputs).chosen
    assert roomiest is not None
    known = _known(roomiest.replace(max_batch_size=roomiest.max_batch_size // 2))
    assert decide(replace(inputs, changes=(known,))).chosen == roomiest


def test_they_come_back_although_the_error_budget_burns() -> None:
    burning = Tally(known_s=3600.0, first_tokens=1000.0, late=500.0)
    decision = decide(_inputs(THREAT_RPS, FAST, spent=1.01 * BUDGET, served=burning))
    assert (decision.outcome, decision.reason) == (Outcome.APPLY, Reason.QUALITY_BUDGET)


def test_a_budget_that_is_not_spent_takes_nothing_back() -> None:
    assert decide(_inputs(THREAT_RPS, FAST, spent=0.5 * BUDGET)).reason is not Reason.QUALITY_BUDGET


def test_spending_decides_the_same_when_it_was_stored() -> None:
    inputs = _inputs(CALM_RPS, FAST, spent=2 * BUDGET)
    assert decide(DecisionInputs.from_json(inputs.to_json())) == decide(inputs)


def test_inputs_that_were_stored_before_the_rules_changed_keep_theirs() -> None:
    stored = _inputs(THREAT_RPS, EXACT, spent=0.0).to_json()
    del stored["rules"]
    assert DecisionInputs.from_json(stored).rules == 1


class TestBetween:
    """A level that loses less than the one in force, where the exact one is too slow for the objectives."""

    MIDDLE, MIDDLE_LOSS = Precision.INT8, 0.01

    def _calm(self, exact_s: float, home: Precision, rules: int = RULES) -> Decision:
        """On the fast level, at calm, with exact steps of so many seconds."""
        policy = _policy()
        middle = CertifiedVariant(precision=self.MIDDLE, quality_loss_ratio=self.MIDDLE_LOSS)
        certified = (*policy.quality.certified, middle)
        policy = policy.model_copy(update={"quality": policy.quality.model_copy(update={"certified": certified})})
        able = NodeCapabilities(
            precisions=(EXACT, self.MIDDLE, FAST), max_batch_size=64, max_batched_tokens=2048, max_model_len=2048,
            kv_tokens=32768,
        )  # fmt: skip
        steps = (
            StepTime(EXACT, exact_s, 0.003, 0.0008, 9, 0.05),
            StepTime(self.MIDDLE, 0.03, 0.003, 0.0008, 9, 0.05),
            StepTime(FAST, 0.004, 0.0004, 0.0001, 9, 0.05),
        )
        settings = EngineSettings(max_batch_size=4, precision=FAST)
        return decide(
            replace(
                decision_inputs(NOW, windows=80),
                policy=policy,
                settings=settings,
                step_times=steps,
                nodes=(NodeFacts("n", "n", True, able),),
                home=settings.replace(precision=home.value),
                rules=rules,
                quality_spent_ratio=0.0,
            )
        )

    def test_is_gone_to_where_the_exact_one_would_not_hold(self) -> None:
        decision = self._calm(exact_s=0.4, home=EXACT)
        assert (decision.outcome, decision.trigger) == (Outcome.APPLY, Trigger.RELAXING)
        assert decision.chosen is not None and decision.chosen.precision is self.MIDDLE
        assert self._calm(exact_s=0.4, home=EXACT, rules=4).outcome is Outcome.HOLD

    def test_is_passed_by_where_the_exact_one_holds(self) -> None:
        chosen = self._calm(exact_s=0.03, home=EXACT).chosen
        assert chosen is not None and chosen.precision is EXACT

    def test_of_two_that_lose_nothing_the_one_that_people_chose_is_gone_to(self) -> None:
        for loss in (0.0, self.MIDDLE_LOSS):
            between = TestBetween()
            between.MIDDLE_LOSS = loss
            chosen = between._calm(exact_s=0.03, home=EXACT).chosen
            assert chosen is not None and chosen.precision is EXACT

    def test_people_who_chose_it_are_not_led_past_it(self) -> None:
        chosen = self._calm(exact_s=0.03, home=self.MIDDLE).chosen
        assert chosen is not None and chosen.precision is self.MIDDLE


class TestBreaker:
    def _after(self, turns: int, rules: int = RULES) -> str | None:
        """What blocks relaxing after so many turns, two minutes apart, the last one 400 s ago."""
        begin = NOW - timedelta(seconds=400 + 120 * turns)
        changes = tuple(
            PastChange(begin + timedelta(seconds=120 * i), Trigger.PROTECTIVE if i % 2 else Trigger.RELAXING)
            for i in range(turns + 1)
        )
        block = relaxing_blocks(_inputs(CALM_RPS, FAST, 0.0, changes=changes, rules=rules), 0.0, 0.0)
        return None if block is None else block.name

    def test_stops_relaxing_after_the_third_turn(self) -> None:
        assert self._after(2) != "flapping"
        assert self._after(3) == "flapping"

    def test_is_not_known_to_decisions_of_before(self) -> None:
        assert self._after(3, rules=1) != "flapping"
