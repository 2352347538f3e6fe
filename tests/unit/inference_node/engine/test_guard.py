"""The guard's decisions and its words; measuring itself is tried on real models under integration."""

from pathlib import Path
from typing import cast

import pytest

from inference_node.contract.messages import RejectCode
from inference_node.contract.quality import StepTimeRatio
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.engine.errors import SettingsRefused
from inference_node.engine.guard import QualityGuard
from inference_node.model.backend import Store
from inference_node.model.runner import Numerics
from inference_node.quality.ceiling import Ceiling
from inference_node.quality.divergence import NotMeasurable, Progress
from inference_node.quality.laboratory import Laboratory
from inference_node.quality.records import QualityRecords
from tests.support.quality_records import quality_record

INT8 = EngineSettings(precision=Precision.INT8)
PRUNED = INT8.replace(pruning_threshold=0.3)


class Bench:
    """Stands for a laboratory: gives the record it was told to, and notes what was asked of it."""

    def __init__(self, has_reference: bool = False) -> None:
        self.has_reference = has_reference
        self.asked: list[str] = []
        self.broken = False

    def refer(self, store: object, progress: object) -> None:
        self.asked.append(f"refer {store}")
        self.has_reference = True

    def measure(self, numerics: object, pruning_threshold: float, progress: object) -> object:
        self.asked.append(f"measure {pruning_threshold}")
        if self.broken:
            raise NotMeasurable("no numbers")
        return quality_record(pruning_threshold=pruning_threshold)


def _guard(folder: Path, bench: Bench | None = None) -> QualityGuard:
    records = QualityRecords(folder / "records.json", model="model-1", arithmetic="code-1")
    return QualityGuard(Ceiling(1.15, 0.3), records, cast(Laboratory, bench or Bench()))


def _measure(guard: QualityGuard, settings: EngineSettings) -> None:
    guard.measure(settings, cast(Numerics, None), lambda: cast(Store, "bf16"))


class TestAdmits:
    def test_full_precision_at_once_and_others_not_before_they_are_measured(self, tmp_path: Path) -> None:
        guard = _guard(tmp_path)

        assert guard.admits(EngineSettings())
        assert not guard.admits(INT8)

    def test_what_was_measured_well_and_all_below_it(self, tmp_path: Path) -> None:
        guard = _guard(tmp_path)
        _measure(guard, PRUNED)

        assert guard.admits(PRUNED)
        assert guard.admits(INT8)
        assert not guard.admits(INT8.replace(pruning_threshold=0.4))

    def test_a_bad_record_refuses_and_names_the_ways_out(self, tmp_path: Path) -> None:
        records = QualityRecords(tmp_path / "records.json", model="model-1", arithmetic="code-1")
        records.add(quality_record(pruning_threshold=0.2, kl_mean=0.5))
        guard = QualityGuard(Ceiling(1.15, 0.3), records, cast(Laboratory, Bench()))

        with pytest.raises(SettingsRefused) as refused:
            guard.admits(PRUNED)

        assert (refused.value.code, refused.value.knob) == (RejectCode.QUALITY, "pruning_threshold")
        already = "already as int8 pruned by 0.2:"
        for word in ("int8 pruned by 0.3", already, "0.500", "NODE_MAX_KL", "force", "trimtab bench quality"):
            assert word in refused.value.message


class TestMeasure:
    def test_looks_the_reference_up_only_where_it_is_not_known(self, tmp_path: Path) -> None:
        bench = Bench()
        guard = _guard(tmp_path, bench)
        _measure(guard, PRUNED)
        _measure(guard, INT8)

        assert bench.asked == ["refer bf16", "measure 0.3", "measure 0.0"]

    def test_a_pruned_level_that_holds_is_timed_too(self, tmp_path: Path) -> None:
        times = (StepTimeRatio(rows=1, ratio=0.7),)
        told: list[float] = []

        def stopwatch(numerics: Numerics, progress: Progress) -> tuple[StepTimeRatio, ...]:
            progress(1.0)
            return times

        def measured(kept: str, ceiling: Ceiling, settings: EngineSettings) -> tuple[StepTimeRatio, ...]:
            records = QualityRecords(tmp_path / kept, model="model-1", arithmetic="code-1")
            guard = QualityGuard(ceiling, records, cast(Laboratory, Bench()), stopwatch)
            guard.measure(settings, cast(Numerics, None), lambda: cast(Store, "bf16"), told.append)
            (record,) = QualityRecords(tmp_path / kept, model="model-1", arithmetic="code-1").all
            return record.step_times

        assert measured("pruned", Ceiling(1.15, 0.3), PRUNED) == times
        assert told == [1.0]
        assert measured("dense", Ceiling(1.15, 0.3), INT8) == ()
        assert measured("bad", Ceiling(1.15, 1e-6), PRUNED) == ()

    def test_what_cannot_be_compared_is_refused(self, tmp_path: Path) -> None:
        bench = Bench(has_reference=True)
        bench.broken = True

        with pytest.raises(SettingsRefused, match="cannot be compared with full precision: no numbers"):
            _measure(_guard(tmp_path, bench), INT8)
