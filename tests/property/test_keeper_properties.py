"""Whatever is pushed, in whatever order and with whatever preparation in between, a node's settings only go forward."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from inference_node.agent.desired import PushRejected
from inference_node.agent.keeper import SettingsKeeper
from inference_node.agent.store import NodeStore
from inference_node.contract.messages import SettingsPush
from inference_node.contract.settings import EngineSettings, Precision
from tests.support.fake_controlplane import push_of
from tests.support.fake_engine import FakeEngine

WISHES = [
    EngineSettings(max_batch_size=size, precision=precision)
    for size in (2, 3)
    for precision in (Precision.BF16, Precision.INT8)
]
pushes = st.builds(
    push_of,
    st.sampled_from(WISHES),
    st.integers(min_value=1, max_value=6),
    epoch=st.integers(min_value=1, max_value=3),
)
# Some pushes come together, and the engine's preparation is released only between the rounds.
rounds = st.lists(st.lists(pushes, min_size=1, max_size=4), min_size=1, max_size=5)


async def play(rounds: list[list[SettingsPush]], folder: Path) -> None:
    engine = FakeEngine()
    engine.start()
    keeper = SettingsKeeper(engine, NodeStore(folder), preparing_after_s=0.001)
    generation, epoch = 0, 0
    for together in rounds:
        engine.prepare.clear()
        answers = await asyncio.gather(*(keeper.apply_push(push) for push in together), return_exceptions=True)
        engine.prepare.set()
        while keeper.preparing is not None:
            await asyncio.sleep(0)
        for answer in answers:
            assert not isinstance(answer, BaseException) or isinstance(answer, PushRejected), answer
        now = keeper.observed
        assert now.generation >= generation, "a generation went back"
        assert keeper.epoch_seen >= epoch, "an epoch went back"
        assert engine.settings == now.settings, "what is reported is not what is in force"
        if now.generation:
            assert now.config_hash == now.settings.content_hash()
        generation, epoch = now.generation, keeper.epoch_seen
    accepted = [push for together in rounds for push in together if push.generation == generation]
    assert generation == 0 or any(push.settings == engine.settings for push in accepted)
    stored = NodeStore(folder).load_settings()
    if stored is not None:
        assert (stored.generation, stored.settings) == (generation, engine.settings)


class TestForwardOnly:
    @settings(max_examples=60, deadline=None)
    @given(rounds)
    def test_generation_and_epoch_never_go_back_and_reports_are_true(self, rounds: list[list[SettingsPush]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(play(rounds, Path(folder)))
