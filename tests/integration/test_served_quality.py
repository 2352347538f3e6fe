"""What an engine really served, scored again against full precision: which figures come out, and what is held meanwhile."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from inference_node.contract.served import ServedQuality, ServedWatch
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.engine import hardware
from inference_node.engine.async_engine import AsyncEngine
from inference_node.engine.shadow import FULL, NOT_HERE, OTHERS
from tests.support.engines import ask, running_engine
from tests.support.models import save_tiny_model

INT8 = EngineSettings(precision=Precision.INT8)
PRUNED = EngineSettings(pruning_threshold=0.7)
WATCH = ServedWatch(generation=7, share=1.0, least=4, most=4)


@pytest.fixture(autouse=True)
def busy_neighbours_do_not_starve_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are made at the lowest priority, which on a full machine is never."""
    monkeypatch.setattr(hardware, "step_back", lambda: None)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def loose(
    folder: Path, data_dir: Path, *, score_served: bool = True
) -> contextlib.AbstractAsyncContextManager[AsyncEngine]:
    """An engine that lets every level pass."""
    return running_engine(folder, data_dir, max_kl=1000.0, max_perplexity_ratio=1e9, score_served=score_served)


async def told(engine: AsyncEngine, enough: Callable[[ServedQuality], bool]) -> ServedQuality:
    while (found := engine.served()) is None or not enough(found):
        await asyncio.sleep(0.02)
    return found


async def serve(engine: AsyncEngine, requests: int = 4, tokens: int = 20) -> None:
    for number in range(requests):
        await ask(engine, f"r{number}", [number + 1, 2, 3], max_tokens=tokens, ignore_eos=True)


async def scored(engine: AsyncEngine, settings: EngineSettings) -> ServedQuality:
    await engine.apply(settings)
    engine.watch_served(WATCH)
    await serve(engine)
    return await told(engine, lambda found: len(found.samples) == WATCH.most)


class TestScores:
    async def test_eight_bits_lie_close_to_full_precision_and_a_pruned_model_far(
        self, tiny: Path, tmp_path: Path
    ) -> None:
        async with loose(tiny, tmp_path) as engine:
            narrow = await scored(engine, INT8)
            assert (narrow.generation, narrow.precision, narrow.pruning_threshold) == (7, Precision.INT8, 0.0)
            assert [sample.tokens for sample in narrow.samples] == [
                22
            ] * 4  # 3 of the prompt and 20, of which each follows one
            assert all(0 < sample.kl < 0.05 for sample in narrow.samples)
            assert narrow.kl_p99 is not None and narrow.kl_p99 >= max(s.kl for s in narrow.samples) / 2
            engine.watch_served(None)

            cut = await scored(engine, PRUNED)
            assert min(s.kl for s in cut.samples) > 10 * max(s.kl for s in narrow.samples)
            assert sum(s.agreed for s in cut.samples) < sum(s.agreed for s in narrow.samples)

    async def test_answers_under_the_settings_before_are_counted_apart(self, tiny: Path, tmp_path: Path) -> None:
        async with loose(tiny, tmp_path) as engine:
            await serve(engine, requests=3, tokens=5)
            found = await scored(engine, INT8)
            assert (found.before.total, found.since.total) == (3, 4)
            assert found.since.cut == 4
            assert found.since.lengths[4] == 4  # 16 to 31 tokens

    async def test_after_the_last_one_nothing_is_held_and_the_scores_stay(self, tiny: Path, tmp_path: Path) -> None:
        async with loose(tiny, tmp_path) as engine:
            before = await scored(engine, INT8)
            await asyncio.sleep(0.5)
            await serve(engine)
            engine.watch_served(WATCH)  # the same again begins nothing
            after = await told(engine, lambda found: found.since.total == 8)
            assert after.samples == before.samples
            assert engine._shadow.text.take() is None


class TestEnds:
    async def test_without_a_watch_nothing_is_held(self, tiny: Path, tmp_path: Path) -> None:
        async with loose(tiny, tmp_path) as engine:
            await engine.apply(INT8)
            await serve(engine)
            assert engine.served() is None
            assert engine._shadow.text.take() is None

    async def test_full_precision_has_nothing_to_be_held_against(self, tiny: Path, tmp_path: Path) -> None:
        async with running_engine(tiny, tmp_path) as engine:
            engine.watch_served(WATCH)
            found = engine.served()
            assert found is not None and found.unable == FULL

    async def test_a_node_that_may_hold_no_text_says_so(self, tiny: Path, tmp_path: Path) -> None:
        async with loose(tiny, tmp_path, score_served=False) as engine:
            await engine.apply(INT8)
            engine.watch_served(WATCH)
            await serve(engine, requests=1)
            found = engine.served()
            assert found is not None and (found.unable, found.samples) == (NOT_HERE, ())
            assert engine._shadow.text.take() is None

    async def test_other_arithmetic_ends_it_and_says_so(self, tiny: Path, tmp_path: Path) -> None:
        async with loose(tiny, tmp_path) as engine:
            await engine.apply(INT8)
            engine.watch_served(WATCH)
            await engine.apply(EngineSettings())
            found = await told(engine, lambda found: found.unable is not None)
            assert (found.unable, found.samples) == (OTHERS, ())

    async def test_an_engine_shuts_down_amid_a_watch(self, tiny: Path, tmp_path: Path) -> None:
        async with loose(tiny, tmp_path) as engine:
            await engine.apply(INT8)
            engine.watch_served(WATCH)
            await serve(engine, requests=2)
        assert engine.served() is None
