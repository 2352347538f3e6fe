"""What a forecaster must do to earn the right to act, and what takes it away, whatever the load."""

import json
import math

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.forecasting.forecaster import Forecast, ForecastPoint
from controlplane.forecasting.merit import READY, Merit, Said, judged, restored, scored, stored
from controlplane.forecasting.track_record import TrackRecord
from tests.support.foretold import STEP_S, STEPS, T0, cries_wolf, follow, knows, swinging, window

few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
rates = st.floats(0, 1e6, allow_nan=False)
anything = st.floats(allow_nan=True, allow_infinity=True)
saids = st.builds(Said, anything, anything, anything)


@st.composite
def trending(draw: st.DrawFn) -> list[float]:
    """A load that rises and falls on lines: by a fifth of itself at least, and no more than threefold."""
    level = draw(st.floats(0.5, 500))
    return swinging(180, level=level, swing=draw(st.floats(0.2, 2)) * level, period=draw(st.integers(20, 160)))


@few
@given(trending())
def test_who_is_always_right_earns_it_within_a_few_truths_of_the_first_verdict(load: list[float]) -> None:
    merits = follow(load, knows)
    assert all(merit.may_act for merit in merits if merit.truths >= READY + STEPS)
    assert merits[-1].may_act


@few
@given(trending())
def test_who_cries_wolf_loses_it_and_stays_without(load: list[float]) -> None:
    record = TrackRecord()
    assert follow(load[:110], knows, record)[-1].may_act
    kept = [merit.may_act for merit in follow(load, cries_wolf, record, first=110)]
    assert not any(kept[2 * READY + STEPS :])


@few
@given(trending())
def test_who_sees_nothing_coming_loses_it_and_stays_without(load: list[float]) -> None:
    record = TrackRecord()
    follow(load[:110], knows, record)
    kept = [merit.may_act for merit in follow(load, lambda _load, _place: [0.0] * STEPS, record, first=110)]
    assert not any(kept[2 * READY + STEPS :])


@given(st.lists(st.tuples(rates, rates, rates, rates), max_size=60), st.sampled_from((math.nan, math.inf, -math.inf)))
def test_what_is_no_number_never_opens_the_gate(truths: list[tuple[float, float, float, float]], bad: float) -> None:
    merit = Merit()
    for lasted, at_end, planned, q50 in truths:
        newest = Said(planned, q50, max(planned, q50))
        merit = scored(merit, Said(bad, bad, bad), newest, lasted=lasted, at_end=at_end)
        assert not merit.may_act
        assert all(math.isfinite(value) for value in (merit.cost, merit.newest_cost, merit.loss, merit.newest_loss))


@given(st.lists(st.tuples(saids, rates, rates, rates, st.none() | st.booleans()), max_size=60))
def test_sums_stay_numbers_and_survive_the_database_to_the_last_bit(
    events: list[tuple[Said, float, float, float, bool | None]],
) -> None:
    """A takeover in the middle goes on exactly as whoever was not interrupted."""
    through, alone = Merit(), Merit()
    for forecast, planned, lasted, at_end, right in events:
        newest = Said(planned, planned, planned)
        through, alone = (
            scored(each, forecast, newest, lasted=lasted, at_end=at_end) if right is None else judged(each, right=right)
            for each in (restored(json.loads(json.dumps(stored(through), allow_nan=False))), alone)
        )
    assert through == alone
    assert through.right <= through.threats * (1 + 1e-9)


@given(st.lists(st.tuples(st.none() | anything, anything, anything), max_size=40))
def test_no_window_and_no_forecast_breaks_the_record(told: list[tuple[float | None, float, float]]) -> None:
    record = TrackRecord()
    for place, (rate, q50, q90) in enumerate(told):
        at = window(place, None).window_end
        record.came(at, rate)
        points = tuple(ForecastPoint(at + (step + 1) * (at - T0) / (place + 1), q50, q50, q90) for step in range(STEPS))
        steady = tuple(ForecastPoint(point.at, 1.0, 2.0, 3.0) for point in points)
        record.made(
            Forecast("offered_rps", at, STEP_S, points, "any"),
            Forecast("offered_rps", at, STEP_S, steady, "now"),
            STEP_S,
        )
    assert restored(stored(record.merit)) == record.merit
