"""How fast the error budget burns, and what a burn that is too fast keeps from happening."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from controlplane.decisions.checks import CheckState
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import RULES, DecisionInputs, StepTime
from controlplane.decisions.error_budget import Indicator, Ledger, Tally, burn_of, tally_of
from controlplane.decisions.explain_burn import said
from controlplane.decisions.policy import Autonomy, Guardrails, Policy, Slo
from controlplane.decisions.reasons import Outcome, Reason, Trigger
from controlplane.decisions.what_if import Answer, Question, what_if
from controlplane.telemetry.observation import Observation, Quality, missing
from inference_node.contract.settings import EngineSettings, Precision
from tests.support.decision_inputs import THREAT_RPS, decision_inputs

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = Policy()
HOUR = Tally(known_s=3600.0, first_tokens=1000.0, gaps=48_000.0, answers=1000.0)
BURNING = replace(HOUR, late=170.0)


class TestBurn:
    def test_is_the_share_that_missed_over_the_share_that_may(self) -> None:
        burn = burn_of(BURNING, POLICY)
        assert (burn.rate, burn.worst, burn.bad_ratio) == (3.4, Indicator.FIRST_TOKENS, 0.17)
        assert burn.freezes

    def test_the_indicator_that_burns_fastest_counts(self) -> None:
        burn = burn_of(replace(BURNING, errors=60.0), POLICY)
        assert (burn.rate, burn.worst) == (6.0, Indicator.ERRORS)
        burn = burn_of(replace(HOUR, long_gaps=4800.0), POLICY)
        assert (burn.rate, burn.worst) == (2.0, Indicator.GAPS)
        assert not burn.freezes  # above the limit, not at it

    def test_one_unlucky_request_never_burns_faster_than_lasts(self) -> None:
        quiet = Tally(known_s=3600.0, first_tokens=3.0, late=1.0, gaps=100.0, long_gaps=33.0, answers=4.0, errors=1.0)
        assert burn_of(quiet, POLICY).rate == 1.0

    def test_no_error_allowed_is_no_division_by_nothing(self) -> None:
        strict = Policy(slo=Slo(error_rate=0.0))
        assert burn_of(replace(HOUR, errors=3.0), strict).rate == 3.0

    def test_nothing_asked_burns_nothing(self) -> None:
        burn = burn_of(Tally(known_s=3600.0), POLICY)
        assert (burn.rate, burn.worst, burn.freezes) == (0.0, None, False)

    @pytest.mark.parametrize("tally", [None, replace(BURNING, known_s=1799.0)])
    def test_less_than_half_of_the_window_is_not_known(self, tally: Tally | None) -> None:
        burn = burn_of(tally, POLICY)
        assert (burn.rate, burn.freezes, burn.is_over) == (None, False, False)
        assert "not known" in said(burn, POLICY)

    def test_without_a_limit_nothing_freezes(self) -> None:
        burn = burn_of(BURNING, Policy(guardrails=Guardrails(max_burn_rate=None)))
        assert burn.rate == pytest.approx(3.4)
        assert not burn.freezes
        assert burn.is_over

    @pytest.mark.parametrize(
        ("tally", "words"),
        [
            (BURNING, "17% of requests waited longer than 1.5 s for their first token or were refused, 5% may"),
            (replace(HOUR, long_gaps=24_000.0), "50% of gaps between tokens took longer than 300 ms, 5% may"),
            (replace(HOUR, errors=25.0), "2.5% of requests ended in a server error, 1% may"),
            (HOUR, "Nothing of the error budget was spent in the last hour."),
        ],
    )
    def test_is_said_in_words(self, tally: Tally, words: str) -> None:
        assert words in said(burn_of(tally, POLICY), POLICY)


class TestTally:
    def _window(self, **facts: Any) -> Observation:
        return Observation(NOW, 15.0, Quality.OK, **facts)

    def test_refused_requests_never_got_their_first_token(self) -> None:
        seen = self._window(ttft_count=20.0, ttft_slow=2.0, rejected=5.0, requests=19.0, errors=1.0)
        assert tally_of(seen) == Tally(known_s=15.0, first_tokens=25.0, late=7.0, answers=20.0, errors=1.0)

    def test_a_window_without_requests_is_known(self) -> None:
        assert tally_of(self._window(offered_rps=0.0)) == Tally(known_s=15.0)

    @pytest.mark.parametrize("quality", [Quality.MISSING, Quality.STALE])
    def test_what_cannot_be_trusted_is_neither_good_nor_bad(self, quality: Quality) -> None:
        assert tally_of(replace(self._window(errors=5.0), quality=quality)) == Tally()

    def test_a_window_of_before_slowness_was_counted_is_not_known(self) -> None:
        assert tally_of(self._window(ttft_p95_s=0.5, requests=9.0)) == Tally()


class TestLedger:
    def _feed(self, ledger: Ledger, minutes: range) -> None:
        for minute in minutes:
            ledger.push(Observation(NOW + timedelta(minutes=minute), 60.0, Quality.OK, ttft_count=10.0, ttft_slow=1.0))

    def test_holds_the_span_and_no_more(self) -> None:
        ledger = Ledger(600.0)
        self._feed(ledger, range(30))
        assert ledger.total(NOW + timedelta(minutes=29)) == Tally(known_s=600.0, first_tokens=100.0, late=10.0)
        assert ledger.total(NOW + timedelta(minutes=38)) == Tally(known_s=60.0, first_tokens=10.0, late=1.0)
        assert ledger.total(NOW + timedelta(hours=3)) == Tally()

    def test_a_window_counts_once(self) -> None:
        ledger = Ledger(600.0)
        self._feed(ledger, range(5))
        self._feed(ledger, range(5))
        assert ledger.total(NOW + timedelta(minutes=4)).first_tokens == 50.0

    def test_windows_that_overlap_count_their_time_once(self) -> None:
        ledger = Ledger(600.0)
        for half_minute in range(1, 11):
            end = NOW + timedelta(seconds=30 * half_minute)
            ledger.push(Observation(end, 60.0, Quality.OK, ttft_count=10.0, ttft_slow=1.0))
        assert ledger.total(NOW + timedelta(minutes=5)) == Tally(known_s=330.0, first_tokens=55.0, late=5.5)

    def test_missing_windows_leave_a_gap(self) -> None:
        ledger = Ledger(600.0)
        self._feed(ledger, range(3))
        ledger.push(missing(NOW + timedelta(minutes=3), 60.0))
        self._feed(ledger, range(4, 6))
        assert ledger.total(NOW + timedelta(minutes=5)).known_s == 300.0


def _calm(**changes: Any) -> DecisionInputs:
    """A pool that was protected, and would be relaxed now: six calm minutes, a batch larger than people chose, long gaps when
    it is full."""
    given = decision_inputs(NOW, windows=80)
    defaults: dict[str, Any] = {
        "settings": EngineSettings(max_batch_size=16),
        "home": EngineSettings(max_batch_size=8),
        "step_times": (StepTime(Precision.BF16, 0.03, 0.03, 0.0008, 9, 0.05),),
        "rules": RULES,
    }
    return replace(given, **(defaults | changes))


class TestDecide:
    def test_without_a_burn_the_pool_is_relaxed(self) -> None:
        decision = decide(_calm(served=HOUR))
        assert (decision.outcome, decision.reason) == (Outcome.APPLY, Reason.RECOVERY)
        assert not [each for each in decision.constraints if each.name == "error_budget"]

    def test_a_burn_blocks_relaxing_and_says_why(self) -> None:
        decision = decide(_calm(served=BURNING))
        assert (decision.outcome, decision.reason, decision.trigger) == (
            Outcome.HOLD,
            Reason.ERROR_BUDGET,
            Trigger.TICK,
        )
        [constraint] = decision.constraints
        assert (constraint.name, constraint.effect) == ("error_budget", "blocks")
        assert "The error budget of the last hour burns 3.4 times too fast (17% of requests" in constraint.detail
        assert constraint.detail in decision.explanation

    @pytest.mark.parametrize("level", [Autonomy.APPROVE, Autonomy.ADVISE])
    def test_a_burn_blocks_what_a_person_would_have_to_agree_to(self, level: Autonomy) -> None:
        policy = POLICY.model_copy(update={"autonomy": POLICY.autonomy | {"max_batch_size": level}})
        assert decide(_calm(served=HOUR, policy=policy)).outcome is Outcome.ADVISE
        assert decide(_calm(served=BURNING, policy=policy)).outcome is Outcome.HOLD

    def test_what_is_not_known_blocks_nothing_and_is_said(self) -> None:
        decision = decide(_calm(served=replace(BURNING, known_s=900.0)))
        assert decision.outcome is Outcome.APPLY
        assert [each.effect for each in decision.constraints if each.name == "error_budget"] == ["notes"]

    def test_the_policy_switches_it_off(self) -> None:
        policy = Policy(guardrails=Guardrails(max_burn_rate=None))
        assert decide(_calm(served=BURNING, policy=policy)).outcome is Outcome.APPLY

    def test_what_protects_is_done_all_the_same(self) -> None:
        threatened = replace(decision_inputs(NOW, THREAT_RPS), rules=RULES)
        burning = decide(replace(threatened, served=BURNING))
        assert (burning.outcome, burning.trigger) == (Outcome.APPLY, Trigger.PROTECTIVE)
        assert burning == decide(replace(threatened, served=HOUR))

    def test_what_an_alarm_asks_for_is_done_all_the_same(self) -> None:
        alarmed = replace(decision_inputs(NOW, 1.0), alarm="P99 is high", rules=RULES)
        assert decide(replace(alarmed, served=BURNING)) == decide(replace(alarmed, served=HOUR))

    @pytest.mark.parametrize("rules", [1, 2])
    def test_decisions_under_older_rules_come_out_as_they_did(self, rules: int) -> None:
        assert decide(_calm(rules=rules, served=BURNING)) == decide(_calm(rules=rules))

    def test_decides_the_same_when_it_was_stored(self) -> None:
        for served in (HOUR, BURNING, None):
            inputs = _calm(served=served)
            again = DecisionInputs.from_json(inputs.to_json())
            assert again.served == served
            assert decide(again) == decide(inputs)

    def test_inputs_that_were_stored_before_have_none(self) -> None:
        stored = _calm(served=None).to_json()
        assert "served" not in stored
        del stored["policy"]["slo"]["attainment"], stored["policy"]["guardrails"]["burn_window_s"]
        assert DecisionInputs.from_json(stored).policy.slo.attainment == 0.95


class TestAsked:
    def test_what_if_says_that_the_controller_would_not(self) -> None:
        answer = what_if(_calm(served=BURNING), [], Question(EngineSettings(max_batch_size=8)))
        assert isinstance(answer, Answer)
        assert answer.then is not None
        assert [check.state for check in answer.then.checks if check.name == "error_budget"] == [CheckState.ASKS]
        assert not [check for check in answer.now.checks if check.name == "error_budget"]

    def test_another_attainment_is_tried_on_the_same_counts(self) -> None:
        wider = Policy(slo=Slo(attainment=0.8))
        assert decide(_calm(served=BURNING, policy=wider)).outcome is Outcome.APPLY


class TestPolicy:
    @pytest.mark.parametrize(
        ("document", "field"),
        [
            ({"slo": {"attainment": 1.0}}, "slo.attainment"),
            ({"slo": {"attainment": 0.4}}, "slo.attainment"),
            ({"guardrails": {"max_burn_rate": 0.5}}, "guardrails.max_burn_rate"),
            ({"guardrails": {"burn_window_s": 10}}, "guardrails.burn_window_s"),
            ({"guardrails": {"burn_window_s": 100_000}}, "guardrails.burn_window_s"),
        ],
    )
    def test_names_what_is_wrong(self, document: dict[str, Any], field: str) -> None:
        with pytest.raises(ValidationError) as caught:
            Policy.model_validate(document)
        assert [".".join(map(str, error["loc"])) for error in caught.value.errors()] == [field]

    def test_a_document_of_before_is_valid_and_guarded(self) -> None:
        before = Policy.model_validate(
            {"slo": {"ttft_p95_s": 2.0, "itl_p95_s": 0.2, "error_rate": 0.02}, "guardrails": {}}
        )
        assert (before.slo.attainment, before.guardrails.max_burn_rate, before.guardrails.burn_window_s) == (
            0.95,
            2.0,
            3600,
        )
