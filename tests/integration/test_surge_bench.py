"""The whole command against a real fleet, as small as it goes: a document in full, and nothing left running."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.fleet import TRIMTAB, clean_environment

pytestmark = [pytest.mark.slow, pytest.mark.model, pytest.mark.prometheus, pytest.mark.timeout(1800)]

SMALL = [
    "--minutes", "1", "--warm-s", "5", "--rest-s", "5", "--measure-s", "2", "--levels", "bf16,int8", "--budget", "0.05",
    "--json",
]  # fmt: skip


def _left(data_dir: Path) -> list[str]:
    """Command lines of whatever still runs on that folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if str(data_dir) in line:
            found.append(line)
    return found


def _figures(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["policy"]: row for row in report["results"]}


def test_a_small_surge_is_measured_under_each_policy(tmp_path: Path) -> None:
    data_dir, page = tmp_path / "data", tmp_path / "page.html"
    command = [*TRIMTAB, "bench", "surge", *SMALL, "--grid", "int8:8", "--data-dir", str(data_dir), "--page", str(page)]
    ran = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), timeout=1500, check=False)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    rows = _figures(report)
    assert list(rows) == ["trimtab", "default", "static: int8 batch 8", "static-best"]
    assert len({row["requests"] for row in rows.values()}) == 1, "the same requests for each"
    assert all(row["requests"] > 0 and row["quality_loss"] is not None for row in rows.values())
    assert rows["default"]["token_share_by_level"] == {"bf16": 1.0}
    assert rows["static: int8 batch 8"]["token_share_by_level"] == {"int8": 1.0}
    assert rows["default"]["changes"] == 0
    assert sum(rows["trimtab"]["runs"][0]["reasons"].values()) > 0, "the controller ticked"
    assert isinstance(report["sign"]["trimtab_over_static_best_points"], float)
    assert [row["level"] for row in report["capacities"]] == ["bf16", "int8"]
    assert "static-best" in page.read_text()
    assert _left(data_dir) == []


def test_interrupted_before_anything_was_measured_it_leaves_nothing_behind(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    process = subprocess.Popen(
        [*TRIMTAB, "bench", "surge", *SMALL, "--data-dir", str(data_dir)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment(),
    )  # fmt: skip
    assert process.stderr is not None
    deadline = time.monotonic() + 300
    while "rolling it out" not in process.stderr.readline():
        assert process.poll() is None
        assert time.monotonic() < deadline
    os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert _left(data_dir) == []
