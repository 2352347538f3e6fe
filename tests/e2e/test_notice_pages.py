"""Webhooks, alerts and the audit log in a real browser: what is set there is told there, and proven."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from controlplane import ui
from controlplane.db import make_engine, session_scope
from controlplane.events import chain
from tests.support.api import ADMIN_TOKEN, Api, api_server
from tests.support.browser import chromium, chromium_path
from tests.support.database import sqlite_url
from tests.support.people import add_admin
from tests.support.web_visit import Visit, faults_of, open_tab

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium_path() is None, reason="no Chromium: install the package chromium"),
    pytest.mark.skipif(
        not (ui.STATIC / "index.html").is_file(), reason="the web app is not built: python hatch_build.py"
    ),
]


@dataclass(frozen=True, slots=True)
class Site:
    api: Api
    url: str
    browser: Browser

    def chain(self) -> None:
        """What a worker does every minute."""
        engine = make_engine(self.url)
        with session_scope(engine) as session:
            chain.extend(session)
        engine.dispose()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    url = sqlite_url(tmp_path_factory.mktemp("notices"))
    engine = make_engine(url)
    with api_server(url) as api, chromium() as browser:
        add_admin(engine)
        yield Site(api, url, browser)
    engine.dispose()


def _enter(tab: Visit) -> None:
    tab.goto(f"/#token={ADMIN_TOKEN}")


def test_a_webhook_is_added_tested_and_removed_by_mouse(site: Site) -> None:
    with open_tab(site.browser, site.api.url) as tab:
        _enter(tab)
        page = tab.page
        page.get_by_role("link", name="Webhooks").click()
        expect(page.get_by_text("Nobody is told yet")).to_be_visible()
        page.get_by_role("button", name="Add a webhook").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_label("Name")).to_be_focused()
        assert faults_of(Axe(), page) == []
        dialog.get_by_label("Name").fill("ops")
        dialog.get_by_label("Address").fill("http://169.254.169.254/latest")
        dialog.get_by_role("button", name="Add").click()
        expect(dialog.get_by_label("Address")).to_have_attribute("aria-invalid", "true")  # and nothing typed is lost
        dialog.get_by_label("Address").fill("https://ops.example.com/hooks")
        dialog.get_by_label("Kinds of events").fill("rollout.*, alert.*")
        dialog.get_by_role("button", name="Add").click()
        expect(dialog.get_by_label("Signing secret", exact=True)).to_be_visible()
        assert dialog.get_by_label("Signing secret", exact=True).input_value().startswith("whsec_")
        page.get_by_role("button", name="I have it").click()
        expect(page.get_by_text("rollout.*, alert.*")).to_be_visible()
        page.get_by_role("button", name="Test").click()
        page.get_by_role("button", name="Deliveries").click()
        expect(page.get_by_role("cell", name="webhook.test")).to_be_visible()
        expect(page.get_by_role("cell", name="Waiting")).to_be_visible()
        page.get_by_role("button", name="Tries").click()
        expect(page.get_by_text("It was not tried yet.")).to_be_visible()
        assert faults_of(Axe(), page) == []
        page.get_by_role("button", name="Remove").click()
        page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        expect(page.get_by_text("Nobody is told yet")).to_be_visible()
        assert tab.faults == []


def test_an_alert_and_its_rule_by_the_keyboard_alone(site: Site) -> None:
    with open_tab(site.browser, site.api.url) as tab:
        _enter(tab)
        page = tab.page
        tab.goto("/alerts")
        tab.press(page.get_by_role("button", name="Add a rule"))
        dialog = page.get_by_role("dialog")
        tab.type_into(dialog.get_by_label("Name"), "pages freeze")
        tab.press(dialog.get_by_role("button", name="Save"))
        expect(dialog).to_have_count(0)
        expect(page.get_by_role("cell", name='severity="page"')).to_be_visible()
        alert = {
            "status": "firing", "labels": {"alertname": "ErrorsBurn", "severity": "page", "pool": "nowhere"},
            "annotations": {"summary": "Errors burn the budget"}, "startsAt": "2026-03-01T12:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": "a1b2c3",
        }  # fmt: skip
        body = {"version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing", "alerts": [alert]}
        site.api.client.post("/api/v1/alerts/alertmanager", json=body).raise_for_status()
        tab.goto("/alerts")
        expect(page.get_by_text("Errors burn the budget")).to_be_visible()
        expect(page.get_by_text("by rule pages freeze")).to_be_visible()
        assert faults_of(Axe(), page) == []
        assert tab.faults + tab.refusals == []


def test_the_log_is_searched_verified_and_taken_along(site: Site, tmp_path: Path) -> None:
    site.api.client.post("/api/v1/tokens", json={"name": "ci", "role": "viewer"}).raise_for_status()
    site.chain()
    with open_tab(site.browser, site.api.url) as tab:
        _enter(tab)
        page = tab.page
        tab.goto("/audit")
        page.get_by_label("Kind, or access.*").fill("access.*")
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{site.api.url}/audit?kind=access.*")
        expect(page.get_by_role("table").get_by_text("access.token_created")).to_be_visible()
        expect(page.get_by_role("table").get_by_text("alert.rule_changed")).to_have_count(0)
        page.get_by_role("button", name="Details of entry").first.click()
        expect(page.get_by_text("hash", exact=False).first).to_be_visible()
        page.get_by_role("button", name="Verify").click()
        expect(page.get_by_text("Intact")).to_be_visible()
        assert faults_of(Axe(), page) == []
        with page.expect_download() as download:
            page.get_by_role("link", name="JSON lines").click()
        download.value.save_as(tmp_path / "log.jsonl")
        rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        assert {row["kind"].split(".")[0] for row in rows} == {"access"}
        assert tab.faults + tab.refusals == []
