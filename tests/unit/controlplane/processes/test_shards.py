"""How controllers share the pools out, by a clock that is moved by hand."""

from collections import Counter

import pytest
from sqlalchemy.orm import Session

from controlplane.errors import Fenced
from controlplane.ids import new_id
from controlplane.processes import lease, shards
from controlplane.processes.shards import SHARDS, Terms, share_out

LEASE_S = 10.0


class Clock:
    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def __call__(self, _: Session) -> int:
        return self.ms

    def wait(self, seconds: float) -> None:
        self.ms += round(1000 * seconds)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lease, "database_now_ms", clock)
    monkeypatch.setattr(shards, "database_now_ms", clock)
    return clock


def rounds(session: Session, clock: Clock, *holders: str, seconds: float = 0.0) -> dict[str, Terms]:
    """Each asks every two seconds, for so long; what each has in the end."""
    for _ in range(max(1, round(seconds / 2))):
        clock.wait(2)
        terms = {holder: share_out(session, holder=holder, lease_s=LEASE_S).terms for holder in holders}
    return terms


def sizes(terms: dict[str, Terms]) -> dict[str, int]:
    return {holder: len(each.epochs) for holder, each in terms.items()}


class TestShards:
    def test_pools_spread_over_all_of_them(self) -> None:
        found = Counter(shards.shard_of(new_id()) for _ in range(2000))
        assert set(found) == set(range(SHARDS))
        assert max(found.values()) < 2 * min(found.values())

    def test_where_a_pool_belongs_never_changes(self) -> None:
        """Two versions of the program that differ here would both lead it."""
        assert [shards.lease_of(pool_id) for pool_id in ("a", "b", "pool-7")] == ["pools-03", "pools-09", "pools-15"]


class TestShareOut:
    def test_alone_it_leads_everything(self, session: Session, clock: Clock) -> None:
        assert sizes(rounds(session, clock, "a")) == {"a": SHARDS}

    def test_a_newcomer_gets_its_half_after_one_lease(self, session: Session, clock: Clock) -> None:
        rounds(session, clock, "a", seconds=LEASE_S)
        assert sizes(rounds(session, clock, "a", "b", seconds=LEASE_S / 2)) == {"a": SHARDS, "b": 0}
        terms = rounds(session, clock, "a", "b", seconds=LEASE_S)
        assert sizes(terms) == {"a": SHARDS // 2, "b": SHARDS // 2}
        assert not terms["a"].epochs.keys() & terms["b"].epochs.keys()

    @pytest.mark.parametrize(("count", "parts"), [(3, [6, 5, 5]), (5, [4, 3, 3, 3, 3]), (18, [1] * 16 + [0, 0])])
    def test_no_two_differ_by_more_than_one(self, session: Session, clock: Clock, count: int, parts: list[int]) -> None:
        terms = rounds(session, clock, *[f"c{number:02d}" for number in range(count)], seconds=6 * LEASE_S)
        assert sorted(sizes(terms).values(), reverse=True) == parts

    def test_what_a_dead_one_led_is_taken_when_its_lease_has_ended(self, session: Session, clock: Clock) -> None:
        before = rounds(session, clock, "a", "b", seconds=4 * LEASE_S)
        assert sizes(rounds(session, clock, "a", seconds=LEASE_S - 4))["a"] == SHARDS // 2
        after = rounds(session, clock, "a", seconds=LEASE_S)["a"]
        assert len(after.epochs) == SHARDS
        kept = before["a"].epochs
        assert {name: after.epochs[name] for name in kept} == kept  # what it had goes on under the same terms
        assert min(after.epochs[name] for name in before["b"].epochs) > max(before["b"].epochs.values())

    def test_one_that_leaves_in_good_order_is_followed_at_once(self, session: Session, clock: Clock) -> None:
        rounds(session, clock, "a", "b", seconds=4 * LEASE_S)
        shards.leave(session, "b")
        assert sizes(rounds(session, clock, "a")) == {"a": SHARDS}

    def test_one_that_dies_each_time_it_starts_is_given_nothing(self, session: Session, clock: Clock) -> None:
        rounds(session, clock, "a", seconds=2 * LEASE_S)
        for start in range(8):
            assert sizes(rounds(session, clock, "a", f"b{start}", seconds=LEASE_S / 2))["a"] == SHARDS

    def test_one_that_stood_still_comes_back_as_a_newcomer(self, session: Session, clock: Clock) -> None:
        rounds(session, clock, "a", "b", seconds=4 * LEASE_S)
        rounds(session, clock, "a", seconds=2 * LEASE_S)
        assert sizes(rounds(session, clock, "a", "b")) == {"a": SHARDS, "b": 0}
        assert sizes(rounds(session, clock, "a", "b", seconds=2 * LEASE_S)) == {"a": SHARDS // 2, "b": SHARDS // 2}


class TestWhoLeads:
    def test_is_told_with_the_parts_of_each(self, session: Session, clock: Clock) -> None:
        rounds(session, clock, "a", "b", "c", seconds=4 * LEASE_S)
        found = shards.leaders(session)
        assert [len(leader.shards) for leader in found] == [6, 5, 5]
        assert frozenset().union(*(leader.shards for leader in found)) == set(range(SHARDS))

    def test_a_write_is_fenced_by_the_pool_that_it_is_for(self, session: Session, clock: Clock) -> None:
        terms = rounds(session, clock, "a", "b", seconds=4 * LEASE_S)
        mine = next(pool for pool in map(str, range(99)) if terms["a"].of(pool) is not None)
        other = next(pool for pool in map(str, range(99)) if terms["a"].of(pool) is None)
        shards.assert_leads_all(session, terms["a"], [mine])
        with pytest.raises(Fenced):
            shards.assert_leads_all(session, terms["a"], [mine, other])
        epoch = terms["b"].of(other)
        assert epoch is not None
        shards.assert_leads(session, other, epoch)
        with pytest.raises(Fenced):
            shards.assert_leads(session, other, epoch - 1)
