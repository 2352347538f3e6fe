"""The dashboards for Grafana: every query of every panel is asked of a Prometheus over a running fleet, and answers with data."""

import json
import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.exposed_metrics import exposed
from tests.support.fleet import LocalFleet, local_fleet, until
from trimtab.cli import app
from trimtab.grafana import NAMES, source_folder

BOARDS = {name: json.loads((source_folder() / "grafana" / f"{name}.json").read_text("utf-8")) for name in NAMES}
# What Grafana puts in for its variables when all is chosen and an hour is shown.
FILLED = {"$__rate_interval": "1m", "$__range": "1h", "$fleet": ".*", "$pool": ".*", "$node": ".*"}
WITHIN_S = 240.0


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def asked(board: dict[str, Any]) -> dict[str, str]:
    """Where it stands to PromQL, of panels, annotations and variables."""
    found = {f"{p['title']} {t['refId']}": t["expr"] for p in panels(board) for t in p["targets"]}
    found |= {f"annotation {each['name']}": each["expr"] for each in board["annotations"]["list"] if "expr" in each}
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            found[f"variable {variable['name']}"] = re.sub(
                r"label_values\((.+), \w+\)$", r"\1", variable["query"]["query"]
            )
    return found


def filled(promql: str) -> str:
    for name, value in FILLED.items():
        promql = promql.replace(name, value)
    assert "$" not in promql, f"a variable that no dashboard has: {promql}"
    return promql


@pytest.mark.parametrize("name", NAMES)
class TestEachDashboard:
    def test_keeps_its_address_and_asks_for_its_data_source(self, name: str) -> None:
        board = BOARDS[name]
        assert board["uid"] == f"trimtab-{name}"
        assert board["templating"]["list"][0]["type"] == "datasource"
        assert board["templating"]["list"][0]["name"] == "DS_PROMETHEUS"
        sources = {json.dumps(t["datasource"]) for p in panels(board) for t in [p, *p["targets"]]}
        assert sources == {json.dumps({"type": "prometheus", "uid": "${DS_PROMETHEUS}"})}

    def test_its_panels_have_names_of_their_own_and_do_not_overlap(self, name: str) -> None:
        board = BOARDS[name]
        ids = [panel["id"] for panel in board["panels"]]
        titles = [panel["title"] for panel in panels(board)]
        assert len(set(ids)) == len(ids)
        assert len(set(titles)) == len(titles)
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert not cells & taken, panel["title"]
            assert at["x"] + at["w"] <= 24
            taken |= cells

    def test_every_metric_that_it_names_is_exposed(self, name: str) -> None:
        read = {
            metric
            for promql in asked(BOARDS[name]).values()
            for metric in re.findall(r"\b(?:vllm:|inference_|controlplane_)\w+", promql)
        }
        assert read
        assert read - {f"{metric}_total" for metric in exposed()} <= exposed()


class TestCommand:
    def test_writes_dashboards_and_provisioning(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        where = tmp_path / "provisioning"
        assert app.run(["grafana", str(where), "--prometheus", "https://prom.example/", "--json"]) == 0
        files = {Path(path).relative_to(where).as_posix() for path in json.loads(capsys.readouterr().out)["files"]}
        provisioning = {"dashboards/trimtab.yml", "datasources/trimtab.yml"}
        assert files == {f"dashboards/trimtab/{name}.json" for name in NAMES} | provisioning
        assert f"path: {where / 'dashboards' / 'trimtab'}" in (where / "dashboards/trimtab.yml").read_text()
        assert "url: https://prom.example\n" in (where / "datasources/trimtab.yml").read_text()

    def test_leaves_the_data_source_out_where_there_is_one(self, tmp_path: Path) -> None:
        assert app.run(["grafana", str(tmp_path)]) == 0
        assert not (tmp_path / "datasources").exists()

    def test_says_what_is_wrong(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert app.run(["grafana", str(tmp_path), "--prometheus", "prom:9090"]) == 2
        (tmp_path / "file").write_text("")
        assert app.run(["grafana", str(tmp_path / "file")]) == 1
        assert "file" in capsys.readouterr().err


@contextmanager
def traffic(fleet: LocalFleet) -> Iterator[None]:
    """Short answers to the same prompt, from both nodes, until left."""
    ended = threading.Event()
    prompt = "A trim tab is the small surface that turns the big rudder. " * 4

    def ask(number: int) -> None:
        with httpx2.Client(base_url=fleet.node_url(number), timeout=120, trust_env=False) as client:
            while not ended.is_set():
                client.post("/v1/completions", json={"prompt": prompt, "max_tokens": 8}).raise_for_status()
                ended.wait(0.5)

    threads = [threading.Thread(target=ask, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@pytest.mark.model
@pytest.mark.prometheus
@pytest.mark.timeout(900)
def test_every_query_answers_with_data_on_a_running_fleet(tmp_path: Path) -> None:
    with local_fleet(tmp_path / "data") as fleet:
        fleet.wait()
        prometheus = httpx2.Client(base_url=f"http://127.0.0.1:{fleet.ports[-2]}", timeout=30, trust_env=False)
        with prometheus, traffic(fleet), fleet.api() as api:
            # What is asked of rollouts, too, has something to show: one is begun as soon as none is under way.
            pool = api.pools()[0]["id"]
            until(lambda: _rolls(api, pool), 120, "a rollout")
            owed = {f"{name}: {where}": filled(q) for name in NAMES for where, q in asked(BOARDS[name]).items()}
            assert len(owed) > 100
            answers: dict[str, str] = {}
            deadline = time.monotonic() + WITHIN_S
            while owed and time.monotonic() < deadline:
                for where, promql in list(owed.items()):
                    answers[where] = _why_not(prometheus, promql)
                    if not answers[where]:
                        del owed[where]
                time.sleep(2)
            assert {where: f"{answers[where]}: {promql}" for where, promql in owed.items()} == {}


def _rolls(api: Any, pool_id: str) -> bool:
    if any(row["phase"] not in {"CANCELLED", "REJECTED"} for row in api.rollouts(limit=5)):
        return True
    response = api.create_rollout(pool_id, {"max_batch_size": 5}, "the dashboards want something to show")
    return bool(response["id"])


def _why_not(prometheus: httpx2.Client, promql: str) -> str:
    """Empty when the answer holds a number."""
    answer = prometheus.post("/api/v1/query", data={"query": promql}).json()
    if answer["status"] != "success":
        return str(answer["error"])
    values = [float(sample["value"][1]) for sample in answer["data"]["result"]]
    return "" if any(map(math.isfinite, values)) else f"{len(values)} series without a number"
