import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import Fenced
from controlplane.events.models import Event
from controlplane.processes import lease

NAME, OTHER = "pools-00", "pools-01"


class Clock:
    """The database's clock, moved by hand."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def __call__(self, _: Session) -> int:
        return self.ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lease, "database_now_ms", clock)
    return clock


def acquire(session: Session, holder: str) -> lease.Lease | None:
    return lease.acquire_or_renew(session, names=[NAME], holder=holder, lease_s=10).get(NAME)


def epoch(session: Session, holder: str) -> int:
    held = acquire(session, holder)
    assert held is not None
    return held.epoch


class TestAcquireOrRenew:
    def test_renewing_keeps_the_epoch_and_moves_the_end(self, session: Session, clock: Clock) -> None:
        first = acquire(session, "a")
        clock.ms += 9_000
        second = acquire(session, "a")
        assert first is not None
        assert second is not None
        assert (first.epoch, second.epoch) == (1, 1)
        assert second.expires_at_ms == first.expires_at_ms + 9_000

    def test_another_waits_for_the_end_and_then_leads_under_a_higher_epoch(
        self, session: Session, clock: Clock
    ) -> None:
        acquire(session, "a")
        clock.ms += 9_999
        assert acquire(session, "b") is None
        clock.ms += 1
        assert epoch(session, "b") == 2
        assert acquire(session, "a") is None

    def test_a_holder_that_slept_past_its_end_gets_a_new_epoch_too(self, session: Session, clock: Clock) -> None:
        acquire(session, "a")
        clock.ms += 10_000
        assert epoch(session, "a") == 2

    def test_each_change_of_hands_is_told_and_a_renewal_is_not(self, session: Session, clock: Clock) -> None:
        acquire(session, "a")
        acquire(session, "a")
        clock.ms += 10_000
        acquire(session, "b")
        told = session.scalars(select(Event).order_by(Event.id)).all()
        assert [(e.kind, e.data["holder"], e.data["epoch"]) for e in told] == [
            ("control.leader_changed", "a", 1),
            ("control.leader_changed", "b", 2),
        ]
        assert told[1].data["previous_holders"] == ["a"]


class TestSeveralAtOnce:
    def test_what_is_free_is_taken_under_one_epoch_above_all_and_told_once(
        self, session: Session, clock: Clock
    ) -> None:
        acquire(session, "a")
        lease.raise_epoch(session, NAME, above=6)
        clock.ms += 10_000
        held = lease.acquire_or_renew(session, names=[OTHER, NAME], holder="b", lease_s=10, what="both")
        assert {name: each.epoch for name, each in held.items()} == {NAME: 8, OTHER: 8}
        told = session.scalars(select(Event).order_by(Event.id.desc())).first()
        assert told is not None
        assert told.message == "b leads both as of epoch 8 (after a)"
        assert told.data["leases"] == [NAME, OTHER]

    def test_what_another_holds_is_left_to_it(self, session: Session, clock: Clock) -> None:
        acquire(session, "a")
        assert set(lease.acquire_or_renew(session, names=[NAME, OTHER], holder="b", lease_s=10)) == {OTHER}

    def test_one_lost_of_several_fences(self, session: Session, clock: Clock) -> None:
        held = lease.acquire_or_renew(session, names=[NAME, OTHER], holder="a", lease_s=10)
        terms = {name: each.epoch for name, each in held.items()}
        lease.assert_holds(session, terms)
        lease.raise_epoch(session, OTHER, above=1)
        with pytest.raises(Fenced, match=OTHER) as fenced:
            lease.assert_holds(session, terms)
        assert fenced.value.extra["lease"] == OTHER


class TestAssertHolds:
    def test_passes_for_the_present_epoch_and_fences_the_one_before(self, session: Session, clock: Clock) -> None:
        acquire(session, "a")
        lease.assert_holds(session, {NAME: 1})
        clock.ms += 10_000
        acquire(session, "b")
        with pytest.raises(Fenced, match="nothing was written"):
            lease.assert_holds(session, {NAME: 1})

    def test_fences_where_nobody_ever_led(self, session: Session) -> None:
        with pytest.raises(Fenced):
            lease.assert_holds(session, {NAME: 0})


class TestRelease:
    def test_lets_another_lead_at_once_under_a_higher_epoch(self, session: Session, clock: Clock) -> None:
        acquire(session, "a")
        assert NAME in lease.current_holders(session, [NAME])
        assert lease.release(session, names=[NAME], holder="a")
        assert not lease.current_holders(session, [NAME])
        assert epoch(session, "b") == 2

    def test_by_one_who_does_not_hold_it_does_nothing(self, session: Session, clock: Clock) -> None:
        acquire(session, "a")
        assert not lease.release(session, names=[NAME], holder="b")
        assert acquire(session, "b") is None


class TestRaiseEpoch:
    def test_lifts_the_epoch_under_a_holder_who_learns_it_with_the_next_renewal(
        self, session: Session, clock: Clock
    ) -> None:
        acquire(session, "a")
        assert lease.raise_epoch(session, NAME, above=40) == 41
        with pytest.raises(Fenced):
            lease.assert_holds(session, {NAME: 1})
        assert epoch(session, "a") == 41

    def test_never_lowers_it(self, session: Session, clock: Clock) -> None:
        lease.raise_epoch(session, NAME, above=40)
        assert lease.raise_epoch(session, NAME, above=3) == 41
        assert epoch(session, "a") == 42
