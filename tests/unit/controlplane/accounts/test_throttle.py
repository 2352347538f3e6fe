import pytest

from controlplane.accounts.throttle import SignInThrottle
from controlplane.errors import TooMany


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_stops_an_address_after_its_failures_until_they_are_old() -> None:
    clock = Clock()
    throttle = SignInThrottle(limit=3, window_s=60, monotonic=clock)
    for second in range(3):
        clock.now = float(second)
        throttle.check("10.0.0.1")
        throttle.note_failure("10.0.0.1")
    with pytest.raises(TooMany) as error:
        throttle.check("10.0.0.1")
    assert error.value.extra["retry_after_s"] == 58
    throttle.check("10.0.0.2")
    clock.now = 60.0
    throttle.check("10.0.0.1")


def test_remembers_a_bounded_number_of_addresses() -> None:
    throttle = SignInThrottle(limit=1, max_addresses=2, monotonic=Clock())
    for address in ("a", "b", "c"):
        throttle.note_failure(address)
    throttle.check("a")
    with pytest.raises(TooMany):
        throttle.check("c")
