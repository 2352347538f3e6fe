"""A real Prometheus on a free port, scraping what a test tells it to; the binary comes from the PATH."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.ports import free_port

_START_TIMEOUT_S = 30.0
_CONFIG = """
global:
  scrape_interval: {interval_ms}ms
  scrape_timeout: {timeout_ms}ms
scrape_configs:
  - job_name: trimtab
    {discovery}
"""
_FILE_SD = """file_sd_configs:
      - files: ["{targets}"]
        refresh_interval: 1s"""
_HTTP_SD = """http_sd_configs:
      - url: "{url}"
        refresh_interval: 1s
        authorization: {{type: Bearer, credentials: "{token}"}}"""


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to scrape: host:port and the labels that its series get (fleet, pool, node, node_id)."""

    address: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PrometheusServer:
    url: str
    pid: int
    targets_file: Path

    def set_targets(self, targets: Sequence[Target]) -> None:
        """Takes effect within about a second (file_sd). The file is replaced in one move."""
        document = [{"targets": [target.address], "labels": dict(target.labels)} for target in targets]
        fresh = self.targets_file.with_suffix(".new")
        fresh.write_text(json.dumps(document))
        fresh.rename(self.targets_file)

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The instant vector now, raw."""
        with httpx2.Client(trust_env=False) as client:
            answer = client.post(f"{self.url}/api/v1/query", data={"query": promql}).json()
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def wait_for(self, promql: str, timeout_s: float = 30.0) -> list[dict[str, Any]]:
        """The first answer of `promql` that is not empty."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = self.query(promql)
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"Prometheus never answered {promql!r} with a sample within {timeout_s} s")


@contextmanager
def prometheus_server(
    folder: Path,
    *,
    scrape_interval_s: float = 1.0,
    http_sd: tuple[str, str] | None = None,
    web_config: Path | None = None,
    **way_in: Any,
) -> Iterator[PrometheusServer]:
    """Targets come from `set_targets`, or from `http_sd` = (url, bearer token). Stopped when left. Skips without the binary.

    web_config: its own TLS and users; way_in: what httpx2 needs to come in there (`auth`, `verify`).
    """
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("no prometheus on the PATH: apt-get install prometheus")
    folder.mkdir(parents=True, exist_ok=True)
    targets = folder / "targets.json"
    targets.write_text("[]")
    by_http = {} if http_sd is None else {"url": http_sd[0], "token": http_sd[1]}
    discovery = _HTTP_SD.format(**by_http) if by_http else _FILE_SD.format(targets=targets)
    interval_ms = round(1000 * scrape_interval_s)
    config = folder / "prometheus.yml"
    config.write_text(_CONFIG.format(interval_ms=interval_ms, timeout_ms=interval_ms, discovery=discovery))
    address = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--log.level=warn",
                *([] if web_config is None else [f"--web.config.file={web_config}"]),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            url = f"{'http' if web_config is None else 'https'}://{address}"
            _wait_until_ready(url, process, folder / "prometheus.log", way_in)
            yield PrometheusServer(url, process.pid, targets)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path, way_in: Mapping[str, Any]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    with httpx2.Client(trust_env=False, **way_in) as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if client.get(f"{url}/-/ready").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.05)
    raise RuntimeError(f"prometheus did not start:\n{log.read_text(errors='replace')[-2000:]}")
