"""The first windows after a start: a handful of requests is no ground for a change, a queue is."""

from datetime import UTC, datetime

from controlplane.decisions.decide import decide
from controlplane.decisions.reasons import Outcome, Reason
from tests.support.decision_inputs import ENOUGH_WINDOWS, THREAT_RPS, decision_inputs

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_holds_on_a_projected_breach_until_enough_windows_are_known() -> None:
    decision = decide(decision_inputs(NOW, THREAT_RPS, windows=ENOUGH_WINDOWS - 1))
    assert (decision.outcome, decision.reason) == (Outcome.HOLD, Reason.LEARNING)
    assert f"{ENOUGH_WINDOWS - 1} windows" in decision.explanation
    assert decide(decision_inputs(NOW, THREAT_RPS)).outcome is Outcome.APPLY


def test_holds_on_a_broken_objective_of_the_first_windows_too() -> None:
    assert decide(decision_inputs(NOW, THREAT_RPS, windows=1, itl_p95_s=0.7)).reason is Reason.LEARNING


def test_a_queue_counts_from_the_first_window() -> None:
    assert decide(decision_inputs(NOW, THREAT_RPS, windows=1, waiting=6.0)).outcome is Outcome.APPLY
