"""The same load for everybody, as long and as heavy as the schedule says."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.bench.replay.arrivals import Arrivals
from trimtab.errors import UsageError
from trimtab.surge_bench.load import (
    Lengths,
    Shape,
    Span,
    calm_times,
    requests_at,
    rising_window,
    surge_times,
    window_times,
)
from trimtab.traffic.schedule import Rates

LENGTHS = Lengths(Span(24, 48), Span(32, 96))


class TestSchedule:
    @given(st.floats(30, 36_000), st.floats(0, 600))
    def test_its_parts_make_the_whole(self, scored_s: float, warm_s: float) -> None:
        """Calm until 30 %, on the plateau from 40 to 70 %, calm again from 80 % to the end; the warm-up lies before."""
        surges = Shape(scored_s, warm_s).surges
        levels = [surges.level(warm_s + share * scored_s) for share in (0.0, 0.29, 0.35, 0.41, 0.69, 0.75, 0.81, 0.999)]
        assert levels == pytest.approx([0, 0, 0.5, 1, 1, 0.5, 0, 0], abs=1e-6)
        assert surges.level(warm_s / 2) == 0

    def test_so_many_requests_come_as_the_rates_say(self) -> None:
        shape = Shape(scored_s=60_000, warm_s=0)
        times = surge_times(shape, Rates(1.0, 3.0), seed=1)
        # Half of each slope and the plateau: 40 % of the time at 2 more a second.
        assert len(times) == pytest.approx(60_000 * (1.0 + 2.0 * 0.4), rel=0.02)
        plateau = [t for t in times if 24_000 <= t < 42_000]
        assert len(plateau) / 18_000 == pytest.approx(3.0, rel=0.03)

    @given(st.integers(0, 2**32))
    def test_the_same_seed_brings_the_same_requests(self, seed: int) -> None:
        shape = Shape(scored_s=60, warm_s=10)
        once, again = (requests_at(surge_times(shape, Rates(0.5, 1.5), seed), LENGTHS, seed) for _ in range(2))
        assert once == again
        assert all(a.at_s < b.at_s for a, b in itertools.pairwise(once))
        assert all(0 <= each.at_s < 70 for each in once)

    def test_no_two_prompts_are_alike(self) -> None:
        planned = requests_at([float(k) for k in range(200)], LENGTHS, seed=0)
        assert len({each.prompt for each in planned}) == 200
        assert {len(each.prompt.split()) for each in planned} <= set(range(24, 49))
        assert {each.answer for each in planned} <= set(range(32, 97))


def test_calm_is_a_rate_that_does_not_change() -> None:
    times = calm_times(10_000, 0.5, seed=3)
    assert len(times) == pytest.approx(5000, rel=0.05)
    assert times[-1] < 10_000
    assert calm_times(0, 0.5, seed=3) == []


class TestTrace:
    @pytest.fixture
    def rising(self) -> Arrivals:
        """An hour: one request a second, but five in the third quarter."""
        slow = np.concatenate([np.arange(0, 1800, 1.0), np.arange(2700, 3600, 1.0)])
        t = np.sort(np.concatenate([slow, np.arange(1800, 2700, 0.2)]))
        ones = np.ones(len(t), dtype=np.int64)
        return Arrivals("made", t, ones, ones)

    def test_the_rising_window_is_scaled_to_the_calm_load(self, rising: Arrivals) -> None:
        shape = Shape(scored_s=1800, warm_s=60)
        times = np.array(window_times(rising_window(rising, shape), shape, calm_rps=0.5, seed=0))
        scored = times[times >= 60] - 60
        counts = np.histogram(scored, np.arange(0, 1801, 60))[0]
        assert float(np.median(counts)) == pytest.approx(30, rel=0.4)
        assert counts[15:].mean() > 3 * counts[:15].mean()
        assert (times < 60).sum() == pytest.approx(30, abs=20)
        assert (np.diff(times) >= 0).all()

    def test_a_short_one_is_refused_with_its_length(self, rising: Arrivals) -> None:
        with pytest.raises(UsageError, match=r"made is 60.0 min long; 80 are needed"):
            rising_window(rising, Shape(scored_s=4800, warm_s=0))


class TestSpan:
    def test_one_number_is_both_ends(self) -> None:
        assert (Span.parse("64", "--output-tokens"), Span.parse("8-16", "x").mean) == (Span(64, 64), 12)

    @pytest.mark.parametrize("text", ["", "0-4", "9-3", "a-b", "1-2-3"])
    def test_nonsense_is_refused_with_an_example(self, text: str) -> None:
        with pytest.raises(UsageError, match="say 32-96"):
            Span.parse(text, "--output-tokens")
