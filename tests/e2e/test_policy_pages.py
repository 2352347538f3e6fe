"""The policy of a pool in a real browser: edited, tried on the past, saved, and saved by two people at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import Engine

from controlplane import ui
from controlplane.db import make_engine, session_scope
from controlplane.decisions import service as decisions
from controlplane.decisions.decide import decide
from controlplane.decisions.policy import Policy, Slo
from controlplane.fleets import service as fleets
from inference_node.contract.settings import EngineSettings
from tests.support.api import ADMIN_TOKEN, Api, api_server
from tests.support.browser import chromium, chromium_path
from tests.support.database import sqlite_url
from tests.support.decision_inputs import CALM_RPS, THREAT_RPS, decision_inputs
from tests.support.people import add_admin
from tests.support.registrations import registration
from tests.support.web_visit import Visit, faults_of, open_tab

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium_path() is None, reason="no Chromium: install the package chromium"),
    pytest.mark.skipif(
        not (ui.STATIC / "index.html").is_file(), reason="the web app is not built: python hatch_build.py"
    ),
]

TTFT, BATCH, LOSS = "slo.ttft_p95_s", "guardrails.bounds.max_batch_size.max", "quality.max_loss_ratio"


@dataclass(frozen=True, slots=True)
class Site:
    """A pool with a calm decision and one that raised the batch."""

    api: Api
    engine: Engine
    browser: Browser
    pool_id: str

    @property
    def path(self) -> str:
        return f"/pools/{self.pool_id}/policy"

    def policy(self) -> tuple[Policy, int]:
        with session_scope(self.engine, read_only=True) as session:
            return decisions.current_policy(session, self.pool_id)

    def save_as(self, name: str, policy: Policy) -> None:
        with session_scope(self.engine) as session:
            _, version = decisions.current_policy(session, self.pool_id)
            decisions.put_policy(session, self.pool_id, policy, based_on=version, actor=name, now=datetime.now(UTC))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    url = sqlite_url(tmp_path_factory.mktemp("policy"))
    engine = make_engine(url)
    with api_server(url) as api, chromium() as browser:
        add_admin(engine)
        yield Site(api, engine, browser, _pool(engine))
    engine.dispose()


def _pool(engine: Engine) -> str:
    now = datetime.now(UTC)
    with session_scope(engine) as session:
        said = registration(settings=EngineSettings(max_batch_size=4))
        pool_id = fleets.register_node(session, said, now=now - timedelta(hours=2)).node.pool_id
        for minutes, load in ((60, CALM_RPS), (30, THREAT_RPS)):
            given = decision_inputs(now - timedelta(minutes=minutes), load)
            decisions.record_decision(session, decide(given), pool_id=pool_id, inputs=given, epoch=1)
        return pool_id


def _open(tab: Visit, site: Site) -> Page:
    tab.goto(f"/#token={ADMIN_TOKEN}")
    tab.goto(site.path)
    return tab.page


def _field(page: Page, path: str) -> Any:
    return page.locator(f'[name="{path}"]')


def test_is_edited_tried_and_saved_by_mouse(site: Site) -> None:
    with open_tab(site.browser, site.api.url) as tab:
        page = _open(tab, site)
        assert faults_of(Axe(), page) == []
        expect(page.get_by_text("No change yet")).to_be_visible()
        _field(page, TTFT).fill("0")
        expect(page.get_by_text("more than 0")).to_be_visible()
        expect(page.get_by_role("button", name="Save")).to_be_disabled()
        _field(page, TTFT).fill("3600")
        _field(page, "slo.itl_p95_s").fill("3600")
        _field(page, "autonomy.precision").select_option("auto")
        changes = page.get_by_role("region", name="Your changes")
        expect(changes.get_by_text("3 changes")).to_be_visible()
        expect(changes.get_by_text(TTFT)).to_be_visible()
        page.get_by_role("button", name="Try", exact=True).click()
        expect(page.get_by_text("Changes proposed: 1 then, 0 under this policy.")).to_be_visible()
        expect(page.get_by_text("1 of 2 decisions would have come out the same.")).to_be_visible()
        assert faults_of(Axe(), page) == []
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("Saved as version 1.")).to_be_visible()
        expect(page.get_by_text("by bootstrap admin")).to_be_visible()
        assert tab.faults + tab.refusals == []
    policy, version = site.policy()
    assert (version, policy.slo.ttft_p95_s, policy.autonomy_of("precision").value) == (1, 3600, "auto")


def test_two_people_at_once_lose_nothing_by_the_keyboard_alone(site: Site) -> None:
    site.save_as("ada", Policy())
    _, before = site.policy()
    with open_tab(site.browser, site.api.url) as tab:
        page = _open(tab, site)
        tab.type_into(_field(page, TTFT), "2")
        tab.type_into(_field(page, LOSS), "0.02")
        site.save_as("bob", Policy(slo=Slo(ttft_p95_s=0.5, error_rate=0.05)))
        tab.press(page.get_by_role("button", name="Save"))
        dialog = page.get_by_role("dialog", name=f"bob saved version {before + 1} in between")
        expect(dialog.get_by_text("slo.error_rate")).to_be_visible()
        expect(dialog.get_by_text("changed by both of you")).to_have_count(1)
        assert faults_of(Axe(), page) == []
        tab.press(dialog.get_by_role("button", name="Put mine on top"))
        expect(dialog).to_have_count(0)
        expect(_field(page, TTFT)).to_have_value("2")
        expect(_field(page, "slo.error_rate")).to_have_value("0.05")
        tab.press(page.get_by_role("button", name="Save"))
        expect(page.get_by_text(f"Saved as version {before + 2}.")).to_be_visible()
        assert tab.faults == []
    policy, version = site.policy()
    assert (version, policy.slo.ttft_p95_s, policy.slo.error_rate) == (before + 2, 2, 0.05)
    assert policy.quality.max_loss_ratio == 0.02


def test_what_the_api_refuses_is_said_at_the_field_and_stays_typed(site: Site) -> None:
    """On a phone, in the dark."""
    with open_tab(site.browser, site.api.url, scheme="dark", width="phone") as tab:
        page = _open(tab, site)
        assert tab.overflow_px() <= 0
        assert faults_of(Axe(), page) == []
        _field(page, BATCH).fill("100000")
        page.get_by_role("button", name="Add", exact=True).click()
        page.get_by_label("Reason").fill("release day")
        cron = page.get_by_label("Begins (cron)")
        cron.fill("every friday")
        page.get_by_role("button", name="Save").click()
        expect(cron).to_have_attribute("aria-invalid", "true")
        expect(cron).to_have_value("every friday")
        cron.fill("0 18 * * fri")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert").get_by_text("max_batch_size: need 1 <= min <= max")).to_be_visible()
        expect(_field(page, BATCH)).to_have_value("100000")
        assert tab.faults == []
    assert site.policy()[0].freeze_windows == ()
