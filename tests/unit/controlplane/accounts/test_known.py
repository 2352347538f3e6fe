"""Who was let in is remembered for a second, and no longer than their token lives or than a change of people lets them."""

from datetime import UTC, datetime, timedelta

from controlplane.accounts.known import HOLDS_S, Known, LetIn
from controlplane.accounts.roles import Identity, Role

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WHO = Identity("t1", "ann", Role.VIEWER, "bearer")


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_for_a_second_and_no_longer() -> None:
    clock = Clock()
    known = Known(clock)
    assert known.find("a", NOW) is None
    known.keep("a", LetIn(WHO, None), known.before())
    clock.at = HOLDS_S
    assert known.find("a", NOW) is WHO and known.find("b", NOW) is None
    clock.at = HOLDS_S + 0.001
    assert known.find("a", NOW) is None


def test_not_beyond_the_end_of_the_token() -> None:
    known = Known(Clock())
    known.keep("a", LetIn(WHO, NOW + timedelta(milliseconds=5)), known.before())
    assert known.find("a", NOW) is WHO
    assert known.find("a", NOW + timedelta(milliseconds=5)) is None


def test_forgotten_at_once() -> None:
    known = Known(Clock())
    known.keep("a", LetIn(WHO, None), known.before())
    known.forget()
    assert known.find("a", NOW) is None


def test_what_was_read_before_a_change_is_not_kept_after_it() -> None:
    known = Known(Clock())
    before = known.before()
    known.forget()  # somebody revokes the token while it is being looked up
    known.keep("a", LetIn(WHO, None), before)
    assert known.find("a", NOW) is None


def test_memory_is_bounded() -> None:
    known = Known(Clock())
    for number in range(25_000):
        known.keep(str(number), LetIn(WHO, None), known.before())
    assert len(known._since) <= 10_000
