"""kill -9 of each part amid a rollout: it ends legally, every node has what is desired, nothing is lost or doubled."""

import json
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from itertools import cycle

import pytest

from tests.support.fleet import until
from tests.support.live_fleet import LiveFleet, let_pass, live_fleet

pytestmark = pytest.mark.prometheus

AWAY_S = 1.0


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    with live_fleet(tmp_path_factory.mktemp("kills")) as running:
        yield running


_sizes = cycle(range(16, 28))  # harmless ones, each another change


def begin(fleet: LiveFleet) -> str:
    fleet.wait_in_sync()
    now = fleet.pool["current_revision"]["settings"]["max_batch_size"]
    return fleet.begin(next(size for size in _sizes if size != now))


def kill_and_restart(part: str) -> Callable[[LiveFleet], None]:
    def kill(fleet: LiveFleet) -> None:
        fleet.parts[part].kill()
        let_pass(AWAY_S)
        fleet.parts[part].start()

    return kill


def kill_worker_child(fleet: LiveFleet) -> None:
    children = fleet.parts["worker"].children()
    assert children, "the worker has no children to kill"
    for child in children:
        child.send_signal(signal.SIGKILL)


def wipe_redis(fleet: LiveFleet) -> None:
    fleet.redis.kill()
    let_pass(AWAY_S)
    fleet.redis.start()


def flush_redis(fleet: LiveFleet) -> None:
    fleet.redis.flush()


def orphan_worker(fleet: LiveFleet) -> None:
    """The parent dies alone; its children must not go on as orphans."""
    children = fleet.parts["worker"].children()
    kill_and_restart("worker")(fleet)
    deadline = time.monotonic() + 10
    while any(child.is_running() and child.status() != "zombie" for child in children):
        assert time.monotonic() < deadline, "children of the killed worker are still there"
        time.sleep(0.1)


SPARED = {
    "worker-parent": orphan_worker,
    "worker-child": kill_worker_child,
    "controller": kill_and_restart("controller"),
    "api": kill_and_restart("api"),
    "redis-wiped": wipe_redis,
    "redis-flushed": flush_redis,
}


# The slice that every run takes; `make test-all` takes the whole table.
QUICK = {("worker-parent", "CANARY"), ("controller", "ANALYZING"), ("redis-wiped", "PROMOTING")}
TABLE = [
    pytest.param(what, phase, marks=() if (what, phase) in QUICK else pytest.mark.slow, id=f"{what}-{phase}")
    for what in SPARED
    for phase in ("CANARY", "ANALYZING", "PROMOTING")
]


@pytest.mark.parametrize(("what", "phase"), TABLE)
def test_the_control_plane_dies_and_the_change_still_goes_through(fleet: LiveFleet, what: str, phase: str) -> None:
    rollout_id = begin(fleet)
    fleet.wait_phase(rollout_id, phase, *_after(phase))
    SPARED[what](fleet)
    done = fleet.wait_end(rollout_id, within_s=90)
    assert done["phase"] == "COMPLETED", done["outcome"]
    fleet.wait_in_sync(within_s=30)
    check_invariants(fleet)


@pytest.mark.parametrize("phase", [pytest.param("CANARY", marks=pytest.mark.slow), "ANALYZING"])
def test_the_canary_dies_and_the_change_is_taken_back(fleet: LiveFleet, phase: str) -> None:
    rollout_id = begin(fleet)
    found = fleet.wait_phase(rollout_id, phase, *_after(phase))
    canary = next(node["name"] for node in found["nodes"] if node["role"] == "canary")
    kill_and_restart(canary)(fleet)
    done = fleet.wait_end(rollout_id, within_s=90)
    assert done["phase"] == "ROLLED_BACK", done["outcome"]
    assert canary in done["outcome"]
    nodes = fleet.wait_in_sync(within_s=30)
    before = done["from_revision"]["settings"]
    assert all(node["observed"]["settings"] == before for node in nodes.values())
    check_invariants(fleet)


@pytest.mark.slow
def test_another_node_dies_and_follows_when_it_is_back(fleet: LiveFleet) -> None:
    rollout_id = begin(fleet)
    found = fleet.wait_phase(rollout_id, "CANARY", *_after("CANARY"))
    other = next(node["name"] for node in found["nodes"] if node["role"] == "control")
    fleet.wait_phase(rollout_id, "PROMOTING", "BAKING", "COMPLETED")
    kill_and_restart(other)(fleet)
    done = fleet.wait_end(rollout_id, within_s=90)
    assert done["phase"] == "COMPLETED", done["outcome"]
    nodes = fleet.wait_in_sync(within_s=30)
    wanted = done["to_revision"]["settings"]
    if f"{other} is in quarantine and gets it when it is released" in done["outcome"]:
        # It died between the order and its application, and came back under the new settings: that counts as their crash.
        fleet.client.post(f"/nodes/{nodes[other]['id']}/release").raise_for_status()
        number = done["to_revision"]["number"]
        until(
            lambda: fleet.nodes()[other]["desired"]["revision"] == number, 30, f"revision {number} ordered of {other}"
        )
        nodes = fleet.wait_in_sync(within_s=30)
    assert all(node["observed"]["settings"] == wanted for node in nodes.values())
    check_invariants(fleet)


@pytest.mark.slow
def test_without_any_worker_the_nodes_fetch_their_settings_themselves(fleet: LiveFleet) -> None:
    fleet.parts["worker"].kill()
    try:
        done = fleet.wait_end(begin(fleet), within_s=90)
    finally:
        fleet.parts["worker"].start()
    assert done["phase"] == "COMPLETED", done["outcome"]
    check_invariants(fleet)


def test_a_paused_leader_writes_nothing_more_once_another_leads(fleet: LiveFleet) -> None:
    """SIGSTOP for longer than the lease; a second controller takes over; SIGCONT: the first one's writes are fenced."""
    first = fleet.parts["controller"]
    second = fleet.add("controller-2", "-P", "-m", "trimtab", "controller")
    try:
        rollout_id = begin(fleet)
        fleet.wait_phase(rollout_id, "ANALYZING", *_after("ANALYZING"))
        before = fleet.get("/system")["leader"]
        paused, other = (first, second) if f":{first.pid}:" in before["holder"] else (second, first)
        paused.kill(signal.SIGSTOP)
        let_pass(8)  # the lease is 5 s
        after = fleet.get("/system")["leader"]
        paused.kill(signal.SIGCONT)
        done = fleet.wait_end(rollout_id, within_s=90)
        assert f":{other.pid}:" in after["holder"]
        assert after["epoch"] > before["epoch"]
        assert done["phase"] == "COMPLETED", done["outcome"]
        fleet.wait_in_sync()
        check_invariants(fleet)
    finally:
        second.close()
        fleet.parts.pop("controller-2")


def _after(phase: str) -> tuple[str, ...]:
    """Later phases: on a quick machine the wanted one may have passed before it was seen."""
    order = ["CANARY", "ANALYZING", "PROMOTING", "BAKING", "COMPLETED"]
    return tuple(order[order.index(phase) + 1 :])


def check_invariants(fleet: LiveFleet) -> None:
    """A decision has one rollout at most (I1), generations and epochs only grow (I2, I4), nothing owed stays undone (I3)."""
    deadline = time.monotonic() + 30
    while fleet.get("/system")["outbox"]["open"] and time.monotonic() < deadline:
        time.sleep(0.2)
    system = fleet.get("/system")
    assert system["outbox"]["open"] == 0, "something owed was not done within 30 s"
    with sqlite3.connect(f"file:{fleet.folder / 'trimtab.sqlite3'}?mode=ro", uri=True) as db:
        doubled = db.execute("SELECT key, count(*) FROM outbox GROUP BY key HAVING count(*) > 1").fetchall()
        active = db.execute("SELECT count(*) FROM rollouts WHERE active_pool_id IS NOT NULL").fetchone()
        decided = db.execute(
            "SELECT decision_id FROM rollouts WHERE decision_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1"
        ).fetchall()
        ends = db.execute(
            "SELECT rollout_id, count(*) FROM events WHERE kind IN ('rollout.completed', 'rollout.rolled_back',"
            " 'rollout.rollback_failed', 'rollout.cancelled', 'rollout.rejected') GROUP BY 1 HAVING count(*) > 1"
        ).fetchall()
        applied = db.execute(
            "SELECT node_id, data FROM events WHERE kind = 'node.settings_applied' ORDER BY id"
        ).fetchall()
        leaders = db.execute("SELECT data FROM events WHERE kind = 'control.leader_changed' ORDER BY id").fetchall()
    assert (doubled, active[0], decided, ends) == ([], 0, [], [])
    generations: dict[str, list[int]] = {}
    for node_id, data in applied:
        generations.setdefault(node_id, []).append(json.loads(data)["generation"])
    assert all(each == sorted(set(each)) for each in generations.values()), generations
    takeovers = [json.loads(data) for (data,) in leaders]
    for name in {name for taken in takeovers for name in taken["leases"]}:
        epochs = [taken["epoch"] for taken in takeovers if name in taken["leases"]]
        assert epochs == sorted(set(epochs))
