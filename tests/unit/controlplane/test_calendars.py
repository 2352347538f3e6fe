from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from controlplane.calendars import CronInvalid, parse_cron, window_around

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
HOUR = 3600.0


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


class TestParseCron:
    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("0 18 * *", "4 fields"),
            ("60 * * * *", "minute"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day of month"),
            ("* * * foo *", "jan"),
            ("* * * * 8", "day of week"),
            ("5-1 * * * *", "backwards"),
            ("*/0 * * * *", "minute"),
            ("² * * * *", "minute"),
        ],
    )
    def test_names_the_field_that_is_wrong(self, text: str, named: str) -> None:
        with pytest.raises(CronInvalid, match=named):
            parse_cron(text)

    def test_reads_lists_ranges_steps_and_names(self) -> None:
        cron = parse_cron("0,30 8-18/5 * JAN,dec mon-fri")
        assert (cron.minutes, cron.hours) == ((0, 30), (8, 13, 18))
        assert (cron.months, cron.weekdays) == (frozenset({1, 12}), frozenset({1, 2, 3, 4, 5}))

    def test_takes_seven_for_sunday(self) -> None:
        assert parse_cron("0 0 * * 7").weekdays == frozenset({0})


class TestWindowAround:
    def test_holds_its_start_and_not_its_end(self) -> None:
        friday = parse_cron("0 18 * * fri")
        found = window_around(friday, BERLIN, 60 * HOUR, at("2026-01-02T18:00+01:00"))
        assert found == (at("2026-01-02T18:00+01:00"), at("2026-01-05T06:00+01:00"))
        assert window_around(friday, BERLIN, 60 * HOUR, at("2026-01-05T06:00+01:00")) is None
        assert window_around(friday, BERLIN, 60 * HOUR, at("2026-01-02T17:59+01:00")) is None

    def test_is_meant_in_its_zone(self) -> None:
        evening = parse_cron("0 20 * * *")
        assert window_around(evening, NEW_YORK, HOUR, at("2026-01-02T20:30-05:00")) is not None
        assert window_around(evening, BERLIN, HOUR, at("2026-01-02T20:30-05:00")) is None

    def test_lasts_as_long_when_the_clocks_change(self) -> None:
        night = parse_cron("0 1 29 3 *")  # 2026-03-29: at 02:00 the clocks go to 03:00
        found = window_around(night, BERLIN, 3 * HOUR, at("2026-03-29T04:30+02:00"))
        assert found == (at("2026-03-29T01:00+01:00"), at("2026-03-29T05:00+02:00"))

    def test_happens_on_a_day_whose_hour_is_skipped(self) -> None:
        found = window_around(parse_cron("30 2 * * *"), BERLIN, HOUR, at("2026-03-29T03:45+02:00"))
        assert found is not None
        assert found[0] == at("2026-03-29T03:30+02:00")

    def test_happens_once_on_a_day_whose_hour_comes_twice(self) -> None:
        twice = parse_cron("30 2 25 10 *")
        assert window_around(twice, BERLIN, HOUR, at("2026-10-25T02:45+02:00")) is not None
        assert window_around(twice, BERLIN, HOUR, at("2026-10-25T02:45+01:00")) is None

    def test_takes_either_day_where_both_are_given(self) -> None:
        either = parse_cron("0 0 13 * fri")
        assert window_around(either, BERLIN, HOUR, at("2026-01-13T00:30+01:00")) is not None  # a Tuesday
        assert window_around(either, BERLIN, HOUR, at("2026-01-16T00:30+01:00")) is not None  # a Friday
        assert window_around(either, BERLIN, HOUR, at("2026-01-14T00:30+01:00")) is None
