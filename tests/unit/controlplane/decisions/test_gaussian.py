"""The process over differences, against what is known in closed form."""

import math

import pytest

from controlplane.decisions.gaussian import Difference, Kernel, Posterior, Sample

KERNEL = Kernel(sd=0.25, scales=(1.0,), context_scale=2.0)


def at(place: float, base: float = 0.0, context: float = 0.0) -> Difference:
    return Difference((place,), (base,), context)


class TestPosterior:
    def test_at_the_base_nothing_is_uncertain(self) -> None:
        assert Posterior(KERNEL, []).at(at(3.0, 3.0)) == (0.0, 0.0)

    def test_far_away_both_ends_are_unknown(self) -> None:
        mean, sd = Posterior(KERNEL, []).at(at(100.0))
        assert mean == 0.0
        assert sd == pytest.approx(0.25 * math.sqrt(2))

    def test_one_sample_is_weighed_against_its_noise(self) -> None:
        """The scalar case: mean = k / (k + noise²) * value, variance = k * noise² / (k + noise²)."""
        known, noise = KERNEL.of_differences(at(1.0), at(1.0)), 0.1
        mean, sd = Posterior(KERNEL, [Sample(at(1.0), 0.4, noise)]).at(at(1.0))
        assert mean == pytest.approx(known / (known + noise**2) * 0.4, rel=1e-6)
        assert sd == pytest.approx(math.sqrt(known * noise**2 / (known + noise**2)), rel=1e-6)

    def test_the_other_way_round_is_the_negative(self) -> None:
        found = Posterior(KERNEL, [Sample(at(2.0), 0.4, 0.01)])
        there, back = found.at(at(2.0)), found.at(at(0.0, 2.0))
        assert back[0] == pytest.approx(-there[0])
        assert back[1] == pytest.approx(there[1])

    def test_differences_add_up(self) -> None:
        """f(2) - f(0) from f(2) - f(1) and f(1) - f(0), both known to a hundredth."""
        samples = [Sample(at(1.0), 0.2, 0.01), Sample(at(2.0, 1.0), 0.3, 0.01)]
        mean, sd = Posterior(KERNEL, samples).at(at(2.0))
        assert mean == pytest.approx(0.5, abs=0.01)
        assert sd < 0.02

    def test_what_is_near_is_known_better_than_what_is_far(self) -> None:
        found = Posterior(KERNEL, [Sample(at(2.0), 0.4, 0.01)])
        deviations = [found.at(at(place))[1] for place in (2.0, 2.5, 3.0, 5.0)]
        assert deviations == sorted(deviations)

    def test_another_load_tells_less(self) -> None:
        found = Posterior(KERNEL, [Sample(at(2.0), 0.4, 0.01)])
        (here, known), (there, less) = found.at(at(2.0)), found.at(at(2.0, context=3.0))
        assert there < here
        assert less > known

    def test_the_same_sample_twice_is_no_trouble_and_known_better(self) -> None:
        once, twice = ([Sample(at(1.0), 0.4, 0.1)] * count for count in (1, 2))
        assert Posterior(KERNEL, twice).at(at(1.0))[1] < Posterior(KERNEL, once).at(at(1.0))[1]
