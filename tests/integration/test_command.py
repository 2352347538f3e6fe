"""The command against a real API: waiting and its exit codes, nodes that leave, JSON, and what the shell may complete."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from controlplane.db import make_engine, session_scope
from controlplane.events import chain
from tests.support.api import ADMIN_TOKEN, Api, api_server
from tests.support.database import sqlite_url
from tests.support.moving_rollouts import moving_rollouts
from tests.support.ready_node import join_ready_node
from trimtab.cli import app

CREATE = ("rollouts", "create", "--set", "max_batch_size=24", "--reason", "more load", "--json")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with api_server(sqlite_url(tmp_path_factory.mktemp("command")), heartbeat_timeout_s=3600) as running:
        pool_id = join_ready_node(running)
        join_ready_node(running, "node-2")
        quick = {"window_s": 2, "windows": 8, "settle_s": 1, "bake_s": 1, "min_requests": 1}
        path = f"/api/v1/pools/{pool_id}/policy"
        running.client.put(path, json={"rollout": quick}, headers={"If-Match": '"0"'}).raise_for_status()
        yield running


@pytest.fixture
def api(served: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("TRIMTAB_URL", served.url)
    monkeypatch.setenv("TRIMTAB_TOKEN", ADMIN_TOKEN)
    return served


def say(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    """Exit code, standard output (read as JSON where it is), standard error."""
    capsys.readouterr()
    code = app.run(list(arguments))
    out, err = capsys.readouterr()
    try:
        return code, json.loads(out), err
    except ValueError:
        return code, out, err


class TestWaiting:
    def test_is_0_when_it_completes_and_0_when_it_was_to_go_back(
        self, api: Api, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with moving_rollouts(api.settings.database_url):
            code, begun, err = say(capsys, *CREATE, "--wait", "--timeout", "100")
            assert (code, begun["phase"], err) == (0, "COMPLETED", "")
            code, back, err = say(capsys, "rollouts", "rollback", begun["id"], "--wait", "--timeout", "100", "--json")
            assert (code, back["phase"], err) == (0, "COMPLETED", "")
            assert back["id"] != begun["id"]
            code, shown, _ = say(capsys, "rollouts", "analysis", begun["id"])
            assert code == 0
            assert "PASS" in shown

    def test_is_1_when_it_ends_otherwise_and_says_how(self, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
        def abort_it(stop: threading.Event) -> None:
            """Somebody else, as soon as there is something to abort."""
            while not stop.wait(0.01):
                for row in api.client.get("/api/v1/rollouts?active=true").json()["items"]:
                    api.client.post(f"/api/v1/rollouts/{row['id']}/abort")
                    with moving_rollouts(api.settings.database_url):
                        stop.wait(60)
                    return

        done = threading.Event()
        other = threading.Thread(target=abort_it, args=(done,))
        other.start()
        code, ended, err = say(capsys, *CREATE, "--wait", "--timeout", "60")
        done.set()
        other.join(60)
        assert (code, ended["phase"]) == (1, "CANCELLED")
        assert err.startswith("error: the rollout ended as CANCELLED: ")

    def test_is_3_when_time_is_over_and_the_rollout_goes_on(self, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, err = say(capsys, *CREATE, "--wait", "--timeout", "1")
        assert (code, out) == (3, "")
        assert "still in phase VALIDATING after 1 s" in err
        (active,) = api.client.get("/api/v1/rollouts?active=true").json()["items"]
        with moving_rollouts(api.settings.database_url):
            code, ended, err = say(capsys, "rollouts", "abort", active["id"], "--wait", "--timeout", "100", "--json")
        assert (code, ended["phase"] in {"CANCELLED", "ROLLED_BACK"}, err) == (0, True, "")


class TestNodes:
    def test_one_is_shown_by_its_name_and_by_the_verb(self, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
        for words in (("node-1", "--json"), ("show", "node-1", "--json"), ("--json", "node-1")):
            code, shown, _ = say(capsys, "nodes", *words)
            assert (code, shown["name"]) == (0, "node-1")
        assert say(capsys, "nodes", "nobody")[0] == 2

    def test_one_that_is_heard_of_stays_unless_forced_and_its_history_stays_anyway(
        self, api: Api, capsys: pytest.CaptureFixture[str]
    ) -> None:
        join_ready_node(api, "node-9")
        code, out, err = say(capsys, "nodes", "remove", "node-9")
        assert (code, out, "still running" in err) == (1, "", True)
        code, removed, _ = say(capsys, "nodes", "remove", "node-9", "--force", "--json")
        assert (code, removed["removed"]) == (0, True)
        assert say(capsys, "nodes", "node-9")[0] == 2
        history = api.client.get("/api/v1/events", params={"node_id": removed["id"]}).json()["items"]
        assert [event["kind"] for event in history][:1] == ["node.removed"]
        assert "node.registered" in [event["kind"] for event in history]
        assert api.client.get(f"/api/v1/nodes/{removed['id']}").status_code == 200

    def test_one_is_let_out_of_quarantine(self, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
        code, said, _ = say(capsys, "nodes", "release", "node-1", "--json")
        assert (code, said["quarantined"]) == (0, False)


class TestFreeze:
    def test_of_everything_at_once(self, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
        code, frozen, _ = say(capsys, "pools", "freeze", "--all", "--reason", "incident 7", "--json")
        assert (code, frozen["actor"], frozen["reason"]) == (0, "bootstrap admin", "incident 7")
        _, said, _ = say(capsys, "status")
        assert "incident 7" in said
        code, _, err = say(capsys, *CREATE)
        assert (code, "incident 7" in err) == (1, True)
        assert say(capsys, "pools", "unfreeze", "--all", "--json")[:2] == (0, {"pool_id": None, "frozen": None})
        assert say(capsys, "pools", "freeze", "main", "--all", "--reason", "x")[0] == 2


class TestCompletion:
    def complete(self, line: str, api: Api | None, folder: Path) -> list[str]:
        """What bash is proposed, through the program itself."""
        where = {} if api is None else {"TRIMTAB_URL": api.url, "TRIMTAB_TOKEN": ADMIN_TOKEN}
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_TRIMTAB_COMPLETE": "complete_bash"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}
        environment = {**kept, **where, **words, "TRIMTAB_DATA_DIR": str(folder)}
        done = subprocess.run(
            [sys.executable, "-m", "trimtab"], cwd=folder, env=environment | {"PYTHONPATH": os.getcwd()}, text=True,
            capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    def test_proposes_commands_knobs_and_names(self, api: Api, tmp_path: Path) -> None:
        assert self.complete("trimtab rollouts pa", api, tmp_path) == ["pause"]
        assert "max_batch_size=" in self.complete("trimtab rollouts create --set max_", api, tmp_path)
        assert self.complete("trimtab nodes remove node-", api, tmp_path) == ["node-1", "node-2"]
        assert self.complete("trimtab mesh show --pool m", api, tmp_path) == ["main"]

    def test_is_silent_without_a_control_plane(self, tmp_path: Path) -> None:
        assert self.complete("trimtab nodes remove node-", None, tmp_path) == []


# Servers that run until they are stopped, and what writes text for people or files.
WITHOUT_JSON = {
    "api",
    "controller",
    "worker",
    "node",
    "demo-traffic",
    "bench peers",
    "bench report",
    "bench canary record",
    "audit export",
}


def test_every_command_that_answers_does_so_as_json_too() -> None:
    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
        inner = getattr(command, "commands", None) or {}
        for name, each in inner.items():
            yield from walk(each, (*path, name))
        if not inner:
            yield " ".join(path), any("--json" in parameter.opts for parameter in command.params)

    without = {name for name, has in walk(typer.main.get_command(app.app), ()) if not has}
    assert without == WITHOUT_JSON


class TestAudit:
    @pytest.fixture(autouse=True)
    def chained(self, api: Api) -> None:
        """Events get their place in the chain; else the controller's work."""
        engine = make_engine(api.settings.database_url)
        with session_scope(engine) as session:
            while chain.extend(session):
                pass
        engine.dispose()

    def test_lists_and_exports_the_same_entries(self, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
        code, listed, _ = say(capsys, "audit", "list", "--kind", "node.*", "--limit", "1000", "--json")
        assert code == 0
        positions = [row["position"] for row in listed["items"]]
        assert positions and positions == sorted(positions, reverse=True)
        code, text, _ = say(capsys, "audit", "export", "--kind", "node.*")
        lines = [text] if isinstance(text, dict) else [json.loads(line) for line in text.splitlines()]
        assert (code, [line["position"] for line in lines]) == (0, positions[::-1])

    def test_exports_a_table(self, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
        code, text, _ = say(capsys, "audit", "export", "--csv", "--text", "node-2")
        assert code == 0
        assert text.splitlines()[0].endswith(",position,hash") and "node-2" in text

    def test_a_wrong_time_is_a_mistake_of_the_caller(self, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
        for command in ("list", "export"):
            code, _, err = say(capsys, "audit", command, "--since", "yesterday")
            assert code != 0 and "since" in err
