"""Where the engine computes: the choice on made-up machines, and that a thread really gets there on this one."""

import os

import pytest

from inference_node.config import ConfigInvalid
from inference_node.engine.cpu import NumaNode, usable_cpus
from inference_node.engine.own_thread import in_own_thread
from inference_node.engine.placement import Placement, place, place_here

SMT = ((0, 4), (1, 5), (2, 6), (3, 7))
ONE = (NumaNode(0, SMT),)
TWO = (NumaNode(0, SMT[:2], free_bytes=1), NumaNode(1, SMT[2:], free_bytes=2))


class TestAuto:
    def test_computes_on_physical_cores(self) -> None:
        assert place(ONE, "auto", None) == Placement(4)

    def test_takes_the_numa_node_with_most_free_memory(self) -> None:
        assert place(TWO, "auto", None) == Placement(2, frozenset({2, 3}))

    def test_gives_the_threads_that_are_asked_for(self) -> None:
        assert place(ONE, "auto", 7) == Placement(7)
        assert place(TWO, "auto", 1) == Placement(1, frozenset({2, 3}))

    def test_does_not_bind_more_threads_than_a_node_has_cores(self) -> None:
        assert place(TWO, "auto", 4) == Placement(4)

    @pytest.mark.parametrize(("quota", "threads"), [(None, 4), (2.0, 2), (1.5, 2), (0.3, 1), (64.0, 4)])
    def test_keeps_to_the_containers_quota(self, quota: float | None, threads: int) -> None:
        assert place(ONE, "auto", None, quota).threads == threads


class TestNamed:
    def test_off_leaves_it_to_the_system(self) -> None:
        assert place(TWO, "off", None) == Placement(4)

    def test_a_node_by_number(self) -> None:
        assert place(TWO, "numa:0", None) == Placement(2, frozenset({0, 1}))

    def test_cpus_by_number_count_cores_once(self) -> None:
        assert place(ONE, "0,4,1", None) == Placement(2, frozenset({0, 1, 4}))

    @pytest.mark.parametrize("wish", ["numa:7", "9", "0-64", "fast", "", "numa:"])
    def test_what_is_not_there_is_refused_with_what_is(self, wish: str) -> None:
        with pytest.raises(ConfigInvalid, match="NODE_CPU_AFFINITY"):
            place(TWO, wish, None)


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
        in_own_thread(Placement(1, frozenset({4095})).enter, "engine")

    def test_this_machine_has_a_place(self) -> None:
        placement = place_here("auto", None)
        assert 1 <= placement.threads <= len(usable_cpus())
        assert place_here(str(min(usable_cpus())), None) == Placement(1, frozenset({min(usable_cpus())}))
