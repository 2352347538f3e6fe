"""The promise as a whole, with nothing faked: a surge of real requests on real nodes is foreseen, decided upon, tried on a
canary and promoted, and an open page of the web app tells of it without a reload."""

import signal
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from controlplane import ui
from tests.support.browser import chromium, chromium_path
from tests.support.fleet import TRIMTAB, LocalFleet, clean_environment, until
from trimtab.client import ApiClient, Json

pytestmark = [
    pytest.mark.browser,
    pytest.mark.model,
    pytest.mark.timeout(900),
    pytest.mark.skipif(chromium_path() is None, reason="no Chromium: install the package chromium"),
    pytest.mark.skipif(
        not (ui.STATIC / "index.html").is_file(), reason="the web app is not built: python hatch_build.py"
    ),
]

CALM_S = "15"
# From calm to promoted takes about two minutes on two idle cores; a machine that is busy with other things takes longer, and
# may take a second surge. Each wait ends as soon as its condition holds.
WITHIN_S = 600.0
PAGE_MS = 60_000


@pytest.fixture
def surge(fleet: LocalFleet) -> Iterator[LocalFleet]:
    """The fleet, under the demo's own load."""
    command = [*TRIMTAB, "demo-traffic", "--data-dir", str(fleet.data_dir), "--calm-s", CALM_S, "--seed", "1"]
    log = fleet.data_dir / "logs" / "surge.log"
    with log.open("w") as err, subprocess.Popen(command, stderr=err, env=clean_environment()) as traffic:
        try:
            yield fleet
        finally:
            traffic.send_signal(signal.SIGINT)
            traffic.wait(20)


def test_a_surge_is_foreseen_decided_tried_and_promoted(surge: LocalFleet) -> None:
    faults: list[str] = []
    with surge.api() as api, chromium() as browser:
        context = browser.new_context(viewport={"width": 1440, "height": 1000}, reduced_motion="reduce")
        page = context.new_page()
        listen(page, surge.url, faults)
        page.goto(surge.wait()["sign_in_url"])
        page.get_by_role("button", name="Skip for now").click(timeout=PAGE_MS)
        card = page.get_by_role("article", name="demo")
        expect(card.get_by_role("img", name="Offered load")).to_be_visible(timeout=PAGE_MS)
        decisions = context.new_page()
        listen(decisions, surge.url, faults)
        decisions.goto(f"{surge.url}/decisions")
        expect(decisions.get_by_role("heading", level=1, name="Decisions")).to_be_visible(timeout=PAGE_MS)

        until(lambda: events(api, "forecast.breach_predicted"), WITHIN_S, "a breach is foreseen")
        rollout = until(lambda: promoted(api), WITHIN_S, "a rollout of the controller's is promoted")
        decision = api.get(f"/decisions/{rollout['decision_id']}")

        assert decision["outcome"] == "APPLY"
        small, large = decision["changes"]["max_batch_size"]
        assert large > small
        assert rollout["to_revision"]["settings"]["max_batch_size"] == large
        kinds = [event["kind"] for event in reversed(rollout["timeline"])]
        for kind in ("rollout.created", "rollout.canary_applied", "rollout.promoting", "rollout.completed"):
            assert kind in kinds
        # Both nodes said themselves that they run it, and from which engine step on.
        assert {(node["name"], node["state"]) for node in rollout["nodes"]} == {
            ("node-1", "APPLIED"),
            ("node-2", "APPLIED"),
        }
        assert {node["role"] for node in rollout["nodes"]} >= {"canary"}

        # The page that was open all the while shows the decision; its detail and the rollout's say why and how it ended.
        expect(decisions.locator("li[data-outcome=APPLY]").first).to_be_visible(timeout=PAGE_MS)
        decisions.goto(f"{surge.url}/decisions/{decision['id']}")
        expect(decisions.get_by_text(decision["explanation"], exact=True).first).to_be_visible(timeout=PAGE_MS)
        page.goto(f"{surge.url}/rollouts/{rollout['id']}")
        expect(page.get_by_text(rollout["outcome"]).first).to_be_visible(timeout=PAGE_MS)
        context.close()
    assert faults == []


def promoted(api: ApiClient) -> Json | None:
    """The first rollout by the controller that went all the way."""
    for row in reversed(api.items("/rollouts", limit=50)):
        if row["decision_id"] is not None and row["phase"] == "COMPLETED":
            return api.get(f"/rollouts/{row['id']}")
    return None


def events(api: ApiClient, kind: str) -> list[dict[str, Any]]:
    return api.items("/events", limit=1, kind=kind)


def listen(page: Page, url: str, faults: list[str]) -> None:
    """Notes what a page must not do: print errors, throw, ask another host."""
    host = urlsplit(url).netloc
    page.on("pageerror", lambda error: faults.append(f"uncaught: {error}"))
    page.on("console", lambda message: faults.append(f"console: {message.text}") if message.type == "error" else None)
    page.on(
        "request",
        lambda request: (
            None if urlsplit(request.url).netloc in {host, ""} else faults.append(f"off-host: {request.url}")
        ),
    )
