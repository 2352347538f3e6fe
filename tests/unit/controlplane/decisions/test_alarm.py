"""An alert asks for protection: what decisions make of it, when there is something to do and when there is not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest

from controlplane.decisions.decide import decide
from controlplane.decisions.decision import DecisionInputs, PastChange
from controlplane.decisions.models import DecisionRecord
from controlplane.decisions.reasons import Outcome, Reason, Trigger
from controlplane.decisions.service import replay
from tests.support.decision_inputs import CALM_RPS, decision_inputs

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ALARM = "alert PoolLatencyHigh: P99 is 1.2 s"


@cache
def near_the_edge() -> DecisionInputs:
    """The highest load at which nothing is done without an alarm."""
    for tenths in range(60, 3, -1):
        inputs = decision_inputs(NOW, tenths / 10, windows=40)
        if decide(inputs).outcome is Outcome.HOLD and decide(inputs).reason is Reason.WITHIN_SLO:
            return inputs
    raise AssertionError("there is no such load")


def test_it_acts_where_its_own_figures_would_not_yet() -> None:
    quiet = near_the_edge()
    decision = decide(replace(quiet, alarm=ALARM))
    assert (decision.outcome, decision.reason, decision.trigger) == (Outcome.APPLY, Reason.ALARM, Trigger.PROTECTIVE)
    assert decision.chosen is not None
    assert decision.chosen != quiet.settings
    assert decision.explanation.startswith(f"Protection is asked for: {ALARM}.")


def test_it_changes_nothing_where_there_is_room_for_half_as_much_again() -> None:
    decision = decide(replace(decision_inputs(NOW, CALM_RPS, windows=40), alarm=ALARM))
    assert (decision.outcome, decision.reason) == (Outcome.HOLD, Reason.NO_BETTER_CANDIDATE)
    assert ALARM in decision.explanation


def test_nothing_is_relaxed_meanwhile() -> None:
    inputs = decision_inputs(NOW, CALM_RPS, windows=80)
    home = inputs.settings.replace(max_batch_size=3)
    relaxed = replace(inputs, home=home)
    assert decide(replace(relaxed, alarm=ALARM)).trigger is Trigger.PROTECTIVE
    assert decide(replace(relaxed, alarm=ALARM)).chosen is None


@pytest.mark.parametrize("blocks", [{"frozen_reason": "incident"}, {"active_rollout": "r"}, {"observation": None}])
def test_what_blocks_other_changes_blocks_these(blocks: dict[str, object]) -> None:
    decision = decide(replace(near_the_edge(), alarm=ALARM, **blocks))  # type: ignore[arg-type]
    assert decision.outcome is Outcome.HOLD
    assert decision.reason in {Reason.FROZEN, Reason.ROLLOUT_ACTIVE, Reason.NO_DATA}


def test_one_is_answered_again_after_the_cooldown_only() -> None:
    first = decide(replace(near_the_edge(), alarm=ALARM))
    assert first.chosen is not None
    inputs = replace(near_the_edge(), alarm=ALARM, now=NOW + timedelta(seconds=1))
    changed = replace(inputs, changes=(PastChange(at=NOW, trigger=Trigger.PROTECTIVE),))
    assert decide(changed).reason is Reason.COOLDOWN


def test_it_replays_and_older_records_without_one_do_too() -> None:
    for inputs in (replace(near_the_edge(), alarm=ALARM), near_the_edge()):
        made = decide(inputs)
        record = DecisionRecord(inputs=inputs.to_json(), **{
            name: made.to_json()[name]
            for name in ("outcome", "reason", "trigger", "explanation", "mode", "previous", "chosen", "breach_probability",
                         "forecast", "candidates", "constraints")
        })  # fmt: skip
        assert replay(record)[0]
    assert "alarm" not in near_the_edge().to_json()
