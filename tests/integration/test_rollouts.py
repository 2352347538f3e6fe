"""Rollouts end to end: real API, controller, Celery worker, Redis and Prometheus; nodes that are honest but for the model."""

from collections.abc import Iterator

import pytest

from tests.support import fake_node
from tests.support.fleet import until
from tests.support.kubernetes_api import TOKEN, Cluster, kubernetes_api
from tests.support.live_fleet import POLICY, LiveFleet, live_fleet
from tests.support.mesh import MESH

pytestmark = pytest.mark.prometheus


OLD_ONLY, BOTH = {"chat-old": 100, "chat-new": 0}, {"chat-old": 50, "chat-new": 50}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with kubernetes_api(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[LiveFleet]:
    """Its traffic goes through a mesh, too."""
    environment = {
        "CONTROLPLANE_KUBERNETES_URL": cluster.url,
        "CONTROLPLANE_KUBERNETES_TOKEN": TOKEN,
        "CONTROLPLANE_KUBERNETES_CA_FILE": str(cluster.ca_file),
    }
    policy = POLICY.model_copy(update={"rollout": POLICY.rollout.model_copy(update={"mesh": MESH})})
    with live_fleet(tmp_path_factory.mktemp("rollouts"), policy=policy, environment=environment) as running:
        yield running


def batch_sizes(fleet: LiveFleet) -> dict[str, int]:
    return {name: node["observed"]["settings"]["max_batch_size"] for name, node in fleet.nodes().items()}


def kinds(rollout: dict[str, list[dict[str, str]]]) -> list[str]:
    return [event["kind"] for event in rollout["timeline"]]


def test_a_good_change_reaches_every_node_canary_first_and_traffic_follows(fleet: LiveFleet, cluster: Cluster) -> None:
    until(lambda: cluster.weights("chat") == OLD_ONLY, 60, "the route of a pool at rest")
    rollout_id = fleet.begin(fake_node.HARMLESS)
    until(lambda: cluster.weights("chat") == BOTH, 60, "half of the requests for one of two nodes")
    done = fleet.wait_end(rollout_id)
    until(lambda: cluster.weights("chat") == OLD_ONLY, 60, "everything at the baseline service again")
    assert done["phase"] == "COMPLETED", done["outcome"]
    assert set(batch_sizes(fleet).values()) == {fake_node.HARMLESS}
    assert fleet.pool["current_revision"]["settings"]["max_batch_size"] == fake_node.HARMLESS
    told = kinds(done)
    expected = [
        "created",
        "started",
        "canary_started",
        "canary_applied",
        "analysis",
        "promoting",
        "baking",
        "completed",
    ]
    # An inconclusive first look is followed by a second one.
    seen = dict.fromkeys(kind.removeprefix("rollout.") for kind in told)
    assert [kind for kind in seen if kind in expected] == expected
    canary, other = (next(n for n in done["nodes"] if n["role"] == role) for role in ("canary", "control"))
    assert canary["applied_at"] < other["dispatched_at"]
    assert done["analyses"][0]["verdict"] in {"PASS", "INCONCLUSIVE"}
    assert {step["state"] for step in done["steps"]} == {"done"}


@pytest.mark.parametrize(
    ("batch", "why"), [(fake_node.FAILING, "error"), (fake_node.SLOW, "p95")], ids=["errors", "latency"]
)
def test_a_bad_change_is_taken_back_by_itself_and_says_why(
    fleet: LiveFleet, cluster: Cluster, batch: int, why: str
) -> None:
    before = fleet.nodes()
    started = batch_sizes(fleet)
    done = fleet.wait_end(fleet.begin(batch))
    assert done["phase"] == "ROLLED_BACK", done["outcome"]
    assert "mesh.applied" in kinds(done)
    until(lambda: cluster.weights("chat") == OLD_ONLY, 60, "no request for the settings that were bad")
    assert why in done["outcome"]
    assert any(why in event["message"] for event in done["timeline"] if event["kind"] == "rollout.rolling_back")
    assert done["analyses"][0]["verdict"] == "FAIL"
    assert batch_sizes(fleet) == started
    other = next(node["name"] for node in done["nodes"] if node["role"] == "control")
    assert fleet.nodes()[other]["observed"]["generation"] == before[other]["observed"]["generation"]


def test_a_node_that_refuses_the_settings_ends_the_rollout_with_its_words(fleet: LiveFleet) -> None:
    done = fleet.wait_end(fleet.begin(fake_node.REFUSED))
    assert done["phase"] == "ROLLED_BACK"
    assert "3 GB are free" in done["outcome"]
    fleet.wait_in_sync()


def test_a_person_may_pause_resume_abort_and_roll_back(fleet: LiveFleet) -> None:
    started = batch_sizes(fleet)
    rollout_id = fleet.begin(9)
    fleet.wait_phase(rollout_id, "ANALYZING")
    fleet.post(f"/rollouts/{rollout_id}/pause", {"reason": "let me look"})
    paused = fleet.wait_phase(rollout_id, "PAUSED")
    assert "let me look" in paused["paused_reason"]
    fleet.post(f"/rollouts/{rollout_id}/resume")
    fleet.wait_phase(rollout_id, "ANALYZING")
    fleet.post(f"/rollouts/{rollout_id}/promote")
    done = fleet.wait_end(rollout_id)
    assert done["phase"] == "COMPLETED"

    back = fleet.post(f"/rollouts/{rollout_id}/rollback", {"reason": "after all, no"})
    undone = fleet.wait_end(back["id"])
    assert undone["phase"] == "COMPLETED"
    assert "CANARY" not in {event["data"].get("to") for event in undone["timeline"]}
    fleet.wait_in_sync()
    assert batch_sizes(fleet) == started

    aborted = fleet.begin(11)
    fleet.wait_phase(aborted, "ANALYZING")
    fleet.post(f"/rollouts/{aborted}/abort")
    assert fleet.wait_end(aborted)["phase"] == "ROLLED_BACK"
    fleet.wait_in_sync()
    assert batch_sizes(fleet) == started


def test_a_dry_run_shows_whom_it_would_reach_and_changes_nothing(fleet: LiveFleet) -> None:
    pool, before = fleet.pool, fleet.nodes()
    body = {"pool_id": pool["id"], "settings": {"max_batch_size": 21}, "reason": "what if", "dry_run": True}
    response = fleet.client.post("/rollouts", json=body)
    assert response.status_code == 200
    plan = response.json()
    assert plan["changes"]["max_batch_size"][1] == 21
    assert [(node["role"], node["wave"]) for node in plan["nodes"]] == [("canary", 0), ("control", 1)]
    after = fleet.nodes()
    assert {n: v["desired"]["generation"] for n, v in after.items()} == {
        n: v["desired"]["generation"] for n, v in before.items()
    }


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_batch_size": 0}, "settings.max_batch_size"),
        ({"max_batch_size": 33}, "takes up to 32"),
        ({"speed": 11}, "there is no such knob"),
        ({"precision": "fp8"}, "settings.precision"),
    ],
)
def test_impossible_settings_are_refused_by_name(fleet: LiveFleet, settings: dict[str, object], named: str) -> None:
    body = {"pool_id": fleet.pool["id"], "settings": settings, "reason": "no"}
    response = fleet.client.post("/rollouts", json=body)
    assert response.status_code == 422
    assert named in response.text


def test_one_rollout_at_a_time_and_none_while_frozen(fleet: LiveFleet) -> None:
    body = {"pool_id": fleet.pool["id"], "settings": {"max_batch_size": 10}, "reason": "second"}
    first = fleet.begin(9)
    assert fleet.client.post("/rollouts", json=body).status_code == 409
    fleet.post(f"/rollouts/{first}/abort")
    fleet.wait_end(first)
    fleet.post(f"/pools/{fleet.pool['id']}/freeze", {"reason": "incident 7"})
    frozen = fleet.client.post("/rollouts", json=body)
    fleet.client.delete(f"/pools/{fleet.pool['id']}/freeze").raise_for_status()
    assert frozen.status_code == 409
    assert "incident 7" in frozen.text


def test_everything_frozen_pauses_what_is_under_way_and_leaves_the_way_back_open(fleet: LiveFleet) -> None:
    started = batch_sizes(fleet)
    rollout = fleet.begin(14)
    fleet.wait_phase(rollout, "ANALYZING", "CANARY")
    fleet.post("/freeze", {"reason": "incident 8"})
    try:
        # Rollouts are reconciled every 0.5 s here, decisions made every 2 s.
        paused = fleet.wait_phase(rollout, "PAUSED", within_s=10)
        assert paused["paused_by"] == "freeze"
        until(lambda: fleet.get("/decisions", limit=1)["items"][0]["reason"] == "frozen", 10, "a decision that holds")
        assert "incident 8" in fleet.get("/decisions", limit=1)["items"][0]["explanation"]
        fleet.post(f"/rollouts/{rollout}/abort")
        assert fleet.wait_end(rollout)["phase"] == "ROLLED_BACK"
        body = {"pool_id": fleet.pool["id"], "settings": {"max_batch_size": 10}, "reason": "another"}
        assert "incident 8" in fleet.client.post("/rollouts", json=body).text
    finally:
        fleet.client.delete("/freeze").raise_for_status()
    fleet.wait_in_sync()
    assert batch_sizes(fleet) == started
    until(lambda: fleet.get("/decisions", limit=1)["items"][0]["reason"] != "frozen", 10, "decisions to go on")


def test_what_is_tried_on_one_node_ends_with_its_lease(fleet: LiveFleet) -> None:
    started = batch_sizes(fleet)
    name, other = sorted(started)
    node_id = fleet.nodes()[name]["id"]
    tried = {"settings": {"max_batch_size": 11}, "lease_s": 10, "reason": "curious"}
    begun = fleet.post(f"/nodes/{node_id}/experiment", tried)
    assert begun["settings"]["max_batch_size"] == 11
    until(lambda: batch_sizes(fleet)[name] == 11, 10, "the node to try it")
    assert batch_sizes(fleet)[other] == started[other]
    until(lambda: fleet.nodes()[name]["experiment"] is None, 30, "the end of the lease")
    fleet.wait_in_sync()
    assert batch_sizes(fleet) == started
