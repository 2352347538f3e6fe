import random
from math import comb

import pytest

from controlplane.rollouts.sequential import ALPHA, Counts, evidence_of_more, evidence_of_positive

RUNS, WINDOWS = 2000, 60


def wrong(seed: int, *, rate: float, total: int, reference: int) -> bool:
    """Whether evidence ever reaches the limit, looked at after each of WINDOWS windows, though both arms are alike."""
    random_ = random.Random(seed)
    seen: list[Counts] = []
    for _ in range(WINDOWS):
        events = [sum(random_.random() < rate for _ in range(size)) for size in (total, reference)]
        seen.append(Counts(events[0], total, events[1], reference))
        if evidence_of_more(seen) >= 1 / ALPHA:
            return True
    return False


class TestEvidenceOfMore:
    def test_of_arms_that_are_alike_is_no_more_than_chance_on_average(self) -> None:
        """Its mean is at most 1 for every share and every number of events: summed exactly over the binomial."""
        for share_total, share_reference in ((1, 1), (1, 3), (3, 1)):
            share = share_total / (share_total + share_reference)
            for hits in (1, 2, 5):
                mean = sum(
                    comb(hits, k)
                    * share**k
                    * (1 - share) ** (hits - k)
                    * evidence_of_more([Counts(k, 100 * share_total, hits - k, 100 * share_reference)])
                    for k in range(hits + 1)
                )
                assert mean == pytest.approx(1.0)

    @pytest.mark.parametrize(("rate", "total", "reference"), [(0.02, 20, 20), (0.3, 10, 30)])
    def test_is_rarely_fooled_however_often_one_looks(self, rate: float, total: int, reference: int) -> None:
        fooled = sum(wrong(seed, rate=rate, total=total, reference=reference) for seed in range(60))
        assert fooled == 0  # 60 x alpha = 0.06 expected at most

    def test_two_points_more_errors_are_found_within_ten_minutes_of_windows(self) -> None:
        random_, found = random.Random(5), 0
        for _ in range(50):
            seen = [Counts(sum(random_.random() < 0.02 for _ in range(50)), 50, 0, 50) for _ in range(60)]
            found += evidence_of_more(seen) >= 1 / ALPHA
        assert found == 50

    def test_an_outage_behind_both_arms_is_no_evidence(self) -> None:
        assert evidence_of_more([Counts(20, 20, 20, 20)] * 20) < 1

    def test_without_trials_on_one_side_there_is_none(self) -> None:
        assert evidence_of_more([Counts(5, 10, 0, 0), Counts(0, 0, 5, 10)]) == 1


class TestEvidenceOfPositive:
    def test_a_run_of_positives_is_enough_and_a_fair_coin_is_not(self) -> None:
        assert evidence_of_positive([0.1] * 14) >= 1 / ALPHA
        assert evidence_of_positive([0.1] * 8) < 1 / ALPHA
        random_ = random.Random(3)
        fooled = 0
        for _ in range(RUNS // 10):
            values = [random_.choice((-1.0, 1.0)) for _ in range(WINDOWS)]
            fooled += any(evidence_of_positive(values[:k]) >= 1 / ALPHA for k in range(WINDOWS))
        assert fooled <= 2
