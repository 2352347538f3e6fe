import random

import pytest

from controlplane.decisions.policy import ServedPolicy
from controlplane.rollouts import served
from controlplane.rollouts.analysis import Measurement, Verdict, analyze
from inference_node.contract.served import LENGTH_CLASSES, AnswerMix, ServedQuality
from inference_node.contract.settings import EngineSettings, KvPrecision, Precision
from tests.support.arms import World, plan
from tests.support.served_answers import Answers, samples, told

POLICY = ServedPolicy()
FULL, INT8 = EngineSettings(), EngineSettings(precision=Precision.INT8)


def figures(*canaries: ServedQuality | None, policy: ServedPolicy = POLICY) -> dict[str, Measurement]:
    return {each.metric: each for each in served.measure(canaries, policy)}


def mix(stopped: int, cut: int, length: int) -> AnswerMix:
    return AnswerMix(
        stopped=stopped, cut=cut, lengths=tuple((stopped + cut) * (k == length) for k in range(LENGTH_CLASSES))
    )


class TestAtStake:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (FULL, INT8),
            (INT8, EngineSettings(precision=Precision.INT4)),
            (EngineSettings(precision=Precision.INT4), INT8),  # nobody says which of two is milder
            (FULL, EngineSettings(pruning_threshold=0.1)),
            (FULL, EngineSettings(kv_precision=KvPrecision.INT8)),
            (INT8.replace(pruning_threshold=0.2), INT8.replace(pruning_threshold=0.3)),
        ],
    )
    def test_another_level_may_be_worse(self, old: EngineSettings, new: EngineSettings) -> None:
        assert served.at_stake(old, new)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (INT8, FULL),
            (INT8, INT8.replace(max_batch_size=9)),
            (INT8.replace(pruning_threshold=0.3), INT8.replace(pruning_threshold=0.2)),
            (INT8.replace(kv_precision=KvPrecision.INT8), INT8),
        ],
    )
    def test_full_precision_and_milder_levels_are_no_risk(self, old: EngineSettings, new: EngineSettings) -> None:
        assert not served.at_stake(old, new)


class TestVerdict:
    def test_close_to_full_precision_passes_with_its_figures(self) -> None:
        found = figures(told(Answers.GOOD))
        kl = found[served.KL]
        assert (kl.verdict, found[served.TOP1].verdict) == (Verdict.PASS, Verdict.PASS)
        assert kl.canary == pytest.approx(0.01, rel=0.1)
        assert kl.ci_low is not None and kl.ci_high is not None and kl.canary is not None
        assert kl.ci_low < kl.canary < kl.ci_high < POLICY.max_kl
        assert (kl.margin, kl.samples_canary, kl.power) == (POLICY.max_kl, 30, 1.0)
        assert found[served.TOP1].canary == pytest.approx(0.04)

    def test_far_from_it_fails(self) -> None:
        found = figures(told(Answers.BAD))
        assert (found[served.KL].verdict, found[served.TOP1].verdict) == (Verdict.FAIL, Verdict.FAIL)

    def test_around_the_margin_it_is_open(self) -> None:
        quality = told(Answers.GOOD)
        assert quality is not None
        near = quality.model_copy(update={"samples": samples(30, 0.3)})
        assert figures(near)[served.KL].verdict is Verdict.INCONCLUSIVE

    @pytest.mark.parametrize("answers", [Answers.FEW, Answers.BROKEN])
    def test_few_or_no_requests_are_no_pass(self, answers: Answers) -> None:
        assert figures(told(answers))[served.KL].verdict is Verdict.INCONCLUSIVE

    @pytest.mark.parametrize("answers", [Answers.SILENT, Answers.UNABLE])
    def test_a_canary_that_does_not_score_is_an_error_even_beside_one_that_does(self, answers: Answers) -> None:
        for canaries in ((told(answers),), (told(Answers.GOOD), told(answers)), (told(Answers.BAD), told(answers))):
            assert figures(*canaries)[served.KL].verdict is Verdict.ERROR

    def test_canaries_are_taken_together(self) -> None:
        few = told(Answers.FEW)
        assert figures(few, few, few, few)[served.KL].verdict is Verdict.PASS

    def test_at_the_margin_a_pass_is_seldom_though_divergences_are_skewed(self) -> None:
        """For means of skewed values: true means at the margin pass in 1 to 5 % of draws (nominal 1.25 %)."""
        random_, passed, runs = random.Random(1), 0, 300
        for _ in range(runs):
            values = [random_.expovariate(1 / POLICY.max_kl) for _ in range(30)]
            passed += served.interval(values, [50] * 30, 0.975).high < POLICY.max_kl
        assert passed <= 0.06 * runs

    def test_longer_texts_count_for_more(self) -> None:
        assert served.interval([0.0] * 10 + [1.0] * 10, [300] * 10 + [100] * 10, 0.975).value == pytest.approx(0.25)


class TestGuard:
    def test_fires_on_answers_that_are_no_numbers(self) -> None:
        words = served.fired((told(Answers.BROKEN),), POLICY)
        assert words is not None and "no numbers" in words

    def test_fires_when_nearly_every_request_is_beyond_what_is_allowed(self) -> None:
        words = served.fired((told(Answers.GOOD), told(Answers.BAD)), POLICY)
        assert words is not None and "30 of 30" in words

    @pytest.mark.parametrize("answers", [Answers.GOOD, Answers.FEW, Answers.UNABLE, Answers.SILENT])
    def test_stays_silent_otherwise(self, answers: Answers) -> None:
        assert served.fired((told(answers),), POLICY) is None

    def test_a_few_bad_requests_are_no_evidence(self) -> None:
        bad = told(Answers.BAD)
        assert bad is not None
        assert served.fired((bad.model_copy(update={"samples": bad.samples[:9]}),), POLICY) is None


class TestMix:
    def of(self, before: AnswerMix, since: AnswerMix) -> Measurement:
        quality = told(Answers.GOOD)
        assert quality is not None
        return figures(quality.model_copy(update={"before": before, "since": since}))[served.MIX]

    def test_decides_nothing(self) -> None:
        found = self.of(mix(500, 0, 4), mix(0, 500, 9))
        assert found.advisory
        assert found.verdict is Verdict.INCONCLUSIVE
        pre, post = World(3).pairs(12, 12)
        assert analyze(pre, post, plan(windows=12)).verdict is analyze(pre, post, plan(windows=12), (found,)).verdict

    def test_alike_is_alike(self) -> None:
        found = self.of(mix(400, 100, 4), mix(80, 20, 4))
        assert (found.verdict, found.samples_canary, found.samples_baseline) == (Verdict.PASS, 100, 500)

    def test_few_answers_tell_nothing(self) -> None:
        assert "too few" in self.of(mix(400, 100, 4), mix(3, 2, 4)).detail

    def test_index_of_a_known_shift(self) -> None:
        """0.5/0.5 against 0.7/0.3: 0.2 ln(1.4) - 0.2 ln(0.6) = 0.1695."""
        assert served.stability_index((50_000, 50_000), (70_000, 30_000)) == pytest.approx(0.1695, abs=1e-3)


class TestWholeVerdict:
    def verdict(self, answers: Answers) -> Verdict:
        pre, post = World(7).pairs(12, 12, ttft=0.5, itl=0.5)
        assert analyze(pre, post, plan(windows=12)).verdict is Verdict.PASS
        return analyze(pre, post, plan(windows=12), served.measure((told(answers),), POLICY)).verdict

    @pytest.mark.parametrize(
        ("answers", "verdict"),
        [
            (Answers.GOOD, Verdict.PASS),
            (Answers.BAD, Verdict.FAIL),
            (Answers.FEW, Verdict.INCONCLUSIVE),
            (Answers.UNABLE, Verdict.ERROR),
            (Answers.SILENT, Verdict.ERROR),
        ],
    )
    def test_fast_answers_must_be_good_as_well(self, answers: Answers, verdict: Verdict) -> None:
        assert self.verdict(answers) is verdict
