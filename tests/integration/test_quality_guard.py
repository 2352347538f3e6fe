"""The guard at a running engine: what lacks a record is measured, what is bad is refused, force overrides."""

import asyncio
from pathlib import Path

import pytest

from inference_node.contract.messages import AckOutcome, RejectCode
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.engine import async_engine
from inference_node.engine.async_engine import AsyncEngine
from inference_node.engine.errors import SettingsRefused
from inference_node.engine.pruning_speed import ROWS
from inference_node.kernels.native.build import NativeUnavailable
from inference_node.kernels.native.library import load
from tests.support.engines import ask, running_engine
from tests.support.models import save_tiny_model

INT8 = EngineSettings(precision=Precision.INT8)
PRUNED = EngineSettings(pruning_threshold=0.6)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def _levels(engine: AsyncEngine) -> list[tuple[str, float]]:
    return [(r.precision.value, r.pruning_threshold) for r in engine.quality().records]


class TestGuard:
    async def test_what_lacks_a_record_is_measured_first_and_then_applied(self, tiny: Path, tmp_path: Path) -> None:
        async with running_engine(tiny, tmp_path) as engine:
            assert _levels(engine) == []
            applied = await engine.apply(INT8)

            assert (applied.outcome, applied.forced) == (AckOutcome.APPLIED, False)
            (record,) = engine.quality().records
            assert record.precision is Precision.INT8
            assert 0 < record.kl_mean < 0.05
            assert record.tokens > 1000

    @pytest.mark.skipif(isinstance(load(), NativeUnavailable), reason=f"no native kernels here: {load()}")
    async def test_a_pruned_level_is_timed_against_its_dense_form_while_the_engine_serves(self, tmp_path: Path) -> None:
        native = save_tiny_model(tmp_path / "model", "llama-native")
        async with running_engine(native, tmp_path, max_kl=10.0, max_perplexity_ratio=100.0) as engine:
            alone = await ask(engine, "alone", [1, 2, 3], max_tokens=40, ignore_eos=True)
            beside = asyncio.create_task(ask(engine, "beside", [1, 2, 3], max_tokens=40, ignore_eos=True))
            await engine.apply(PRUNED.replace(pruning_threshold=0.2))

            (record,) = engine.quality().records
            assert [time.rows for time in record.step_times] == list(ROWS)
            assert all(time.ratio > 0 for time in record.step_times)
            assert len((await beside).tokens) == len(alone.tokens) == 40
        async with running_engine(native, tmp_path) as engine:
            assert engine.quality().records == (record,)

    async def test_where_no_kernel_spares_what_was_cut_nothing_is_promised(self, tiny: Path, tmp_path: Path) -> None:
        async with running_engine(tiny, tmp_path, max_kl=10.0, max_perplexity_ratio=100.0) as engine:
            await engine.apply(PRUNED.replace(pruning_threshold=0.2))

            assert [record.step_times for record in engine.quality().records] == [()]

    async def test_a_record_survives_a_restart_and_spares_the_measurement(self, tiny: Path, tmp_path: Path) -> None:
        async with running_engine(tiny, tmp_path) as engine:
            await engine.apply(INT8)
            (first,) = engine.quality().records
        async with running_engine(tiny, tmp_path) as engine:
            await engine.apply(INT8)
            assert engine.quality().records == (first,)

    async def test_what_is_too_bad_is_refused_and_the_engine_goes_on(self, tiny: Path, tmp_path: Path) -> None:
        async with running_engine(tiny, tmp_path, max_kl=1e-6) as engine:
            before = engine.settings
            answers = asyncio.create_task(ask(engine, "r", [1, 2, 3], max_tokens=40, ignore_eos=True))
            with pytest.raises(SettingsRefused) as refused:
                await engine.apply(PRUNED)

            assert refused.value.code is RejectCode.QUALITY
            assert engine.settings == before
            assert len((await answers).tokens) == 40
            assert _levels(engine) == [("bf16", 0.6)]
            with pytest.raises(SettingsRefused, match="quality ceiling"):  # at once now, and for all above
                await engine.apply(PRUNED.replace(pruning_threshold=0.7))
            assert _levels(engine) == [("bf16", 0.6)]

    async def test_force_overrides_and_says_so(self, tiny: Path, tmp_path: Path) -> None:
        async with running_engine(tiny, tmp_path, max_kl=1e-6) as engine:
            forced = await engine.apply(PRUNED, force=True)
            assert (forced.outcome, forced.forced) == (AckOutcome.APPLIED, True)
            # In force already, so that turning another knob asks no questions.
            other = await engine.apply(PRUNED.replace(max_batch_size=3))
            assert (other.outcome, other.forced) == (AckOutcome.APPLIED, False)
            back = await engine.apply(EngineSettings(), force=True)
            assert not back.forced  # full precision needs none
            assert _levels(engine) == []

    async def test_a_node_starts_with_what_it_was_told_and_measures_it_when_idle(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(async_engine, "_IDLE_S", 0.01)
        async with running_engine(tiny, tmp_path, INT8, max_kl=1e-9) as engine:
            assert engine.settings.precision is Precision.INT8
            while not engine.quality().records:
                await asyncio.sleep(0.01)
            assert _levels(engine) == [("int8", 0.0)]
            assert engine.settings.precision is Precision.INT8
