"""Where the engine computes: the choice on made-up machines, and that a thread really gets there on this one."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_node.config import ConfigInvalid
from inference_node.engine.cpu import NumaNode, usable_cpus
from inference_node.engine.own_thread import in_own_thread
from inference_node.engine.placement import Placement, place, place_here, place_replicas

SMT = ((0, 4), (1, 5), (2, 6), (3, 7))
ONE = (NumaNode(0, SMT),)
TWO = (NumaNode(0, SMT[:2], free_bytes=1), NumaNode(1, SMT[2:], free_bytes=2))


class TestAuto:
    def test_computes_on_physical_cores(self) -> None:
        assert place(ONE, "auto", None) == Placement(4)

    def test_takes_the_numa_node_with_most_free_memory(self) -> None:
        assert place(TWO, "auto", None) == Placement(2, frozenset({2, 3}), 1)

    def test_gives_the_threads_that_are_asked_for(self) -> None:
        assert place(ONE, "auto", 7) == Placement(7)
        assert place(TWO, "auto", 1) == Placement(1, frozenset({2, 3}), 1)

    def test_does_not_bind_more_threads_than_a_node_has_cores(self) -> None:
        assert place(TWO, "auto", 4) == Placement(4)

    @pytest.mark.parametrize(("quota", "threads"), [(None, 4), (2.0, 2), (1.5, 2), (0.3, 1), (64.0, 4)])
    def test_keeps_to_the_containers_quota(self, quota: float | None, threads: int) -> None:
        assert place(ONE, "auto", None, quota).threads == threads


class TestNamed:
    def test_off_leaves_it_to_the_system(self) -> None:
        assert place(TWO, "off", None) == Placement(4)

    def test_a_node_by_number(self) -> None:
        assert place(TWO, "numa:0", None) == Placement(2, frozenset({0, 1}), 0)

    def test_cpus_by_number_count_cores_once(self) -> None:
        assert place(ONE, "0,4,1", None) == Placement(2, frozenset({0, 1, 4}), 0)

    @pytest.mark.parametrize("wish", ["numa:7", "9", "0-64", "fast", "", "numa:"])
    def test_what_is_not_there_is_refused_with_what_is(self, wish: str) -> None:
        with pytest.raises(ConfigInvalid, match="NODE_CPU_AFFINITY"):
            place(TWO, wish, None)


class TestReplicas:
    def test_one_is_placed_as_ever(self) -> None:
        assert place_replicas(TWO, "auto", None, 1) == (place(TWO, "auto", None),)
        assert place_replicas(ONE, "auto", None, "auto") == (Placement(4),)

    def test_auto_has_one_on_the_cores_of_each_numa_node(self) -> None:
        first, second = place_replicas(TWO, "auto", None, "auto")
        assert first == Placement(2, frozenset({0, 1}), 0)
        assert second == Placement(2, frozenset({2, 3}), 1)

    def test_auto_keeps_within_what_was_named(self) -> None:
        assert place_replicas(TWO, "numa:1", None, "auto") == (Placement(2, frozenset({2, 3}), 1),)
        assert len(place_replicas(TWO, "0,1,2,3", None, "auto")) == 2
        assert place_replicas(TWO, "off", None, "auto") == (Placement(4),)

    def test_auto_leaves_a_quota_that_is_too_small_to_one(self) -> None:
        assert len(place_replicas(TWO, "auto", None, "auto", quota=1.5)) == 1

    def test_shares_of_one_node_are_physical_cores_apart(self) -> None:
        placements = place_replicas(ONE, "auto", None, 2)
        assert placements == (Placement(2, frozenset({0, 1}), 0), Placement(2, frozenset({2, 3}), 0))

    def test_threads_are_of_all_together(self) -> None:
        assert place_replicas(ONE, "auto", 2, 2) == (Placement(1, frozenset({0}), 0), Placement(1, frozenset({2}), 0))
        assert [placement.threads for placement in place_replicas(ONE, "off", 4, 2)] == [2, 2]

    def test_nodes_get_replicas_by_their_cores(self) -> None:
        uneven = (NumaNode(0, SMT[:1]), NumaNode(1, SMT[1:]))
        assert [placement.numa_node for placement in place_replicas(uneven, "auto", None, 3)] == [0, 1, 1]

    @pytest.mark.parametrize(("replicas", "quota"), [(5, None), (3, 2.0)])
    def test_more_than_cores_are_refused(self, replicas: int, quota: float | None) -> None:
        with pytest.raises(ConfigInvalid, match=f"NODE_REPLICAS={replicas}"):
            place_replicas(ONE, "auto", None, replicas, quota)

    @given(
        st.lists(st.integers(1, 9), min_size=1, max_size=4),
        st.integers(1, 12),
        st.integers(1, 40) | st.none(),
        st.floats(0.1, 40.0) | st.none(),
    )
    def test_no_core_is_shared_and_none_crosses_a_node(
        self, sizes: list[int], replicas: int, threads: int | None, quota: float | None
    ) -> None:
        """On any machine: cores are apart, each replica's are of one node, and threads are no more than were asked for."""
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        nodes = tuple(
            NumaNode(number, tuple((cpu,) for cpu in range(start, start + size)))
            for number, (start, size) in enumerate(zip(starts, sizes, strict=True))
        )
        try:
            placements = place_replicas(nodes, "auto", threads, replicas, quota)
        except ConfigInvalid:
            assert replicas > min(sum(sizes), quota or sum(sizes))
            return
        assert len(placements) == replicas
        if replicas == 1:
            return
        taken = [cpu for placement in placements for cpu in placement.cpus or ()]
        assert len(taken) == len(set(taken))
        for placement in placements:
            assert placement.cpus is not None and placement.numa_node is not None
            assert placement.cpus <= {core[0] for core in nodes[placement.numa_node].cores}
            assert 1 <= placement.threads == len(placement.cpus)
        assert sum(placement.threads for placement in placements) <= max(replicas, threads or sum(sizes))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind threads")
class TestEnter:
    def test_binds_the_calling_thread_and_those_it_starts(self) -> None:
        before = usable_cpus()
        one = frozenset({min(before)})

        def bound() -> tuple[frozenset[int], frozenset[int]]:
            Placement(1, one).enter()
            return usable_cpus(), in_own_thread(usable_cpus, "child")

        assert in_own_thread(bound, "engine") == (one, one)
        assert usable_cpus() == before  # and no other

    def test_cpus_that_went_away_do_not_stop_the_engine(self) -> None:
        assert not in_own_thread(Placement(1, frozenset({4095})).enter, "engine")

    def test_a_system_that_forbids_it_does_not_stop_the_engine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def forbid(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "sched_setaffinity", forbid)
        assert not Placement(1, frozenset({0})).enter()

    def test_this_machine_has_a_place(self) -> None:
        (placement,) = place_here("auto", None)
        assert 1 <= placement.threads <= len(usable_cpus())
        first = frozenset({min(usable_cpus())})
        assert [each.cpus for each in place_here(str(min(usable_cpus())), None)] == [first]
