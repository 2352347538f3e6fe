from datetime import datetime

import pytest
from pydantic import ValidationError

from controlplane.decisions.freezing import window_reason
from controlplane.decisions.policy import FreezeWindow, Policy

WEEKEND = FreezeWindow(cron="0 18 * * fri", duration_s=60 * 3600, timezone="Europe/Berlin", reason="nobody is there")
SATURDAY, MONDAY = (datetime.fromisoformat(f"2026-01-0{day}T12:00:00+00:00") for day in (3, 5))


class TestWindowReason:
    def test_tells_reason_and_end(self) -> None:
        words = window_reason(Policy(freeze_windows=(WEEKEND,)), SATURDAY)
        assert words == "freeze window until 2026-01-05 05:00 UTC: nobody is there"

    def test_is_none_outside(self) -> None:
        assert window_reason(Policy(freeze_windows=(WEEKEND,)), MONDAY) is None

    def test_of_two_names_the_one_that_ends_last(self) -> None:
        longer = FreezeWindow(cron="0 0 2 1 *", duration_s=10 * 86_400, reason="new year")
        assert "new year" in (window_reason(Policy(freeze_windows=(longer, WEEKEND)), SATURDAY) or "")


class TestFreezeWindow:
    @pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "../etc/passwd", "Europe"])
    def test_refuses_what_is_no_zone(self, zone: str) -> None:
        with pytest.raises(ValidationError, match="time zone"):
            FreezeWindow(cron="0 0 * * *", duration_s=60, timezone=zone, reason="x")

    def test_refuses_what_is_no_cron(self) -> None:
        with pytest.raises(ValidationError, match="five"):
            FreezeWindow(cron="daily", duration_s=60, reason="x")

    def test_survives_json(self) -> None:
        policy = Policy(freeze_windows=(WEEKEND,))
        assert Policy.model_validate(policy.to_json()) == policy
