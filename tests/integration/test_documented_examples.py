"""The examples of docs/api.md run as they stand there, in their order, against a real API with a node."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.api import ADMIN_TOKEN, api_server
from tests.support.database import sqlite_url
from tests.support.ready_node import join_ready_node

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "api.md"


def test_every_example_of_the_page_runs(tmp_path: Path) -> None:
    examples = re.findall(r"```(bash|python)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert [language for language, _ in examples] == ["bash", "bash", "python", "bash"]
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in (("trimtab", " -m trimtab"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{module} "$@"\n')
        (programs / name).chmod(0o755)
    # No heartbeat follows the first: the node must count as ready for as long as a slow machine takes.
    with api_server(sqlite_url(tmp_path), heartbeat_timeout_s=3600) as api:
        join_ready_node(api)
        environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "TRIMTAB_URL": api.url,
            "TRIMTAB_TOKEN": ADMIN_TOKEN,
        }
        for language, text in examples:
            command = ["bash", "-euo", "pipefail", "-c", text] if language == "bash" else [sys.executable, "-c", text]
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=250, check=False
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        frozen = api.client.get("/api/v1/events?kind=pool.frozen").json()["items"]
        assert len(frozen) == 4  # by the command, by Python, on condition, and by two requests that are one
