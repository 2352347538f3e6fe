"""An admin looks into a node from the web app: records it, sees the flame graph in the page, and enlarges a function."""

import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from controlplane import ui
from inference_node.config import NodeConfig
from inference_node.metrics import NodeMetrics
from inference_node.server.app import Served, serve_in_background
from tests.support.api import ADMIN_TOKEN, ENROLMENT_TOKEN, Api, api_server
from tests.support.browser import chromium, chromium_path
from tests.support.database import sqlite_url
from tests.support.fake_engine import FakeEngine
from tests.support.registrations import registration

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium_path() is None, reason="no Chromium: install the package chromium"),
    pytest.mark.skipif(
        not (ui.STATIC / "index.html").is_file(), reason="the web app is not built: python hatch_build.py"
    ),
]
TIMEOUT_MS = 20_000


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Served]:
    """A node whose process has something to do: one thread computes all the time."""
    engine = FakeEngine()
    config = NodeConfig(model=Path("/nowhere"), served_model_name=engine.model_name, data_dir=tmp_path, port=0)
    stop = threading.Event()
    busy = threading.Thread(target=_compute, args=(stop,), name="busy")
    with serve_in_background(engine, config, metrics=NodeMetrics(engine.model_name, "0.0.0")) as served:
        busy.start()
        yield served
        stop.set()
        busy.join()


def _compute(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(1000))


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with api_server(sqlite_url(tmp_path)) as api:
        yield api


@pytest.fixture
def page(api: Api, node: Served) -> Iterator[Page]:
    """The node's page, signed in as admin; asks nobody but the API."""
    body = registration(url=node.url, admin_token=node.admin_token).model_dump(mode="json")
    headers = {"Authorization": f"Bearer {ENROLMENT_TOKEN}"}
    node_id = api.anonymous.post("/api/v1/agents/register", json=body, headers=headers).json()["node_id"]
    elsewhere: list[str] = []
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 1000}, base_url=api.url, accept_downloads=True)
        context.set_default_timeout(TIMEOUT_MS)
        expect.set_options(timeout=TIMEOUT_MS)
        page = context.new_page()
        page.on(
            "request", lambda r: None if urlsplit(r.url).netloc == urlsplit(api.url).netloc else elsewhere.append(r.url)
        )
        page.goto(f"/#token={ADMIN_TOKEN}")
        page.get_by_role("button", name="Skip for now").click()
        expect(page.get_by_role("heading", level=1, name="Fleet")).to_be_visible()
        page.goto(f"/nodes/{node_id}")
        yield page
        context.close()
    assert elsewhere == []


def test_an_admin_records_a_node_and_reads_the_flame_graph(page: Page, tmp_path: Path) -> None:
    panel = page.get_by_role("region", name="Recordings")
    panel.get_by_label("Seconds").select_option("1")
    panel.get_by_role("button", name="Record", exact=True).click()
    panel.get_by_role("button", name="Show", exact=True).click()
    busiest = panel.get_by_role("button", name=f"{__name__}._compute", exact=False).first
    expect(busiest).to_be_visible()
    table = panel.get_by_role("table")
    expect(table.get_by_role("row").nth(1)).to_contain_text("_compute")
    busiest.click()
    expect(panel.get_by_role("button", name="Show all")).to_be_visible()
    with page.expect_download() as download:
        panel.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename.endswith(".speedscope.json")
