"""People come in through the web app and are put out, in a real browser against the real API: set-up, invitation, sign-in,
tokens, sessions. Once by mouse and once by the keyboard alone; each page in both schemes is accessible and quiet."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from controlplane import ui
from tests.support.api import ADMIN_TOKEN, Api, api_server
from tests.support.browser import chromium, chromium_path
from tests.support.database import sqlite_url
from tests.support.web_visit import Visit, faults_of, open_tab

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium_path() is None, reason="no Chromium: install the package chromium"),
    pytest.mark.skipif(
        not (ui.STATIC / "index.html").is_file(), reason="the web app is not built: python hatch_build.py"
    ),
]
LINK = f"/#token={ADMIN_TOKEN}"
ADAS = "four plain words here"
BOBS = "five quite other plain words"
TABS = ("users", "sessions", "tokens", "nodes")


@dataclass(frozen=True, slots=True)
class Site:
    api: Api
    browser: Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An installation in which nobody has been yet."""
    with api_server(sqlite_url(tmp_path_factory.mktemp("access"))) as api:
        yield Site(api, browser)


def test_people_come_and_go_by_mouse(site: Site) -> None:
    axe = Axe()
    with (
        open_tab(site.browser, site.api.url) as ada,
        open_tab(site.browser, site.api.url, scheme="dark", width="phone") as bob,
    ):
        page = ada.page
        ada.goto("/")
        expect(page.get_by_text("Nobody has a password here yet")).to_be_visible()
        assert ada.faults + ada.refusals == []  # a first visit is quiet
        ada.goto(LINK)
        page.goto(LINK)  # the address alone changes: followed all the same
        heading(page, "Set up the first admin")
        assert "token" not in page.url
        page.get_by_label("Your name").fill("Ada!")
        field(page, "Password").fill("too short")
        page.get_by_role("button", name="Create the admin").click()
        expect(page.get_by_text("6 more to go: 9 of at least 15")).to_be_visible()
        field(page, "Password").fill(ADAS)
        page.get_by_role("button", name="Create the admin").click()
        expect(page.get_by_text("lower-case letters, digits")).to_be_visible()
        expect(field(page, "Password")).to_have_value(ADAS)
        assert faults_of(axe, page) == []
        page.get_by_label("Your name").fill("ada")
        page.get_by_role("button", name="Create the admin").click()
        heading(page, "Fleet")

        page.get_by_role("link", name="Access").click()
        page.get_by_role("button", name="Invite a user").click()
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Role everywhere").select_option("operator")
        page.get_by_role("button", name="Create and show the link").click()
        expect(page.get_by_text("there is a user of this name")).to_be_visible()
        expect(page.get_by_label("Role everywhere")).to_have_value("operator")
        page.get_by_label("Name").fill("bob")
        page.get_by_role("button", name="Create and show the link").click()
        link = page.get_by_role("textbox", name="Link").input_value()
        page.keyboard.press("Escape")  # does not lose it
        assert faults_of(axe, page) == []
        page.get_by_role("button", name="I have it").click()
        expect(row(page, "bob").get_by_text("Invited")).to_be_visible()

        bob.goto(link)
        heading(bob.page, "Welcome, bob")
        assert bob.overflow_px() <= 0
        assert faults_of(axe, bob.page) == []
        bob.page.get_by_role("textbox", name="Choose a password").fill(BOBS)
        bob.page.get_by_role("button", name="Accept and sign in").click()
        heading(bob.page, "Fleet")
        bob.goto("/access")
        expect(bob.page.get_by_text("Admins decide who may come in")).to_be_visible()
        assert bob.faults + bob.refusals == []

        page.get_by_role("tab", name="Tokens").click()
        page.get_by_role("button", name="New token").click()
        expect(page.get_by_label("Name")).to_be_focused()
        assert faults_of(axe, page) == []
        page.get_by_label("Name").fill("nightly report")
        page.get_by_role("button", name="Create token").click()
        secret = page.get_by_role("textbox", name="Token", exact=True).input_value()
        page.get_by_role("button", name="I have it").click()
        held = {"authorization": f"Bearer {secret}"}
        assert site.api.anonymous.get("/api/v1/session", headers=held).json()["name"] == "nightly report"
        assert secret not in page.content()
        page.get_by_role("button", name="Revoke token nightly report").click()
        assert faults_of(axe, page) == []
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        expect(page.get_by_role("button", name="Revoke token nightly report")).to_have_count(0)
        assert site.api.anonymous.get("/api/v1/session", headers=held).status_code == 401

        page.get_by_role("tab", name="Sessions").click()
        page.get_by_role("button", name="End bob's session").click()
        page.get_by_role("button", name="End session").click()
        expect(row(page, "bob")).to_have_count(0)
        bob.page.reload()
        heading(bob.page, "Sign in")
        sign_in(bob.page, "bob", ADAS)
        expect(bob.page.get_by_text("Name or password is wrong")).to_be_visible()
        sign_in(bob.page, "bob", BOBS)
        expect(bob.page.get_by_text("Admins decide who may come in")).to_be_visible()  # where he was

        page.get_by_role("tab", name="Users").click()
        page.get_by_role("button", name="What can be done with bob").click()
        page.get_by_role("menuitem", name="Disable").click()
        expect(page.get_by_text("1 browser session ends")).to_be_visible()
        page.get_by_role("dialog").get_by_role("button", name="Disable").click()
        expect(row(page, "bob").get_by_text("Disabled")).to_be_visible()
        bob.page.reload()
        heading(bob.page, "Sign in")
        sign_in(bob.page, "bob", BOBS)
        expect(bob.page.get_by_text("This user is disabled")).to_be_visible()
        expect(field(bob.page, "Password")).to_have_value(BOBS)
        assert ada.faults + bob.faults == []


def test_people_come_and_go_by_the_keyboard_alone(site: Site) -> None:
    with open_tab(site.browser, site.api.url) as ada, open_tab(site.browser, site.api.url, width="phone") as bob:
        page = ada.page
        ada.goto(LINK)
        ada.type_into(page.get_by_label("Your name"), "ada")
        ada.type_into(field(page, "Password"), ADAS)
        page.keyboard.press("Enter")
        heading(page, "Fleet")
        page.keyboard.press("g")
        page.keyboard.press("u")
        ada.press(page.get_by_role("button", name="Invite a user"))
        ada.type_into(page.get_by_label("Name"), "bob")
        page.keyboard.press("Enter")
        shown = page.get_by_role("textbox", name="Link")
        expect(shown).to_be_focused()
        link = shown.input_value()
        ada.press(page.get_by_role("button", name="I have it"))

        bob.goto(link)
        bob.type_into(bob.page.get_by_role("textbox", name="Choose a password"), BOBS)
        bob.page.keyboard.press("Enter")
        heading(bob.page, "Fleet")
        bob.goto("/account")
        bob.press(bob.page.get_by_role("button", name="New token"))
        bob.type_into(bob.page.get_by_label("Name"), "laptop")
        bob.page.keyboard.press("Enter")
        secret = bob.page.get_by_role("textbox", name="Token", exact=True).input_value()
        bob.press(bob.page.get_by_role("button", name="I have it"))
        held = {"authorization": f"Bearer {secret}"}
        assert site.api.anonymous.get("/api/v1/session", headers=held).json()["name"] == "bob"

        ada.tab_to(page.get_by_role("tab", name="Users"))
        page.keyboard.press("ArrowRight")
        ada.press(page.get_by_role("button", name="End bob's session"))
        expect(page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_focused()
        ada.press(page.get_by_role("button", name="End session"))
        expect(row(page, "bob")).to_have_count(0)
        bob.page.reload()
        bob.type_into(bob.page.get_by_label("Name"), "bob")
        bob.type_into(field(bob.page, "Password"), BOBS)
        bob.page.keyboard.press("Enter")
        heading(bob.page, "Your account")
        assert ada.faults + bob.faults == []


@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        pytest.param("dark", "wide", marks=pytest.mark.slow),
        pytest.param("light", "phone", marks=pytest.mark.slow),
        pytest.param("light", "wide", marks=pytest.mark.slow),
        pytest.param("dark", "phone", marks=pytest.mark.slow),
    ],
)
def test_pages_are_accessible_in_every_look(site: Site, scheme: str, width: str) -> None:
    axe = Axe()
    assert site.api.client.post("/api/v1/set-up", json={"name": "ada", "password": ADAS}).status_code == 204
    site.api.client.post("/api/v1/users", json={"name": "bob", "role": "approver"})
    site.api.client.post("/api/v1/enrolment-tokens", json={"note": "rack 4"})
    with open_tab(site.browser, site.api.url, scheme=scheme, width=width) as tab:
        tab.goto("/")
        assert faults_of(axe, tab.page) == []
        sign_in(tab.page, "ada", ADAS)
        heading(tab.page, "Fleet")
        for path in ("/account", *(f"/access?tab={name}" for name in TABS)):
            tab.goto(path)
            assert faults_of(axe, tab.page) == [], path
            assert tab.overflow_px() <= 0, path
        tab.page.get_by_role("button", name="Let a node join").click()
        tab.page.get_by_role("button", name="Show the command").click()
        command = tab.page.get_by_role("textbox", name="Command").input_value()
        assert command.startswith(f"NODE_CONTROLPLANE_URL={site.api.url} ")
        assert faults_of(axe, tab.page) == []
        assert tab.faults + tab.refusals == []


def test_pages_take_no_inline_style_or_script(site: Site) -> None:
    """What was let in by a hole elsewhere finds a closed door; also that the tests here would hear of a violation."""
    with open_tab(site.browser, site.api.url) as tab:
        tab.goto("/")
        assert tab.faults == []
        for wish in ("<style>body { display: none }</style>", '<p style="position: fixed">x</p>'):
            tab.page.evaluate("wish => document.body.insertAdjacentHTML('beforeend', wish)", wish)
        tab.page.evaluate(
            "document.body.appendChild(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))"
        )
        expect(tab.page.get_by_role("heading", level=1)).to_be_visible()
        heard = "\n".join(tab.faults)
        for directive in ("style-src-elem", "style-src-attr", "script-src-elem"):
            assert f"policy: {directive} blocked inline" in heard
        assert tab.page.evaluate("window.ran") is None


class TestEntrances:
    def test_set_up_may_wait_until_the_link_is_followed_again(self, site: Site) -> None:
        with open_tab(site.browser, site.api.url) as tab:
            tab.goto(LINK)
            tab.page.get_by_role("button", name="Skip for now").click()
            heading(tab.page, "Fleet")
            other = tab.page.context.new_page()
            other.goto("/system")
            heading(other, "System")
            other.get_by_role("button", name="Account").click()
            other.get_by_role("menuitem", name="Set up the first admin").click()
            heading(other, "Set up the first admin")
            other.get_by_role("button", name="Skip for now").click()
            heading(other, "System")
            other.goto(LINK)
            heading(other, "Set up the first admin")

    @pytest.mark.slow
    def test_a_used_link_says_so_and_a_flood_of_wrong_ones_is_stopped(self, site: Site) -> None:
        site.api.client.post("/api/v1/set-up", json={"name": "ada", "password": ADAS})
        with open_tab(site.browser, site.api.url) as tab:
            tab.goto("/#invitation=tti_nobodys")
            heading(tab.page, "This link no longer works")
            tab.page.get_by_role("button", name="Go to the sign-in").click()
            for _ in range(9):
                site.api.anonymous.post("/api/v1/session", json={"name": "ada", "password": "wrong"})
            sign_in(tab.page, "ada", ADAS)
            expect(tab.page.get_by_text("Too many requests")).to_be_visible()
            expect(tab.page.get_by_text("try again in")).to_be_visible()
            expect(tab.page.get_by_label("Name")).to_have_value("ada")
            assert tab.faults == []

    @pytest.mark.slow
    def test_own_password_is_changed_and_other_sessions_end(self, site: Site) -> None:
        site.api.client.post("/api/v1/set-up", json={"name": "ada", "password": ADAS})
        with open_tab(site.browser, site.api.url) as tab, open_tab(site.browser, site.api.url) as other:
            for one in (tab, other):
                enter(one, "ada", ADAS)
            page = tab.page
            page.get_by_role("button", name="Account").click()
            page.get_by_role("menuitem", name="Your account").click()
            field(page, "Present password").fill("not this one, surely")
            field(page, "New password").fill(BOBS)
            page.get_by_role("button", name="Change password").click()
            expect(page.get_by_text("this is not your present password")).to_be_visible()
            expect(field(page, "New password")).to_have_value(BOBS)
            field(page, "Present password").fill(ADAS)
            page.get_by_role("button", name="Change password").click()
            expect(page.get_by_text("Your other sessions have ended")).to_be_visible()
            other.page.reload()
            heading(other.page, "Sign in")
            assert tab.faults == []


def heading(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", level=1, name=name, exact=True)).to_be_visible()


def field(page: Page, label: str) -> Locator:
    """A password's field, whose label its button repeats."""
    return page.get_by_role("textbox", name=label, exact=True)


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))


def sign_in(page: Page, name: str, password: str) -> None:
    page.get_by_label("Name").fill(name)
    field(page, "Password").fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()


def enter(tab: Visit, name: str, password: str) -> None:
    tab.goto("/")
    sign_in(tab.page, name, password)
    heading(tab.page, "Fleet")
