import pytest

from controlplane.accounts.throttle import RequestThrottle, SignInThrottle
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


def test_stops_a_name_from_wherever_it_is_guessed_at() -> None:
    throttle = SignInThrottle(limit=100, name_limit=3, monotonic=Clock())
    for host in range(3):
        throttle.check(f"10.0.0.{host}", "ann")
        throttle.note_failure(f"10.0.0.{host}", " Ann")
    with pytest.raises(TooMany):
        throttle.check("10.0.0.9", "ann")
    throttle.check("10.0.0.9", "bob")


class TestRequests:
    def test_a_caller_may_burst_and_then_go_on_at_the_rate(self) -> None:
        clock = Clock()
        throttle = RequestThrottle(per_s=2, burst=4, monotonic=clock)
        for _ in range(4):
            throttle.take("id", "ann")
        with pytest.raises(TooMany, match="2 times a second") as error:
            throttle.take("id", "ann")
        assert error.value.extra["retry_after_s"] == 1
        throttle.take("other", "bob")
        clock.now = 0.5
        throttle.take("id", "ann")
        with pytest.raises(TooMany):
            throttle.take("id", "ann")
        clock.now = 60.0
        for _ in range(4):
            throttle.take("id", "ann")

    def test_those_who_are_refused_wait_no_longer_for_having_asked(self) -> None:
        clock = Clock()
        throttle = RequestThrottle(per_s=1, burst=1, monotonic=clock)
        throttle.take("id", "ann")
        for _ in range(50):
            with pytest.raises(TooMany):
                throttle.take("id", "ann")
        clock.now = 1.0
        throttle.take("id", "ann")
