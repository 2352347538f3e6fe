"""Requests that schemathesis makes from the API's own description, fitting and unfitting: no 5xx, no undescribed answer.

Left out: the stream of events, which does not end; signing in, which is throttled; revoking tokens, which could be the caller's
own; recordings, which are made on a node, and none answers here (503 is right then, and has its own tests).
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.api import ADMIN_TOKEN, Api, api_server
from tests.support.database import sqlite_url
from tests.support.ready_node import join_ready_node

pytest.importorskip("schemathesis", reason="in the extra `dev`")

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
LEFT_OUT = r"/events/stream$|/session$|/tokens/|/profiles"
SEED = 20261123


def cases(api: Api, folder: Path, phases: str, examples: int) -> int:
    """Number of requests made; fails with schemathesis' own report of what is wrong with an answer."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{api.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {ADMIN_TOKEN}", "--checks", ",".join(CHECKS)),
        *("--exclude-path-regex", LEFT_OUT, "--phases", phases, "--max-examples", str(examples)),
        *("--seed", str(SEED), "--continue-on-failure", "--warnings", "off", "--no-color"),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    found = re.search(r"(\d+) generated", done.stdout)
    assert found is not None, done.stdout[-2_000:]
    return int(found.group(1))


def test_a_slice_of_requests_gets_described_answers(tmp_path: Path) -> None:
    with api_server(sqlite_url(tmp_path)) as api:
        join_ready_node(api)
        assert cases(api, tmp_path, "fuzzing", 4) >= 100


@pytest.mark.slow
@pytest.mark.timeout(1860)
def test_ten_thousand_requests_get_described_answers(tmp_path: Path) -> None:
    with api_server(sqlite_url(tmp_path)) as api:
        join_ready_node(api)
        assert cases(api, tmp_path, "coverage,fuzzing,stateful", 250) >= 10_000
