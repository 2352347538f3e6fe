"""`trimtab up` for real: everything becomes ready, errors are clear, a dead part comes back, the end leaves nothing behind."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from inference_node.demo_model import ensure_demo_model
from tests.support.fleet import TRIMTAB, LocalFleet, clean_environment, is_listening, local_fleet, until
from tests.support.ports import free_ports
from trimtab.client import ApiClient
from trimtab.supervisor.folder import DataFolder

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

COMPONENTS = ("redis", "prometheus", "api", "controller", "worker", "node-1", "node-2")


def trimtab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TRIMTAB, *arguments], capture_output=True, text=True, timeout=120, check=False, env=clean_environment()
    )


class TestReady:
    @pytest.mark.parametrize("component", COMPONENTS)
    def test_each_component_says_so_once_it_is(self, fleet: LocalFleet, component: str) -> None:
        event = fleet.wait(component)
        assert event["ready_s"] > 0
        assert psutil.pid_exists(event["pid"])

    def test_the_last_line_names_every_address(self, fleet: LocalFleet) -> None:
        event = fleet.wait()
        assert event["url"] == fleet.url
        assert event["sign_in_url"].startswith(f"{fleet.url}/#token=tt_")
        assert [node["url"] for node in event["nodes"]] == [fleet.node_url(1), fleet.node_url(2)]

    def test_secrets_are_for_the_owner_only(self, fleet: LocalFleet) -> None:
        assert fleet.data_dir.stat().st_mode & 0o777 == 0o700
        for name in ("credentials.json", "connection.json"):
            assert (fleet.data_dir / name).stat().st_mode & 0o777 == 0o600

    def test_everything_listens_on_loopback_only(self, fleet: LocalFleet) -> None:
        for process in fleet.family():
            for listener in process.net_connections("inet"):
                if listener.status == psutil.CONN_LISTEN:
                    assert listener.laddr.ip == "127.0.0.1", process.cmdline()

    def test_the_web_app_is_served(self, fleet: LocalFleet) -> None:
        page = httpx2.get(fleet.url)
        assert page.status_code == 200
        assert "text/html" in page.headers["content-type"]

    def test_a_node_answers(self, fleet: LocalFleet) -> None:
        body = {"model": fleet.wait()["model"], "prompt": "The capital of France is", "max_tokens": 2, "temperature": 0}
        answer = httpx2.post(f"{fleet.node_url(1)}/v1/completions", json=body, timeout=60)
        assert answer.json()["choices"][0]["text"].startswith(" Paris")

    def test_the_nodes_start_with_a_small_batch_under_the_demo_policy(self, fleet: LocalFleet) -> None:
        with fleet.api() as api:
            pool = api.get("/pools")["items"][0]
            first = next(row for row in api.get("/revisions", pool_id=pool["id"])["items"] if row["number"] == 1)
            assert first["settings"]["max_batch_size"] == 4
            policy = api.get(f"/pools/{pool['id']}/policy")["document"]
        assert policy["rollout"]["on_inconclusive"] == "promote"

    def test_a_first_decision_stands_soon(self, fleet: LocalFleet) -> None:
        with fleet.api() as api:
            decision = until(lambda: api.items("/decisions", limit=1000), 90, "a first decision")[-1]
        assert decision["outcome"] == "HOLD"
        assert decision["explanation"]


class TestReadingCommands:
    def test_status(self, fleet: LocalFleet) -> None:
        status = json.loads(trimtab("status", "--json", "--data-dir", str(fleet.data_dir)).stdout)
        assert status["url"] == fleet.url
        assert status["system"]["prometheus"]["ok"]
        assert status["system"]["redis"]["ok"]
        assert {process["kind"] for process in status["system"]["processes"]} == {"api", "controller", "worker"}

    @pytest.mark.parametrize("command", [["nodes"], ["nodes", "node-1"], ["status"], ["decisions"], ["rollouts"]])
    def test_people_get_tables(self, fleet: LocalFleet, command: list[str]) -> None:
        done = trimtab(*command, "--data-dir", str(fleet.data_dir))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.strip()

    def test_nodes_are_in_sync(self, fleet: LocalFleet) -> None:
        def nodes() -> bool:
            rows = json.loads(trimtab("nodes", "--json", "--data-dir", str(fleet.data_dir)).stdout)["items"]
            assert [(row["name"], row["health"]) for row in rows] == [("node-1", "ready"), ("node-2", "ready")]
            return all(row["in_sync"] for row in rows)

        until(nodes, 60, "both nodes run what is desired")

    def test_an_unknown_rollout_is_one_clear_line(self, fleet: LocalFleet) -> None:
        done = trimtab("rollouts", "show", "no-such-id", "--data-dir", str(fleet.data_dir))
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


class TestRefusals:
    def test_a_second_one_on_the_same_folder(self, fleet: LocalFleet) -> None:
        done = trimtab("up", "--data-dir", str(fleet.data_dir), "--port", str(fleet.port + 100))
        assert done.returncode == 2
        assert f"pid {fleet.process.pid}" in done.stderr
        assert "--data-dir" in done.stderr

    def test_a_port_that_is_taken(self, fleet: LocalFleet, tmp_path: Path) -> None:
        done = trimtab("up", "--data-dir", str(tmp_path / "other"), "--port", str(fleet.port))
        assert done.returncode == 2
        assert f"port {fleet.port}, meant for the API" in done.stderr
        assert "--port" in done.stderr

    @pytest.mark.parametrize("variable", ["REDIS_URL", "PROMETHEUS_URL"])
    def test_a_server_of_yours_that_does_not_answer(self, tmp_path: Path, variable: str) -> None:
        scheme = "redis" if variable == "REDIS_URL" else "http"
        env = clean_environment() | {variable: f"{scheme}://127.0.0.1:9"}
        command = [
            *TRIMTAB,
            "up",
            "--data-dir",
            str(tmp_path / "d"),
            "--model",
            str(tmp_path),
            "--port",
            str(free_ports(5)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
        assert done.returncode == 1
        assert f"error: {variable} is set, but no" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_model_folder_that_is_none(self, tmp_path: Path) -> None:
        done = trimtab(
            "up", "--data-dir", str(tmp_path / "d"), "--model", str(tmp_path / "nope"), "--port", str(free_ports(5))
        )
        assert done.returncode == 2
        assert "nope is no folder" in done.stderr
        assert "Traceback" not in done.stderr


class TestWatch:
    def test_a_killed_worker_comes_back(self, fleet: LocalFleet) -> None:
        seen, pid = len(fleet.events), fleet.pids()["worker"]
        os.kill(pid, signal.SIGKILL)
        assert fleet.wait("worker", "died", after=seen)["exit_code"] == -signal.SIGKILL
        assert fleet.wait("worker", after=seen)["pid"] != pid


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with nothing but the converted model, to copy from."""
    folder = tmp_path_factory.mktemp("model")
    ensure_demo_model(folder)
    return folder


@pytest.fixture
def data_dir(model_dir: Path, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    shutil.copytree(model_dir, folder)
    yield folder
    shutil.rmtree(folder)


def hurry(api: ApiClient, pool_id: str) -> None:
    """Without traffic there is nothing to compare: two short windows instead of eight, and no pause."""
    policy = api.get(f"/pools/{pool_id}/policy")
    rollout = policy["document"]["rollout"] | {"window_s": 1.0, "windows": 2, "settle_s": 0.0, "bake_s": 0.0}
    api.put(f"/pools/{pool_id}/policy", policy["document"] | {"rollout": rollout}, if_match=policy["version"])


class TestEnd:
    def test_ctrl_c_leaves_nothing_and_the_next_start_has_everything(self, data_dir: Path) -> None:
        with local_fleet(data_dir, nodes=1) as first:
            first.wait()
            family = first.family()
            assert len(family) > 6
            with first.api() as api:
                pool = api.get("/pools")["items"][0]
                hurry(api, pool["id"])
                changed = api.post(
                    "/rollouts", {"pool_id": pool["id"], "settings": {"max_batch_size": 6}, "reason": "a test"}
                )
                until(lambda: api.get(f"/rollouts/{changed['id']}")["ended_at"], 200, "the rollout's end")
                assert api.get(f"/rollouts/{changed['id']}")["phase"] == "COMPLETED"
            assert first.stop() == 0
            assert_all_gone(first, family)
            assert not (data_dir / "connection.json").exists()
        with local_fleet(data_dir, nodes=1, port=first.port) as second:
            second.wait()
            with second.api() as api:
                node = api.get("/nodes")["items"][0]
                assert node["in_sync"]
                assert node["observed"]["settings"]["max_batch_size"] == 6
                assert [row["id"] for row in api.items("/rollouts", limit=5)] == [changed["id"]]

    def test_nothing_outlives_a_supervisor_that_was_killed(self, data_dir: Path) -> None:
        with local_fleet(data_dir, nodes=1) as running:
            running.wait()
            family = running.family()
            running.process.kill()
            assert_all_gone(running, family)
            with DataFolder(data_dir).held():  # the next one may start at once
                pass


def assert_all_gone(fleet: LocalFleet, family: list[psutil.Process]) -> None:
    def alive() -> list[Any]:
        left = []
        for process in family:
            # A process may end, or become a zombie, between any two questions about it.
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(process.cmdline())
        return left

    # Our own child becomes a zombie until it is waited for.
    waiting = threading.Thread(target=fleet.process.wait, daemon=True)
    waiting.start()
    until(lambda: not alive(), 30, "the end of every process")
    assert not [port for port in fleet.ports if is_listening(port)]
