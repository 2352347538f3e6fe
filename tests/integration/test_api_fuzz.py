"""Requests that schemathesis makes from the API's own description, fitting and unfitting: no 5xx, no undescribed answer.

Every operation but two: the stream of events, which does not end and has tests of its own, and revoking a token, since the one
that is found first is the one that these requests show. A real node's server answers behind the
control plane, over an engine without a model, so that recordings are made and none of its doors says 503.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference_node.config import NodeConfig
from inference_node.metrics import NodeMetrics
from inference_node.server.app import Served, serve_in_background
from tests.support.api import ADMIN_TOKEN, ENROLMENT_TOKEN, Api, api_server
from tests.support.database import sqlite_url
from tests.support.fake_engine import FakeEngine
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
LEFT_OUT = r"/events/stream$|/tokens/"
SEED = 20261123


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Served]:
    engine = FakeEngine()
    config = NodeConfig(
        model=Path("/nowhere"),
        served_model_name=engine.model_name,
        data_dir=tmp_path / "node",
        host="127.0.0.1",
        port=0,
    )
    with serve_in_background(engine, config, metrics=NodeMetrics(engine.model_name, "0.0.0")) as served:
        yield served


def cases(
    api: Api, folder: Path, phases: str, examples: int, *, token: str = ADMIN_TOKEN, only: str | None = None
) -> int:
    """Number of requests made; fails with schemathesis' own report of what is wrong with an answer."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{api.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {token}", "--checks", ",".join(CHECKS)),
        *("--exclude-path-regex", LEFT_OUT, "--phases", phases, "--max-examples", str(examples)),
        *("--seed", str(SEED), "--continue-on-failure", "--warnings", "off", "--no-color"),
        *("--request-timeout", "300"),  # whether an answer is described, not how soon it comes on a busy machine
    ]
    if only is not None:
        command += ["--include-path-regex", only]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    found = re.search(r"(\d+) generated", done.stdout)
    assert found is not None, done.stdout[-2_000:]
    (folder / "schemathesis.txt").write_text(done.stdout)
    # Had a request revoked the token that the others show, those would all have met a described 401.
    assert api.client.get("/api/v1/fleet").status_code == 200
    return int(found.group(1))


def test_a_slice_of_requests_gets_described_answers(tmp_path: Path, node: Served) -> None:
    with api_server(sqlite_url(tmp_path)) as api:
        join_ready_node(api, url=node.url, admin_token=node.admin_token)
        assert cases(api, tmp_path, "fuzzing", 4) >= 100


@pytest.mark.slow
@pytest.mark.timeout(1860)
def test_ten_thousand_requests_get_described_answers(tmp_path: Path, database_url: str, node: Served) -> None:
    with api_server(database_url) as api:
        join_ready_node(api, url=node.url, admin_token=node.admin_token)
        made = cases(api, tmp_path, "coverage,fuzzing", 150)
        assert made + cases(api, tmp_path, "stateful", 5) >= 10_000


@pytest.mark.slow
@pytest.mark.timeout(660)
def test_a_thousand_words_of_nodes_get_described_answers(tmp_path: Path) -> None:
    """What only the enrolment token opens: joining, and Prometheus' discovery."""
    with api_server(sqlite_url(tmp_path)) as api:
        join_ready_node(api)
        only = r"/agents/register$|/sd/"
        assert cases(api, tmp_path, "coverage,fuzzing", 150, token=ENROLMENT_TOKEN, only=only) >= 1_000
