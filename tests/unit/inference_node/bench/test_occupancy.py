"""Shares of the processor in a window."""

import os

from inference_node.bench.occupancy import Reading, peak_rss_bytes, rss_bytes, take_reading


def reading(at: float, busy: float, stolen: float, server: float, client: float) -> Reading:
    return Reading(at, 2, busy, stolen, server, client)


class TestUntil:
    def test_what_is_neither_server_nor_client_is_foreign(self) -> None:
        window = reading(0, 10, 0, 5, 1).until(reading(10, 27, 0.2, 19, 2))
        assert (window.server_ratio, window.client_ratio, window.foreign_ratio) == (0.7, 0.05, 0.1)
        assert window.stolen_ratio == 0.01 and window.is_disturbed

    def test_ticks_may_say_less_than_nothing(self) -> None:
        window = reading(0, 10, 0, 5, 1).until(reading(1, 10.5, 0, 5.6, 1))
        assert window.foreign_ratio == 0.0 and not window.is_disturbed

    def test_stolen_time_disturbs_too(self) -> None:
        assert reading(0, 0, 0, 0, 0).until(reading(1, 0, 0.2, 0, 0)).is_disturbed


class TestTakeReading:
    def test_counters_only_grow(self) -> None:
        first = take_reading(os.getpid())
        second = take_reading(os.getpid())
        assert second.at_s >= first.at_s and second.busy_s >= first.busy_s and second.server_s >= first.server_s > 0

    def test_a_process_that_is_gone_used_nothing(self) -> None:
        assert take_reading(2**22 + 1).server_s == 0.0


class TestMemory:
    def test_peak_remembers_what_has_been_let_go(self) -> None:
        before = peak_rss_bytes(os.getpid())
        held = b"x" * (before + 50_000_000)  # more than ever before, whatever else came and went
        with_it = rss_bytes(os.getpid())
        del held
        # The kernel counts pages per thread and adds up now and then: a small tolerance.
        assert peak_rss_bytes(os.getpid()) > 0.95 * with_it > before > 1_000_000
