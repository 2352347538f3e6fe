"""The controller tries settings by itself, end to end: real API, controller, worker, Redis and Prometheus, and node processes."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controlplane.db import make_engine, session_scope
from controlplane.decisions.exploration_policy import ExplorationMode, ExplorationPolicy
from controlplane.decisions.policy import Autonomy, Guardrails, Policy, Slo
from controlplane.telemetry import service as telemetry
from inference_node.contract.settings import KnobBounds
from tests.support import fake_node
from tests.support.arms import window
from tests.support.fleet import until
from tests.support.live_fleet import POLICY, LiveFleet, live_fleet

pytestmark = pytest.mark.prometheus

HALF = fake_node.SLOW // 2
# Gaps of 20 ms, of 40 ms under the settings that are within reach: twice as slow as any model of ours foresees.
EXPLORING = POLICY.model_copy(
    update={
        "slo": Slo(itl_p95_s=0.035),
        "autonomy": POLICY.autonomy | {"max_batch_size": Autonomy.AUTO},
        "guardrails": Guardrails(
            bounds={"max_batch_size": KnobBounds(min=fake_node.SLOW, max=fake_node.SLOW)}, cooldown_relaxing_s=20.0,
            burn_window_s=300.0,
        ),
        "exploration": ExplorationPolicy(mode=ExplorationMode.MODEL, lease_s=60.0),
    }
)  # fmt: skip


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    with live_fleet(tmp_path_factory.mktemp("exploring")) as running:
        yield running


def remember_calm(fleet: LiveFleet, seconds: int) -> None:
    """What a pool that has been there for longer would have in SQL: the budget of minutes before is unspent."""
    pool_id = fleet.pool["id"]
    fleet.parts["controller"].kill()
    engine, now = make_engine(fleet.environment["CONTROLPLANE_DATABASE_URL"]), datetime.now(UTC)
    first = now.replace(microsecond=0) - timedelta(seconds=seconds)
    with session_scope(engine) as session:
        for k in range(seconds // 2 - 30):
            seen = window(first + timedelta(seconds=2 * k + 1), ttft_s=0.1, itl_s=0.02, window_s=2.0)
            counted = replace(seen, ttft_count=20.0, ttft_slow=0.0, itl_count=140.0, itl_slow=0.0)
            telemetry.save_observations(session, pool_id, counted)
    engine.dispose()
    fleet.parts["controller"].start()


def test_a_try_that_proves_harmful_is_ended_by_the_controller_and_not_tried_again(fleet: LiveFleet) -> None:
    fleet.wait_end(fleet.begin(HALF))
    remember_calm(fleet, 280)
    set_policy(fleet, EXPLORING)
    path = f"/pools/{fleet.pool['id']}/explorations"
    begun = until(lambda: fleet.get(path)["items"], 60, "something to be tried")[0]
    assert begun["changes"]["max_batch_size"] == [HALF, fake_node.SLOW]
    until(lambda: fleet.get(path)["items"][0]["outcome"], 40, "its end and outcome, before the lease is over")
    ended = fleet.get(path)["items"][0]
    assert ended["outcome"]["verdict"] == "worse", ended["outcome"]
    assert datetime.fromisoformat(ended["ended_at"]) < datetime.fromisoformat(ended["at"]) + timedelta(seconds=60)
    assert "over its objective" in ended["outcome"]["explanation"]
    fleet.wait_in_sync()
    assert {node["observed"]["settings"]["max_batch_size"] for node in fleet.nodes().values()} == {HALF}
    told = fleet.get("/events", kind="node.experiment*")["items"]
    assert [event["kind"].rpartition("_")[2] for event in reversed(told)] == ["started", "ended", "measured"]


def set_policy(fleet: LiveFleet, policy: Policy) -> None:
    path = f"/pools/{fleet.pool['id']}/policy"
    etag = fleet.client.get(path).headers["etag"]
    fleet.client.put(path, json=policy.to_json(), headers={"If-Match": etag}).raise_for_status()
