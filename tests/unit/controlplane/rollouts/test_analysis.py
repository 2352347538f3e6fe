from dataclasses import replace

import pytest

from controlplane.rollouts.analysis import Report, Verdict, analyze
from tests.support.arms import World, plan

RUNS = 150


def judge(seed: int, *, windows: int = 12, ttft: float = 1.0, itl: float = 1.0, error_rate: float = 0.0) -> Report:
    pre, post = World(seed).pairs(windows, windows, ttft=ttft, itl=itl, error_rate=error_rate)
    return analyze(pre, post, plan(windows=windows))


def shares(**effects: float) -> dict[Verdict, float]:
    verdicts = [judge(seed, **effects).verdict for seed in range(RUNS)]  # type: ignore[arg-type]
    return {verdict: verdicts.count(verdict) / RUNS for verdict in Verdict}


def measured(report: Report, metric: str) -> Verdict:
    return next(each.verdict for each in report.measurements if each.metric == metric)


class TestLatency:
    def test_no_change_is_hardly_ever_called_worse(self) -> None:
        found = shares()
        assert found[Verdict.FAIL] <= 0.02

    def test_no_change_mostly_passes_or_stays_open(self) -> None:
        found = shares()
        assert found[Verdict.PASS] >= 0.5
        assert found[Verdict.PASS] + found[Verdict.INCONCLUSIVE] >= 0.98

    def test_doubled_latency_fails(self) -> None:
        assert shares(ttft=2.0, itl=2.0)[Verdict.FAIL] >= 0.99

    def test_doubled_latency_within_the_objective_fails_too(self) -> None:
        report = judge(3, itl=2.0)
        assert report.verdict is Verdict.FAIL
        assert "p95 ITL" in report.explanation

    def test_thirty_percent_worse_is_hardly_ever_passed(self) -> None:
        assert shares(ttft=1.3, itl=1.3)[Verdict.PASS] <= 0.02

    def test_improvement_passes(self) -> None:
        found = shares(ttft=0.6, itl=0.9)
        assert found[Verdict.PASS] >= 0.95
        assert found[Verdict.FAIL] == 0

    def test_the_difference_between_two_nodes_is_no_effect(self) -> None:
        """The control is by nature 60 % faster or slower: without the windows before, that would look like the change's doing."""
        for spread in (0.6, 1.6):
            pre, post = World(5, spread=spread).pairs(12, 12)
            assert analyze(pre, post, plan(windows=12)).verdict is not Verdict.FAIL

    def test_numbers_say_how_large_the_effect_is(self) -> None:
        report = judge(7, ttft=2.0)
        ttft = next(each for each in report.measurements if each.metric == "ttft_p95_s")
        assert ttft.effect_ratio == pytest.approx(2.0, rel=0.15)
        assert ttft.canary is not None
        assert ttft.baseline is not None
        assert ttft.canary / ttft.baseline == pytest.approx(ttft.effect_ratio)
        assert ttft.ci_low is not None
        assert ttft.ci_high is not None
        assert ttft.ci_low < 2.0 < ttft.ci_high

    def test_too_few_windows_leave_it_open(self) -> None:
        pre, post = World(1).pairs(8, 8)
        report = analyze(pre[:4], post, plan())
        assert report.verdict is Verdict.INCONCLUSIVE
        assert "4 windows before" in report.explanation


class TestTrade:
    def test_slower_steps_for_a_shorter_queue_pass_within_the_objective(self) -> None:
        report = judge(2, ttft=0.4, itl=1.6)
        assert report.verdict is Verdict.PASS
        assert "accepted" in report.explanation

    def test_slower_steps_beyond_the_objective_fail(self) -> None:
        report = judge(2, ttft=0.4, itl=8.0)  # 0.06 s x 8 is over the 0.3 s of the SLO
        assert report.verdict is Verdict.FAIL

    def test_slower_steps_for_nothing_fail(self) -> None:
        assert judge(2, itl=1.6).verdict is Verdict.FAIL


class TestErrors:
    def test_five_percent_errors_fail(self) -> None:
        failed = sum(measured(judge(seed, error_rate=0.05), "error_rate") is Verdict.FAIL for seed in range(40))
        assert failed >= 32  # 240 requests: 12 errors expected

    def test_no_errors_pass(self) -> None:
        assert measured(judge(1), "error_rate") is Verdict.PASS

    def test_refusals_of_the_canary_alone_fail(self) -> None:
        pre, post = World(1).pairs(8, 8)
        refused = tuple(replace(pair, canary=replace(pair.canary, rejected=8)) for pair in post)
        assert measured(analyze(pre, refused, plan()), "rejected_ratio") is Verdict.FAIL


class TestRefusalsForTheOthers:
    """A shorter queue on the canary of a pool that is late: World's objective for first tokens is 1.5 s."""

    def _report(self, *, ttft_s: float = 4.0, gain: float = 0.2, served: int = 24, control: bool = True) -> Report:
        pre, post = World(1, ttft_s=ttft_s).pairs(12, 12, ttft=gain, control=control)
        refused = tuple(replace(pair, canary=replace(pair.canary, rejected=8, requests=served)) for pair in post)
        return analyze(pre, refused, plan(windows=12, control=control))

    @pytest.mark.parametrize("control", [True, False])
    def test_are_accepted_where_the_others_are_late_without(self, control: bool) -> None:
        report = self._report(control=control)
        assert measured(report, "rejected_ratio") is Verdict.PASS
        assert any("accepted, since as many are served" in each.detail for each in report.measurements)

    def test_are_not_where_nobody_was_late(self) -> None:
        assert measured(self._report(ttft_s=0.3), "rejected_ratio") is Verdict.FAIL

    def test_are_not_where_fewer_are_served(self) -> None:
        assert measured(self._report(served=12), "rejected_ratio") is Verdict.FAIL

    def test_are_not_where_those_that_are_let_in_are_late_as_well(self) -> None:
        assert measured(self._report(ttft_s=20.0), "rejected_ratio") is Verdict.FAIL


class TestWithoutData:
    def test_no_requests_never_pass(self) -> None:
        pre, post = World(1, requests=0).pairs(12, 12)
        report = analyze(pre, post, plan(windows=12))
        assert report.verdict is Verdict.INCONCLUSIVE
        assert "0 requests" in report.explanation

    def test_fewer_requests_than_the_policy_wants_never_pass(self) -> None:
        pre, post = World(1, requests=2).pairs(8, 8)
        assert analyze(pre, post, plan(min_requests=200)).verdict is not Verdict.PASS

    def test_no_windows_at_all_never_pass(self) -> None:
        assert analyze((), (), plan()).verdict is Verdict.INCONCLUSIVE


def test_a_single_node_is_judged_against_its_own_past() -> None:
    world = World(4, shock_sd=0.0)
    pre, post = world.pairs(12, 12, ttft=2.0, control=False)
    assert analyze(pre, post, plan(windows=12, control=False)).verdict is Verdict.FAIL
