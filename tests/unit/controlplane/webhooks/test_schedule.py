"""When deliveries are tried again."""

from datetime import UTC, datetime, timedelta

import pytest

from controlplane.webhooks.schedule import (
    JITTER,
    MAX_ATTEMPTS,
    MAX_HOLD_S,
    PAUSES_S,
    Verdict,
    hold_s,
    judge,
    retry_after_s,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class TestJudge:
    @pytest.mark.parametrize("status", [200, 201, 204, 299])
    def test_any_2xx_is_delivered(self, status: int) -> None:
        assert judge(status, 1, NOW).verdict == Verdict.DELIVERED

    @pytest.mark.parametrize("status", [None, 100, 301, 307, 400, 401, 404, 408, 429, 500, 502, 504])
    def test_everything_else_is_tried_again(self, status: int | None) -> None:
        for attempt in range(1, MAX_ATTEMPTS):
            outcome = judge(status, attempt, NOW)
            assert outcome.verdict == Verdict.RETRY
            assert outcome.next_at is not None
            pause_s = (outcome.next_at - NOW).total_seconds()
            assert PAUSES_S[attempt] <= pause_s <= PAUSES_S[attempt] * (1 + JITTER)
        assert judge(status, MAX_ATTEMPTS, NOW).verdict == Verdict.GIVEN_UP

    def test_410_ends_it_at_the_first_attempt(self) -> None:
        assert judge(410, 1, NOW).verdict == Verdict.GONE

    def test_the_schedule_is_the_specification_s(self) -> None:
        minutes = [round(pause / 60, 1) for pause in PAUSES_S]
        assert minutes == [0, 0.1, 5, 30, 120, 300, 600, 840, 1200, 1440]


class TestRetryAfter:
    def test_seconds_and_dates(self) -> None:
        assert retry_after_s("120", NOW) == 120
        assert retry_after_s("Mon, 23 Nov 2026 12:01:30 GMT", NOW) == 90
        assert retry_after_s("Mon, 23 Nov 2026 11:00:00 GMT", NOW) == 0

    @pytest.mark.parametrize("header", [None, "", "soon", "-5", "1e9", "NaN", "٣"])
    def test_nonsense_asks_for_nothing(self, header: str | None) -> None:
        assert retry_after_s(header, NOW) == 0

    def test_a_receiver_cannot_ask_for_more_than_a_day(self) -> None:
        assert retry_after_s("9" * 40, NOW) == 86_400

    def test_it_only_lengthens_a_pause(self) -> None:
        longer = judge(429, 1, NOW, retry_after="600").next_at
        shorter = judge(429, 2, NOW, retry_after="1").next_at
        assert longer == NOW + timedelta(seconds=600)
        assert shorter is not None
        assert shorter >= NOW + timedelta(seconds=300)


def test_a_failing_endpoint_is_held_longer_and_longer_up_to_a_limit() -> None:
    holds = [hold_s(failures) for failures in range(20)]
    assert holds[0] == 0
    assert holds[1] == 5
    assert holds == sorted(holds)
    assert holds[-1] == MAX_HOLD_S
