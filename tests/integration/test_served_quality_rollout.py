"""The real small model serves, a rollout in SQL changes its arithmetic, and its own scores of what it served decide.

The engine, its scores, the heartbeats, the statistics and the moves are real; only the windows of latency are calm by design.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.fleets.models import Node
from controlplane.rollouts.models import Analysis, Rollout
from controlplane.rollouts.phases import RolloutPhase
from inference_node.contract.served import ServedWatch
from inference_node.contract.settings import EngineSettings, KnobValue
from inference_node.engine import hardware
from inference_node.engine.async_engine import AsyncEngine
from tests.support.database import memory_database
from tests.support.engines import ask, running_engine
from tests.support.measured import share
from tests.support.models import demo_model
from tests.support.rollouts_in_sql import NOW, Lab, lab, measure

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

P = RolloutPhase
ENOUGH = 20  # as the policy asks for; of further ones a hundredth would be scored
PROMPTS = (
    "The weather in the mountains changes quickly, so",
    "To bake a loaf of bread you need",
    "def median(values):\n    ordered = sorted(values)\n",
    "In 1969 two people walked on the moon, and",
    "Dear customer, thank you for your order. We",
)


@pytest.fixture(autouse=True)
def busy_neighbours_do_not_starve_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are made at the lowest priority, which on a full machine is never."""
    monkeypatch.setattr(hardware, "step_back", lambda: None)


@pytest.fixture
def pool_lab() -> Iterator[Lab]:
    with memory_database() as database, Session(database, expire_on_commit=False) as session:
        yield lab(session)


@pytest.fixture
async def engine(tmp_path: Path, measured: Path) -> AsyncIterator[AsyncEngine]:
    """Its operator lets everything pass, so that the canary's guard is what is left."""
    data_dir = share(measured, tmp_path)
    async with running_engine(demo_model(), data_dir, threads=1, max_kl=1000.0, max_perplexity_ratio=1e9) as running:
        yield running


async def serve(engine: AsyncEngine, round_: int) -> None:
    """A round of requests, scored before the next one; none once there are enough for a verdict."""
    served = engine.served()
    if served is None or len(served.samples) >= ENOUGH:
        return
    encode = engine.tokenizer.encode
    requests = [
        ask(engine, f"{round_}-{k}", encode(f"{round_}. {text}"), max_tokens=8, temperature=1.0)
        for k, text in enumerate(PROMPTS)
    ]
    await asyncio.gather(*requests)
    while (now := engine.served()) is not None and len(now.samples) < min(ENOUGH, now.since.total):
        await asyncio.sleep(0.05)


async def obey(pool_lab: Lab, engine: AsyncEngine, now: datetime) -> None:
    """The canary is the engine; the other node does as it is told."""
    pool_lab.obey(now)
    for node in pool_lab.nodes():
        if node.watch is not None:
            await _obey_for_real(pool_lab, engine, node, now)


async def _obey_for_real(pool_lab: Lab, engine: AsyncEngine, node: Node, now: datetime) -> None:
    assert node.desired_revision is not None
    await engine.apply(EngineSettings.model_validate(node.desired_revision.settings), force=True)
    engine.watch_served(ServedWatch.model_validate(node.watch))
    pool_lab.beat(node, now, served=engine.served())


async def fate(pool_lab: Lab, engine: AsyncEngine, knobs: dict[str, KnobValue]) -> Rollout:
    """Time is simulated, a second a step; requests and their scores take what they take."""
    rollout, now = pool_lab.begin(batch=8, knobs=knobs), NOW
    for round_ in range(300):
        await obey(pool_lab, engine, now)
        if rollout.phase in {P.CANARY, P.ANALYZING}:
            await serve(engine, round_)
        measure(pool_lab, rollout, now)
        pool_lab.step(rollout, now)
        if P(rollout.phase).is_terminal or rollout.phase == P.PAUSED:
            return rollout
        now += timedelta(seconds=1)
    raise AssertionError(f"still {rollout.phase}")


def figures(pool_lab: Lab) -> dict[str, dict[str, object]]:
    looks = pool_lab.session.scalars(select(Analysis).order_by(Analysis.at, Analysis.id)).all()
    return {each["metric"]: each for each in looks[-1].measurements}


async def test_eight_bits_pass(pool_lab: Lab, engine: AsyncEngine) -> None:
    rollout = await fate(pool_lab, engine, {"precision": "int8"})
    assert rollout.phase == P.COMPLETED, rollout.outcome or rollout.paused_reason
    kl = figures(pool_lab)["served_kl"]
    assert kl["verdict"] == "PASS"
    assert isinstance(kl["canary"], float) and 0 < kl["canary"] < 0.05
    assert isinstance(kl["samples_canary"], int) and kl["samples_canary"] >= 20


async def test_a_model_of_which_seven_tenths_are_cut_is_taken_back(pool_lab: Lab, engine: AsyncEngine) -> None:
    rollout = await fate(pool_lab, engine, {"pruning_threshold": 0.7})
    assert rollout.phase == P.ROLLED_BACK, rollout.outcome or rollout.paused_reason
    assert "full precision" in (rollout.outcome or "")
    # Evidence takes it back before there are enough requests for a verdict.
    assert figures(pool_lab)["served_kl"]["verdict"] in {"FAIL", "INCONCLUSIVE"}
    assert all(node.observed_settings["pruning_threshold"] == 0 for node in pool_lab.nodes())
