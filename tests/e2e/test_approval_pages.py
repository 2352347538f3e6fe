"""Agreeing to a change and refusing it in a real browser, by mouse and by the keyboard alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect
from sqlalchemy import Engine, select

from controlplane import ui
from controlplane.db import make_engine, session_scope
from controlplane.decisions.policy import Policy, RolloutPolicy
from controlplane.fleets import service as fleets
from controlplane.fleets.models import SettingsRevision
from controlplane.rollouts import service as rollouts
from controlplane.rollouts.models import Rollout, RolloutApproval
from controlplane.rollouts.phases import RolloutPhase
from tests.support.api import ADMIN_TOKEN, Api, api_server
from tests.support.browser import chromium, chromium_path
from tests.support.database import sqlite_url
from tests.support.people import add_admin
from tests.support.registrations import heartbeat_of, registration
from tests.support.web_visit import Visit, faults_of, open_tab

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium_path() is None, reason="no Chromium: install the package chromium"),
    pytest.mark.skipif(
        not (ui.STATIC / "index.html").is_file(), reason="the web app is not built: python hatch_build.py"
    ),
]

COMMENT = "Calm hour, go ahead"


@dataclass(frozen=True, slots=True)
class Site:
    """Pools `demo` and `chat`, each with a change that alice asked for; two people must agree to it."""

    api: Api
    engine: Engine
    browser: Browser
    rollouts: dict[str, str]

    def votes(self, pool: str) -> list[RolloutApproval]:
        with session_scope(self.engine, read_only=True) as session:
            query = select(RolloutApproval).where(RolloutApproval.rollout_id == self.rollouts[pool])
            return list(session.scalars(query))

    def wanted_hash(self, pool: str) -> str:
        with session_scope(self.engine, read_only=True) as session:
            row = session.get_one(Rollout, self.rollouts[pool])
            return session.get_one(SettingsRevision, row.to_revision_id).content_hash


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    url = sqlite_url(tmp_path_factory.mktemp("approvals"))
    engine = make_engine(url)
    with api_server(url) as api, chromium() as browser:
        add_admin(engine)
        yield Site(api, engine, browser, {pool: _waiting(engine, pool) for pool in ("demo", "chat")})
    engine.dispose()


def _waiting(engine: Engine, pool: str) -> str:
    now = datetime.now(UTC)
    with session_scope(engine) as session:
        for number in (1, 2):
            name = f"{pool}-{number}"
            node = fleets.register_node(session, registration(name, pool=pool), now=now - timedelta(hours=1)).node
            fleets.heartbeat(session, node, heartbeat_of(node), now=now)
        row = next(each for each in fleets.list_pools(session) if each.name == pool)
        settings = fleets.settings_of(fleets.current_revision(session, row)).replace(max_batch_size=24)
        revision = fleets.create_revision(session, row, settings, created_by="alice", reason="", now=now)
        policy = Policy(rollout=RolloutPolicy(approvals=2))
        made = rollouts.create_rollout(
            session, pool=row, to_revision=revision, decision_id=None, policy=policy, epoch=0, created_by="alice",
            reason="More streams at once", now=now,
        )  # fmt: skip
        made.phase = RolloutPhase.PENDING_APPROVAL.value
        return made.id


def _enter(tab: Visit) -> None:
    tab.goto(f"/#token={ADMIN_TOKEN}")


def test_a_change_is_found_read_and_approved_by_mouse(site: Site) -> None:
    with open_tab(site.browser, site.api.url) as tab:
        _enter(tab)
        page = tab.page
        expect(page.get_by_role("navigation", name="Main").get_by_text("2 to approve")).to_be_visible()
        page.get_by_role("link", name="Rollouts").click()
        page.get_by_text("To approve", exact=True).click()
        expect(page).to_have_url(f"{site.api.url}/rollouts?phase=PENDING_APPROVAL")
        expect(page.get_by_text("needs 2 approvals")).to_have_count(2)
        tab.goto(f"/rollouts/{site.rollouts['demo']}")
        expect(page.get_by_text("Nobody has looked at it yet.")).to_be_visible()
        expect(page.get_by_text("It has to begin within")).to_be_visible()
        assert faults_of(Axe(), page) == []
        page.get_by_role("button", name="Approve").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text("max_batch_size")).to_be_visible()
        expect(dialog.get_by_text("1 more approval will be needed")).to_be_visible()
        assert faults_of(Axe(), page) == []
        dialog.get_by_label("Comment").fill(COMMENT)
        dialog.get_by_role("button", name="Approve").click()
        expect(dialog).to_have_count(0)
        expect(page.get_by_text(COMMENT, exact=True)).to_be_visible()
        expect(page.get_by_text("1 of 2 approvals")).to_be_visible()
        expect(page.get_by_role("button", name="Approve")).to_be_disabled()  # nobody counts twice
        assert tab.faults + tab.refusals == []
    (vote,) = site.votes("demo")
    assert (vote.agrees, vote.comment, vote.settings_hash) == (True, COMMENT, site.wanted_hash("demo"))


def test_a_change_is_refused_by_the_keyboard_alone(site: Site) -> None:
    with open_tab(site.browser, site.api.url, scheme="dark", width="phone") as tab:
        _enter(tab)
        tab.goto(f"/rollouts/{site.rollouts['chat']}")
        assert faults_of(Axe(), tab.page) == []
        assert tab.overflow_px() <= 0
        tab.press(tab.page.get_by_role("button", name="Refuse"))
        dialog = tab.page.get_by_role("dialog")
        tab.type_into(dialog.get_by_label("Comment"), "Not before the release")
        tab.press(dialog.get_by_role("button", name="Refuse"))
        expect(dialog).to_have_count(0)
        expect(tab.page.get_by_text("Not before the release", exact=True)).to_be_visible()
        assert tab.faults + tab.refusals == []
    (vote,) = site.votes("chat")
    assert (vote.agrees, vote.comment) == (False, "Not before the release")


def test_settings_that_changed_since_are_not_approved(site: Site) -> None:
    """The page was opened, then the rollout came to bring something else: the answer says so, and no vote is kept."""
    with open_tab(site.browser, site.api.url) as tab:
        _enter(tab)
        tab.goto(f"/rollouts/{site.rollouts['chat']}")
        with session_scope(site.engine) as session:
            row = session.get_one(Rollout, site.rollouts["chat"])
            revision = session.get_one(SettingsRevision, row.to_revision_id)
            before, revision.content_hash = revision.content_hash, "0" * 16
        tab.page.get_by_role("button", name="Approve").click()
        tab.page.get_by_role("dialog").get_by_role("button", name="Approve").click()
        expect(tab.page.get_by_role("dialog").get_by_text("look at it again")).to_be_visible()
        with session_scope(site.engine) as session:
            session.get_one(SettingsRevision, revision.id).content_hash = before
        assert tab.faults == []
    assert [vote.agrees for vote in site.votes("chat")] == [False]
