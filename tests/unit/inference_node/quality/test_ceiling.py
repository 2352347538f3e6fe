"""What records say of a level, measured or between measured ones."""

import pytest

from inference_node.contract.quality import QualityRecord
from inference_node.contract.settings import EngineSettings, KvPrecision, Precision
from inference_node.quality.ceiling import Ceiling, Standing, judge
from tests.support.quality_records import quality_record

CEILING = Ceiling(max_perplexity_ratio=1.1, max_kl=0.2)


def _settings(precision: Precision, pruning: float = 0.0) -> EngineSettings:
    return EngineSettings(precision=precision, pruning_threshold=pruning)


def _good(level: float, precision: Precision = Precision.INT8, kv: KvPrecision = KvPrecision.MODEL) -> QualityRecord:
    return quality_record(precision, level, kv_precision=kv)


def _bad(level: float, precision: Precision = Precision.INT8, kv: KvPrecision = KvPrecision.MODEL) -> QualityRecord:
    return quality_record(precision, level, kv_precision=kv, perplexity_ratio=1.3)


class TestCeiling:
    @pytest.mark.parametrize(
        ("ratio", "kl", "holds"), [(1.1, 0.2, True), (1.11, 0.1, False), (1.0, 0.21, False), (0.98, 0.0, True)]
    )
    def test_both_figures_count(self, ratio: float, kl: float, holds: bool) -> None:
        assert CEILING.holds(quality_record(perplexity_ratio=ratio, kl_mean=kl)) is holds

    def test_complains_of_what_is_broken_only(self) -> None:
        complaint = CEILING.complaint(quality_record(perplexity_ratio=1.3, kl_mean=0.1))

        assert "1.300" in complaint
        assert "KL" not in complaint


class TestJudge:
    @pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
    def test_full_precision_needs_no_record(self, precision: Precision) -> None:
        assert judge(_settings(precision), [], CEILING).standing is Standing.FULL

    def test_pruning_full_precision_needs_one(self) -> None:
        assert judge(_settings(Precision.BF16, 0.1), [], CEILING).standing is Standing.UNKNOWN

    def test_a_record_of_another_precision_says_nothing(self) -> None:
        records = [_good(0.4, Precision.INT8), _bad(0.0, Precision.BF16)]

        assert judge(_settings(Precision.INT4), records, CEILING).standing is Standing.UNKNOWN

    @pytest.mark.parametrize(
        ("level", "standing"),
        [
            (0.0, Standing.CERTIFIED),
            (0.1, Standing.CERTIFIED),
            (0.25, Standing.CERTIFIED),
            (0.3, Standing.UNKNOWN),
            (0.4, Standing.FAILED),
            (0.5, Standing.FAILED),
        ],
    )
    def test_between_measured_levels(self, level: float, standing: Standing) -> None:
        found = judge(_settings(Precision.INT8, level), [_bad(0.4), _good(0.25)], CEILING)

        assert found.standing is standing
        assert (found.record is None) == (standing is Standing.UNKNOWN)

    def test_the_record_of_the_very_level_wins(self) -> None:
        assert judge(_settings(Precision.INT8, 0.2), [_bad(0.2), _good(0.3)], CEILING).standing is Standing.FAILED
        assert judge(_settings(Precision.INT8, 0.2), [_good(0.2), _bad(0.1)], CEILING).standing is Standing.CERTIFIED

    @pytest.mark.parametrize(
        ("record", "asked", "standing"),
        [
            # Narrow keys and values held, so wide ones do; the other way round says nothing.
            (_good(0.3, kv=KvPrecision.INT8), KvPrecision.MODEL, Standing.CERTIFIED),
            (_good(0.3), KvPrecision.INT8, Standing.UNKNOWN),
            # Wide ones were too bad already.
            (_bad(0.2), KvPrecision.INT8, Standing.FAILED),
            (_bad(0.2, kv=KvPrecision.INT8), KvPrecision.MODEL, Standing.UNKNOWN),
            # Of two narrow forms neither is the milder one.
            (_good(0.3, kv=KvPrecision.FP8), KvPrecision.INT8, Standing.UNKNOWN),
        ],
    )
    def test_keys_and_values_count(self, record: QualityRecord, asked: KvPrecision, standing: Standing) -> None:
        settings = _settings(Precision.INT8, 0.2).replace(kv_precision=asked)
        assert judge(settings, [record], CEILING).standing is standing

    def test_full_precision_with_narrow_keys_and_values_needs_a_record(self) -> None:
        settings = _settings(Precision.BF16).replace(kv_precision=KvPrecision.INT8)
        assert judge(settings, [], CEILING).standing is Standing.UNKNOWN
