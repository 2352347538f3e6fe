"""When a warning is raised, and how it turns out: the benchmark's rules, one window at a time."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from controlplane.forecasting.spikes.alarm import BUDGET_PER_DAY, PAGE_RESERVE, Raised, Verdict, due, settle, spikes_of
from controlplane.forecasting.spikes.matching import judge, raise_warnings
from controlplane.forecasting.spikes.thresholds import Setting
from controlplane.forecasting.spikes.truth import truth_of

T0 = datetime(2026, 11, 30, tzinfo=UTC)
THRESHOLDS = {Setting.WATCH: 0.3, Setting.PAGE: 0.7}
STEP_S, SLO_S = 15.0, 1.0


def raised(setting: Setting, at: datetime, verdict: Verdict = Verdict.OPEN, onset_at: datetime | None = None) -> Raised:
    return Raised(1, setting, at, verdict, onset_at, ended=False)


class TestDue:
    def test_a_score_above_both_thresholds_raises_both_settings(self) -> None:
        assert due(0.8, False, THRESHOLDS, [], T0) == [Setting.PAGE, Setting.WATCH]
        assert due(0.4, False, THRESHOLDS, [], T0) == [Setting.WATCH]
        assert due(0.2, False, THRESHOLDS, [], T0) == []

    def test_nothing_is_raised_while_latency_is_beyond_the_slo(self) -> None:
        assert due(0.9, True, THRESHOLDS, [], T0) == []

    @pytest.mark.parametrize("probability", [float("nan"), float("inf"), float("-inf")])
    def test_what_is_no_probability_raises_nothing(self, probability: float) -> None:
        assert due(probability, False, THRESHOLDS, [], T0) == []

    def test_each_setting_has_a_cool_down_of_its_own(self) -> None:
        past = [raised(Setting.WATCH, T0 - timedelta(seconds=585))]
        assert due(0.9, False, THRESHOLDS, past, T0) == [Setting.PAGE]
        assert due(0.9, False, THRESHOLDS, past, T0 + timedelta(seconds=15)) == [Setting.PAGE, Setting.WATCH]

    def test_a_setting_without_a_threshold_is_silent(self) -> None:
        assert due(0.99, False, {Setting.WATCH: 0.3, Setting.PAGE: None}, [], T0) == [Setting.WATCH]

    def test_watches_stop_before_the_budget_and_leave_pages_their_part(self) -> None:
        past = [raised(Setting.WATCH, T0 - timedelta(minutes=20 + i)) for i in range(BUDGET_PER_DAY - PAGE_RESERVE)]
        assert due(0.9, False, THRESHOLDS, past, T0) == [Setting.PAGE]
        full = [*past, *(raised(Setting.PAGE, T0 - timedelta(minutes=20 + i)) for i in range(PAGE_RESERVE))]
        assert due(0.9, False, THRESHOLDS, full, T0) == []

    def test_the_budget_is_of_the_last_24_hours(self) -> None:
        past = [raised(Setting.WATCH, T0 - timedelta(hours=25)) for _ in range(BUDGET_PER_DAY)]
        assert due(0.4, False, THRESHOLDS, past, T0) == [Setting.WATCH]


def outcome(p99: Sequence[float], at: int, measured: Sequence[bool] | None = None) -> Verdict:
    """What becomes of a warning in window `at`, looked at in each later window as a controller does."""
    warning = raised(Setting.WATCH, T0 + timedelta(seconds=at * STEP_S))
    for last in range(at + 1, len(p99)):
        end = T0 + timedelta(seconds=last * STEP_S)
        known = np.asarray(p99[: last + 1])
        seen = list(measured[: last + 1]) if measured else [True] * (last + 1)
        news = settle(warning, truth_of(known, SLO_S, STEP_S), seen, end, STEP_S)
        if news is not None:
            return news.verdict
    return Verdict.OPEN


def latency(*bad: range, count: int = 120) -> list[float]:
    return [2.0 if any(i in each for each in bad) else 0.1 for i in range(count)]


class TestSettle:
    def test_a_spike_in_reach_makes_it_right_and_one_too_near_late(self) -> None:
        assert outcome(latency(range(40, 50)), at=30) is Verdict.RIGHT
        assert outcome(latency(range(32, 45)), at=30) is Verdict.LATE

    def test_a_minor_breach_is_neutral_and_calm_a_false_alarm(self) -> None:
        assert outcome(latency(range(40, 44)), at=30) is Verdict.NEUTRAL
        assert outcome(latency(), at=30) is Verdict.FALSE

    def test_a_spike_beyond_reach_does_not_count(self) -> None:
        assert outcome(latency(range(72, 90)), at=30) is Verdict.FALSE

    def test_what_was_not_measured_is_not_held_against_it(self) -> None:
        holes = [not 31 <= i <= 65 for i in range(120)]
        assert outcome(latency(), at=30, measured=holes) is Verdict.UNKNOWN

    def test_a_warning_older_than_what_is_known_is_unknown(self) -> None:
        warning = raised(Setting.WATCH, T0 - timedelta(hours=5))
        truth = truth_of(np.full(50, 0.1), SLO_S, STEP_S)
        news = settle(warning, truth, [True] * 50, T0, STEP_S)
        assert news is not None and news.verdict is Verdict.UNKNOWN and news.ended

    def test_a_right_one_ends_when_its_spike_is_over(self) -> None:
        onset_at = T0 + timedelta(seconds=40 * STEP_S)
        warning = raised(Setting.WATCH, T0 + timedelta(seconds=30 * STEP_S), Verdict.RIGHT, onset_at)
        p99 = latency(range(40, 50))
        ended = [
            (news := settle(
                warning, truth_of(np.asarray(p99[: last + 1]), SLO_S, STEP_S), [True] * (last + 1),
                T0 + timedelta(seconds=last * STEP_S), STEP_S,
            )) is not None and news.ended
            for last in range(48, 90)
        ]  # fmt: skip
        assert not ended[0] and ended[-1]
        assert ended.index(True) + 48 == 69  # 300 s after the last bad window

    def test_it_agrees_with_the_benchmark_on_made_up_latency(self) -> None:
        """Whatever the latency does: the same warnings, right, neutral and false, as the benchmark counts."""
        rng = np.random.default_rng(7)
        for _ in range(20):
            p99 = np.full(400, 0.1)
            for start in rng.choice(np.arange(60, 330), size=4, replace=False):
                p99[start : start + rng.integers(2, 20)] = 2.0
            scores = rng.random(400)
            scores[330:] = 0.0  # what follows them must be known
            truth = truth_of(p99, SLO_S, STEP_S)
            windows = raise_warnings(scores, 0.9, truth.blocked, STEP_S)
            verdict = judge(windows, truth, 0, 400, STEP_S)
            live = [outcome(p99.tolist(), int(window)) for window in windows]
            assert live.count(Verdict.RIGHT) + live.count(Verdict.LATE) == verdict.right
            assert live.count(Verdict.RIGHT) == verdict.actionable
            assert live.count(Verdict.FALSE) == verdict.false
            assert live.count(Verdict.NEUTRAL) == verdict.neutral


class TestSpikesOf:
    def test_a_spike_that_was_under_way_at_the_beginning_has_no_known_onset(self) -> None:
        truth = truth_of(np.asarray(latency(range(12), range(60, 70))), SLO_S, STEP_S)
        found = spikes_of(truth, T0, STEP_S)
        assert [spike.onset_at for spike in found] == [T0 - timedelta(seconds=59 * STEP_S)]

    def test_it_lasts_until_five_minutes_are_calm(self) -> None:
        truth = truth_of(np.asarray(latency(range(100, 110))), SLO_S, STEP_S)
        assert spikes_of(truth, T0, STEP_S)[0].until is None
