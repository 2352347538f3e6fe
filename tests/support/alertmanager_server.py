"""A real Alertmanager on a free port that notifies one webhook; the binary comes from the PATH."""

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.ports import free_port

_START_TIMEOUT_S = 30.0
_CONFIG = """
global: {{resolve_timeout: 5m}}
route:
  receiver: trimtab
  group_by: [alertname, pool]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1s
receivers:
  - name: trimtab
    webhook_configs:
      - url: "{url}"
        send_resolved: true
        http_config: {{authorization: {{type: Bearer, credentials: "{token}"}}}}
"""


@dataclass(frozen=True, slots=True)
class Alertmanager:
    url: str

    def post(
        self, labels: Mapping[str, str], *, starts_at: datetime, resolved: bool = False, summary: str = ""
    ) -> None:
        """As Prometheus would."""
        now = datetime.now(UTC)
        alert = {
            "labels": dict(labels),
            "annotations": {"summary": summary} if summary else {},
            "startsAt": starts_at.isoformat(),
            "endsAt": (now if resolved else now + timedelta(minutes=5)).isoformat(),
            "generatorURL": "http://prometheus.test/graph",
        }
        with httpx2.Client(trust_env=False, timeout=30) as client:
            client.post(f"{self.url}/api/v2/alerts", json=[alert]).raise_for_status()

    def alerts(self) -> list[dict[str, Any]]:
        with httpx2.Client(trust_env=False, timeout=30) as client:
            found: list[dict[str, Any]] = client.get(f"{self.url}/api/v2/alerts").raise_for_status().json()
            return found


@contextmanager
def alertmanager(folder: Path, *, notify: str, token: str) -> Iterator[Alertmanager]:
    """notify: URL of the webhook; token: its bearer. Skips without the binary."""
    binary = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if binary is None:
        pytest.skip("no alertmanager on the PATH: apt-get install prometheus-alertmanager")
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "alertmanager.yml"
    config.write_text(_CONFIG.format(url=notify, token=token))
    address = f"127.0.0.1:{free_port()}"
    with (folder / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={config}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_ready(f"http://{address}", process, folder / "alertmanager.log")
            yield Alertmanager(f"http://{address}")
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    with httpx2.Client(trust_env=False) as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if client.get(f"{url}/-/ready").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.05)
    raise RuntimeError(f"alertmanager did not start:\n{log.read_text(errors='replace')[-2000:]}")
