"""What was learned of step times, as clients of the real API and Prometheus see it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controlplane.db import make_engine, session_scope
from controlplane.decisions.step_memory.levels import Level, PoolMemory
from controlplane.decisions.step_memory.memory import Memory
from controlplane.decisions.step_memory.store import Memories, read_memory
from controlplane.fleets import service as fleets
from inference_node.contract.settings import Precision
from inference_node.contract.step_profile import StepArithmetic
from tests.support.api import Api, api_server
from tests.support.registrations import registration

MACHINE = (("cpu-1", "m", "1"),)
BF16 = Level.of(MACHINE, StepArithmetic(precision=Precision.BF16))
INT8 = Level.of(MACHINE, StepArithmetic(precision=Precision.INT8, pruning=0.3))


@pytest.fixture
def api(database_url: str, tmp_path: Path) -> Iterator[Api]:
    with api_server(database_url) as running:
        yield running


@pytest.fixture
def pool_id(api: Api) -> str:
    """int8 is in force; bf16 was until a day ago."""
    now = datetime.now(UTC)
    engine = make_engine(api.settings.database_url)
    memory = Memory(
        (0.02, 0.1 + 0.2, 1 / 3), factors=(1.3, 0.9, 1.6), windows=40, misses=(0.05, 0.04), trials=30,
    is_proven=True, error=0.04, least_rows=1.0, most_rows=9.0,
        offs=(0.0, 0.1, -0.1), learned_at=now, in_force_since=now,
    )  # fmt: skip
    left = replace(memory, in_force_since=None, learned_at=now - timedelta(days=1))
    levels = PoolMemory({INT8: memory, BF16: left})
    with session_scope(engine) as session:
        pool_id = fleets.register_node(session, registration(), now=now).node.pool_id
        Memories().keep(session, pool_id, 3, levels, now)
    with session_scope(engine, read_only=True) as session:
        assert read_memory(session, pool_id) == levels  # of whichever database it is
    engine.dispose()
    return pool_id


def test_levels_are_listed_with_the_one_in_force_first(api: Api, pool_id: str) -> None:
    answer = api.client.get(f"/api/v1/pools/{pool_id}/performance")
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["levels"]
    assert (first["precision"], first["pruning"], first["state"]) == ("int8", 0.3, "ready")
    assert first["factors"] == {"base": 1.3, "rows": 0.9, "prefill": 1.6}
    assert first["machine"] == [{"hardware": "cpu-1", "model": "m", "engine_version": "1"}]
    assert (first["windows"], first["error_ratio"], first["share"]) == (40, 0.04, 1.0)
    assert first["fast_error_ratio"] == pytest.approx(0.105, abs=0.001)
    assert (second["precision"], second["in_force_since"]) == ("bf16", None)
    assert second["share"] == pytest.approx(0.5, abs=0.01)


def test_the_level_in_force_is_measured(api: Api, pool_id: str) -> None:
    text = api.anonymous.get("/metrics").text
    where = 'fleet="default",kv_precision="model",pool="main",precision="int8",pruning="0.3"'
    assert f"controlplane_performance_error_ratio{{{where}}} 0.04" in text
    assert f"controlplane_performance_windows{{{where}}} 40.0" in text
    assert 'precision="bf16"' not in text


def test_what_is_not_there_is_a_problem_document(api: Api) -> None:
    answer = api.client.get("/api/v1/pools/nobody/performance")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert api.anonymous.get("/api/v1/pools/nobody/performance").status_code == 401


def test_a_pool_that_taught_nothing_has_none(api: Api) -> None:
    engine = make_engine(api.settings.database_url)
    with session_scope(engine) as session:
        pool_id = fleets.register_node(session, registration(), now=datetime.now(UTC)).node.pool_id
    engine.dispose()
    assert api.client.get(f"/api/v1/pools/{pool_id}/performance").json() == {"pool_id": pool_id, "levels": []}
