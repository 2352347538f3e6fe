"""Levels for a service never seen: how often, not how high; and nothing of its future or its truth."""

import numpy as np
import pytest

from controlplane.forecasting.spikes.matching import raise_warnings
from controlplane.forecasting.spikes.pacing import Pace, choose_pace, first_scored, judged, paced
from controlplane.forecasting.spikes.thresholds import Scored, Setting
from controlplane.forecasting.spikes.truth import Truth

STEP_S, DAY = 15.0, 5760


def service(seed: int, level: float, signal: float = 4.0, spikes: int = 16, days: int = 4) -> Scored:
    """Scores around `level`; before each spike they rise by `signal`."""
    rng = np.random.default_rng(seed)
    windows = days * DAY
    onsets = np.linspace(300, windows - 300, spikes).astype(int)
    scores = level + 0.3 * rng.normal(size=windows)
    blocked = np.zeros(windows, dtype=bool)
    for onset in onsets:
        scores[onset - 20 : onset] += signal * rng.uniform(0.5, 1.5)
        blocked[onset : onset + 10] = True
    return Scored(scores, Truth(1.0, tuple((int(o), int(o) + 10) for o in onsets), (), blocked), STEP_S)


def test_the_level_of_the_score_does_not_matter() -> None:
    low, high = (service(1, level) for level in (0.0, 50.0))
    assert judged(low, Pace(1.0, 4.0)) == judged(high, Pace(1.0, 4.0))


def test_a_pace_chosen_on_others_serves_a_service_whose_scores_lie_elsewhere() -> None:
    pace = choose_pace([service(seed, level) for seed, level in ((2, 0.0), (3, 20.0))], Setting.WATCH)
    assert pace is not None and pace.usual == 4.0 and 0.8 <= pace.warnings_per_spike <= 1.5
    assert judged(service(4, -30.0), pace).f1 > 0.7


def test_a_service_with_more_spikes_on_its_first_day_gets_more_warnings() -> None:
    pace = Pace(1.0, usual=4.0)
    calm, busy = (service(6, 0.0, spikes=spikes).truth for spikes in (4, 40))
    assert pace.per_day(calm, DAY, STEP_S) < 4.0 < pace.per_day(busy, DAY, STEP_S)


def test_about_so_many_warnings_come() -> None:
    one = service(5, 0.0)
    due = paced(one.scores, one.truth.blocked, STEP_S, DAY, 3.0)
    raised = raise_warnings(due, 0.0, one.truth.blocked, STEP_S)
    assert 1.0 <= len(raised) / 3 <= 6.0
    assert raised.min() >= DAY


@pytest.mark.parametrize("seed", range(3))
def test_a_shuffled_future_changes_nothing_up_to_now(seed: int) -> None:
    one, rng = service(seed, 0.0), np.random.default_rng(seed)
    now = int(rng.integers(DAY + 100, 3 * DAY))
    shuffled = one.scores.copy()
    shuffled[now + 1 :] = 9.0 * rng.permutation(shuffled[now + 1 :])
    before = paced(one.scores, one.truth.blocked, STEP_S, DAY, 4.0)
    after = paced(shuffled, one.truth.blocked, STEP_S, DAY, 4.0)
    assert np.array_equal(before[: now + 1], after[: now + 1])


def test_without_a_service_that_had_spikes_there_is_no_pace() -> None:
    assert choose_pace([], Setting.WATCH) is None
    assert choose_pace([service(1, 0.0, spikes=4)], Setting.WATCH) is None
    assert choose_pace([service(1, 0.0, signal=0.0)], Setting.PAGE) is None


def test_of_a_short_service_a_third_gives_the_first_level() -> None:
    assert first_scored(4 * DAY, STEP_S) == DAY
    assert first_scored(900, STEP_S) == 300


def test_a_service_of_which_few_spikes_can_be_foreseen_does_not_make_the_next_one_silent() -> None:
    """Its own best is one warning for three spikes, since the others come from nowhere."""
    known = service(7, 0.0, spikes=18)
    hushed = known.scores.copy()
    for number, (onset, _) in enumerate(known.truth.spikes):
        if number % 3:
            hushed[onset - 20 : onset] = 0.0
    pace = choose_pace([Scored(hushed, known.truth, STEP_S)], Setting.WATCH)
    assert pace is not None and pace.warnings_per_spike >= 1.0
    assert judged(service(8, 5.0), pace).recall > 0.8
