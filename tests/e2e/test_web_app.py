"""The built web app in a real browser, against the real API on a database that the real controller code wrote.

Each page is opened in both schemes and two widths: it shows what SQL holds, has no serious accessibility fault, prints nothing
to the console and asks no other host.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect
from sqlalchemy import Engine

import hatch_build
from controlplane import ui
from controlplane.db import make_engine, session_scope
from controlplane.decisions import service as decisions
from controlplane.fleets import service as fleets
from controlplane.rollouts import service as rollouts
from tests.support.api import ADMIN_TOKEN, Api, api_server
from tests.support.browser import chromium, chromium_path
from tests.support.database import sqlite_url
from tests.support.people import add_admin
from tests.support.seeded_fleet import SeededFleet, seed_fleet
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
    engine: Engine
    fleet: SeededFleet
    browser: Browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    url = sqlite_url(tmp_path_factory.mktemp("web-app"))
    engine = make_engine(url)
    try:
        fleet = seed_fleet(engine, now=datetime.now(UTC))
        add_admin(engine)
        with api_server(url) as api, chromium() as browser:
            yield Site(api, engine, fleet, browser)
    finally:
        engine.dispose()


@contextmanager
def visit(site: Site, scheme: str = "light", width: str = "wide") -> Iterator[Visit]:
    """A fresh tab, signed in by the link that `trimtab up` prints."""
    with open_tab(site.browser, site.api.url, scheme=scheme, width=width) as tab:
        tab.goto(f"/#token={ADMIN_TOKEN}")
        yield tab


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_dialog_is_accessible(site: Site, scheme: str) -> None:
    axe = Axe()
    with visit(site, scheme) as tab:
        tab.goto(f"/pools/{site.fleet.pool_id}")
        for button, said in (("New rollout", "Reason"), ("Freeze pool demo", "No new change")):
            tab.page.get_by_role("button", name=button).click()
            expect(tab.page.get_by_role("dialog").get_by_text(said).first).to_be_visible()
            assert faults_of(axe, tab.page) == [], button
            tab.page.keyboard.press("Escape")
            expect(tab.page.get_by_role("dialog")).to_have_count(0)
        tab.page.keyboard.press("?")
        expect(tab.page.get_by_role("dialog", name="Keys")).to_be_visible()
        assert faults_of(axe, tab.page) == []
        tab.page.keyboard.press("Escape")
        tab.page.keyboard.press("/")
        expect(tab.page.get_by_label("Go to", exact=True)).to_be_focused()
        assert faults_of(axe, tab.page) == []


class TestSigningIn:
    def test_link_signs_in_and_leaves_no_token_in_the_address(self, site: Site) -> None:
        with visit(site) as tab:
            expect(tab.page.get_by_role("heading", name="Fleet")).to_be_visible()
            assert "token" not in tab.page.url
            assert tab.faults + tab.refusals == []

    def test_token_is_pasted_and_a_wrong_one_is_refused_in_words(self, site: Site) -> None:
        context = site.browser.new_context(base_url=site.api.url)
        page = context.new_page()
        page.goto("/decisions")
        page.get_by_role("button", name="Use an API token instead").click()
        page.get_by_label("API token", exact=True).fill("tt_wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_text("This token lets nobody in")).to_be_visible()
        page.get_by_label("API token", exact=True).fill(ADMIN_TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Decisions")).to_be_visible()
        context.close()


class TestWhatPagesSay:
    def test_fleet_shows_pool_nodes_and_the_latest_decision(self, site: Site) -> None:
        with session_scope(site.engine, read_only=True) as session:
            latest = decisions.latest_decision(session, site.fleet.pool_id)
            assert latest is not None
            words = latest.explanation
        with visit(site) as tab:
            card = tab.page.get_by_role("article", name="demo")
            expect(card.get_by_text(words)).to_be_visible()
            for name in ("node-1", "node-2"):
                expect(card.get_by_role("link", name=name)).to_be_visible()
            expect(card.get_by_role("img", name="Offered load")).to_be_visible()
            expect(card.get_by_role("link", name="Apply decided").first).to_be_attached()

    def test_decision_tells_why_and_replays(self, site: Site) -> None:
        with session_scope(site.engine, read_only=True) as session:
            row = decisions.get_decision(session, site.fleet.decision_id)
            explanation, candidates = row.explanation, len(row.candidates)
        with visit(site) as tab:
            tab.goto(f"/decisions/{site.fleet.decision_id}")
            expect(tab.page.get_by_text(explanation, exact=True)).to_be_visible()
            expect(tab.page.get_by_text("replays identically")).to_be_visible()
            table = _table(tab.page, "Candidates and what was expected of them")
            expect(table.locator("tbody tr")).to_have_count(candidates)
            expect(table.get_by_text("chosen", exact=True)).to_have_count(1)
            tab.page.get_by_role("link", name="The rollout that carries it").click()
            expect(tab.page).to_have_url(f"{site.api.url}/rollouts/{site.fleet.rollout_id}")

    def test_rollout_shows_ladder_verdict_and_timeline(self, site: Site) -> None:
        with session_scope(site.engine, read_only=True) as session:
            outcome = rollouts.get_rollout(session, site.fleet.rollout_id).outcome
        assert outcome is not None
        with visit(site) as tab:
            tab.goto(f"/rollouts/{site.fleet.rollout_id}")
            expect(tab.page.get_by_text(outcome).first).to_be_visible()
            ladder = tab.page.get_by_role("region", name="Progress").get_by_role("listitem")
            expect(ladder).to_have_count(5)
            verdicts = _table(tab.page, "Canary against baseline")
            expect(verdicts.get_by_text("TTFT p95", exact=True)).to_be_visible()
            expect(verdicts.get_by_role("img", name="Effect").first).to_be_visible()
            expect(tab.page.get_by_role("region", name="Timeline").get_by_role("listitem").first).to_be_visible()

    def test_chart_is_also_a_table(self, site: Site) -> None:
        with visit(site) as tab:
            tab.goto(f"/nodes/{site.fleet.node_ids[0]}")
            tab.page.get_by_role("button", name="View Time to first token as table").click()
            rows = tab.page.get_by_role("region", name="Time to first token, as a table").locator("tbody tr")
            expect(rows.nth(50)).to_be_attached()


class TestKeyboard:
    def test_g_and_a_letter_go_to_a_place(self, site: Site) -> None:
        with visit(site) as tab:
            for key, title in (("d", "Decisions"), ("r", "Rollouts"), ("s", "System"), ("f", "Fleet")):
                tab.page.keyboard.press("g")
                tab.page.keyboard.press(key)
                expect(tab.page.get_by_role("heading", level=1, name=title)).to_be_visible()
            assert tab.faults + tab.refusals == []

    def test_search_finds_a_node(self, site: Site) -> None:
        with visit(site) as tab:
            tab.page.keyboard.press("Control+k")
            field = tab.page.get_by_label("Go to", exact=True)
            expect(field).to_be_focused()
            field.fill("node-2")
            expect(tab.page.get_by_role("button", name="node-2")).to_be_visible()
            tab.page.keyboard.press("Enter")
            expect(tab.page.get_by_role("heading", level=1, name="node-2")).to_be_visible()

    def test_first_tab_stop_skips_to_the_content(self, site: Site) -> None:
        with visit(site) as tab:
            tab.page.keyboard.press("Tab")
            skip = tab.page.get_by_role("link", name="Skip to content")
            expect(skip).to_be_focused()
            tab.page.keyboard.press("Enter")
            expect(tab.page.locator("#main")).to_be_focused()

    def test_scheme_toggles_and_stays(self, site: Site) -> None:
        with visit(site) as tab:
            tab.page.keyboard.press("t")
            expect(tab.page.locator("html")).to_have_attribute("data-mantine-color-scheme", "dark")
            tab.page.reload()
            expect(tab.page.locator("html")).to_have_attribute("data-mantine-color-scheme", "dark")


@pytest.mark.slow
def test_who_operates_one_pool_is_offered_what_that_allows(site: Site) -> None:
    for name, pools, may in (("pia", {site.fleet.pool_id: "operator"}, True), ("vic", {}, False)):
        invited = site.api.client.post("/api/v1/users", json={"name": name, "role": "viewer", "pools": pools}).json()
        with open_tab(site.browser, site.api.url) as tab:
            tab.goto(invited["url"])
            tab.page.get_by_role("textbox", name="Choose a password").fill("some quite plain words")
            tab.page.get_by_role("button", name="Accept and sign in").click()
            expect(tab.page.get_by_role("heading", level=1, name="Fleet")).to_be_visible()
            tab.goto(f"/pools/{site.fleet.pool_id}")
            for button in ("New rollout", "Freeze pool demo"):
                expect(tab.page.get_by_role("button", name=button)).to_be_enabled(enabled=may)
            assert tab.faults + tab.refusals == []


def test_page_follows_the_event_stream_without_reload(site: Site) -> None:
    with visit(site) as tab:
        expect(tab.page.get_by_text("Live", exact=True)).to_be_visible()
        with session_scope(site.engine) as session:
            pool = fleets.get_pool(session, site.fleet.pool_id)
            fleets.freeze_pool(session, pool, reason="seen live", actor="test", now=datetime.now(UTC))
        expect(tab.page.get_by_text("Frozen: seen live", exact=True)).to_be_visible()
        with session_scope(site.engine) as session:
            pool = fleets.get_pool(session, site.fleet.pool_id)
            fleets.unfreeze_pool(session, pool, actor="test", now=datetime.now(UTC))
        expect(tab.page.get_by_text("Frozen: seen live", exact=True)).to_have_count(0)


def test_page_says_since_when_it_is_stale_and_recovers(site: Site) -> None:
    with visit(site) as tab:
        expect(tab.page.get_by_text("Live", exact=True)).to_be_visible()
        tab.page.context.set_offline(True)
        _look_at(tab.page)
        banner = tab.page.get_by_text("Stale since")
        expect(banner).to_be_visible(timeout=60_000)
        expect(tab.page.get_by_role("article", name="demo")).to_be_visible()
        tab.page.context.set_offline(False)
        _look_at(tab.page)
        expect(banner).to_have_count(0, timeout=60_000)
        expect(tab.page.get_by_text("Live", exact=True)).to_be_visible()


def test_built_app_is_that_of_these_sources() -> None:
    assert hatch_build.is_current(Path(hatch_build.__file__).parent), "rebuild it: python hatch_build.py"


def _look_at(page: Page) -> None:
    """Somebody comes back to the tab, which asks at once instead of with the next poll."""
    page.wait_for_timeout(2_500)  # younger answers are not asked for again
    page.evaluate("window.dispatchEvent(new Event('visibilitychange'))")


def _table(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name).locator("table")
