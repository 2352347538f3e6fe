"""The cap that the node moves by itself."""

from inference_node.scheduling.reflex import LatencyReflex


def reflex(target_ms: float = 50, start: int = 16, low: int = 1, high: int = 32) -> LatencyReflex:
    return LatencyReflex.of(target_itl_ms=target_ms, start=start, low=low, high=high)


class TestLatencyReflex:
    def test_without_a_target_the_cap_stays(self) -> None:
        still = LatencyReflex.of(target_itl_ms=0, start=8, low=8, high=8)
        assert {still.observe(9.0, 8, 99) for _ in range(50)} == {8}

    def test_one_slow_step_alone_changes_nothing(self) -> None:
        calm = reflex()
        for number in range(100):
            calm.observe(0.200 if number == 50 else 0.045, 16, 16)
        assert calm.cap == 16

    def test_shrinks_by_the_ratio_but_at_most_by_half_at_once(self) -> None:
        slow = reflex()
        caps = [slow.observe(1.0, min(slow.cap, 16), 99) for _ in range(8)]
        assert caps[-2:] == [16, 8]

    def test_does_not_shrink_again_while_the_last_cut_still_drains(self) -> None:
        draining = reflex()
        for _ in range(8):
            draining.observe(0.1, 16, 99)
        assert draining.cap == 8
        assert {draining.observe(0.1, 16, 99) for _ in range(100)} == {8}

    def test_grows_by_one_and_only_when_somebody_is_held_back(self) -> None:
        fast = reflex(start=8)
        for _ in range(100):
            fast.observe(0.01, 8, wanted=8)
        assert fast.cap == 8
        for _ in range(8):
            fast.observe(0.01, 8, wanted=20)
        assert fast.cap == 9
