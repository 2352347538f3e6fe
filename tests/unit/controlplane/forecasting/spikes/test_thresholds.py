import numpy as np

from controlplane.forecasting.spikes.matching import judge, raise_warnings
from controlplane.forecasting.spikes.thresholds import Scored, Setting, choose
from controlplane.forecasting.spikes.truth import Truth


def scored(seed: int, spikes: int, signal: float, level: float = 0.0) -> Scored:
    """Spikes each 200 windows, before which the score rises by `signal` above noise around `level`."""
    rng = np.random.default_rng(seed)
    windows = 200 * (spikes + 1)
    onsets = [200 * (i + 1) for i in range(spikes)]
    scores = level + 0.3 * rng.normal(size=windows)
    blocked = np.zeros(windows, dtype=bool)
    for onset in onsets:
        scores[onset - 20 : onset] += signal
        blocked[onset : onset + 8] = True
    return Scored(scores, Truth(1.0, tuple((o, o + 8) for o in onsets), (), blocked), 15.0)


class TestChoosing:
    def test_separates_what_can_be_separated(self) -> None:
        threshold = choose(scored(1, 30, 4.0), [], Setting.WATCH)
        assert threshold is not None
        assert 1.0 < threshold < 4.5

    def test_with_many_spikes_of_its_own_other_services_hardly_matter(self) -> None:
        own = scored(1, 60, 4.0)
        alone = choose(own, [], Setting.WATCH)
        among = choose(own, [scored(2, 60, 4.0, level=10.0)], Setting.WATCH)
        assert alone is not None
        assert among is not None
        assert abs(among - alone) < 2.0

    def test_with_one_spike_of_its_own_the_others_lead(self) -> None:
        # The only own spike came unannounced, and the best single point of the own past is chance.
        threshold = choose(scored(3, 1, 0.0), [scored(4, 40, 4.0)], Setting.WATCH)
        assert threshold is not None
        assert threshold > 1.0

    def test_page_asks_for_precision_and_says_nothing_where_none_has_it(self) -> None:
        assert choose(scored(5, 30, 0.0), [], Setting.PAGE) is None
        own = scored(6, 40, 1.0)
        watch, page = (choose(own, [], setting) for setting in Setting)
        assert watch is not None
        assert page is not None
        raised = judge(raise_warnings(own.scores, page, own.truth.blocked), own.truth, 0, len(own.scores))
        assert raised.precision >= 0.8

    def test_without_a_spike_anywhere_there_is_no_threshold(self) -> None:
        assert choose(scored(7, 0, 1.0), [], Setting.WATCH) is None
        assert choose(None, [], Setting.WATCH) is None
