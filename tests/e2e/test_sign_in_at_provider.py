"""Somebody comes in at the identity provider, in a real browser: the link, the way there and back, why not, and out again."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from controlplane import ui
from controlplane.settings import OidcRole
from tests.support.api import Api, api_server
from tests.support.browser import chromium, chromium_path
from tests.support.database import sqlite_url
from tests.support.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider, identity_provider
from tests.support.ports import free_port
from tests.support.web_visit import Visit, faults_of, open_tab

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium_path() is None, reason="no Chromium: install the package chromium"),
    pytest.mark.skipif(
        not (ui.STATIC / "index.html").is_file(), reason="the web app is not built: python hatch_build.py"
    ),
]
ADA = {"sub": "1", "preferred_username": "ada", "groups": ["sre"]}


@dataclass(frozen=True, slots=True)
class Site:
    api: Api
    provider: IdentityProvider
    browser: Browser

    def faults(self, tab: Visit) -> list[str]:
        """Besides what is meant: the browser goes to the provider and nowhere else."""
        return [fault for fault in tab.faults if not fault.startswith(f"off-host: {self.provider.issuer}/")]


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    port = free_port()
    with chromium() as browser, identity_provider(f"http://127.0.0.1:{port}/api/v1/session/oidc/callback") as provider:
        folder = tmp_path_factory.mktemp("oidc")
        with api_server(
            sqlite_url(folder),
            port=port,
            oidc_issuer=provider.issuer,
            oidc_name="Example ID",
            oidc_client_id=CLIENT_ID,
            oidc_client_secret=CLIENT_SECRET,
            oidc_roles=(OidcRole(group="sre", role="operator"),),
        ) as api:
            yield Site(api, provider, browser)


def test_there_and_back_by_keyboard(site: Site) -> None:
    axe = Axe()
    with open_tab(site.browser, site.api.url) as tab:
        page = tab.page
        tab.goto("/rollouts")
        link = page.get_by_role("link", name="Sign in with Example ID")
        assert faults_of(axe, page) == []
        site.provider.person = {**ADA, "groups": ["others"]}
        tab.press(link)
        expect(page.get_by_role("alert").filter(has_text="None of your groups has a role here")).to_be_visible()
        assert faults_of(axe, page) == []

        site.provider.person = ADA
        tab.goto("/rollouts")
        tab.press(page.get_by_role("link", name="Sign in with Example ID"))
        expect(page.locator("h1")).to_have_text("Rollouts")
        assert page.url == f"{site.api.url}/rollouts"  # where they wanted to be

        page.get_by_role("button", name="Account").click()
        expect(page.get_by_text("ada · operator")).to_be_visible()
        with page.expect_request(lambda request: request.url.startswith(f"{site.provider.issuer}/end")):
            page.get_by_role("menuitem", name="Sign out").click()
        page.wait_for_url(f"{site.api.url}/")  # the provider sends back: a page opened before that would be interrupted
        tab.goto("/rollouts")
        expect(page.get_by_role("link", name="Sign in with Example ID")).to_be_visible()
        assert site.faults(tab) == []
