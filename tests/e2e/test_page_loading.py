"""Pages are scripts of their own: one on its way leaves the page before it standing, one that is gone says so."""

import re

import pytest
from playwright.sync_api import Route, expect

from controlplane import ui
from tests.support.browser import chromium_path
from tests.support.whole_site import WholeSite, signed_in

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium_path() is None, reason="no Chromium: install the package chromium"),
    pytest.mark.skipif(
        not (ui.STATIC / "index.html").is_file(), reason="the web app is not built: python hatch_build.py"
    ),
]
AUDIT = re.compile(r"/assets/AuditPage-.*\.js$")


def test_the_page_before_stays_until_the_script_is_there(whole: WholeSite) -> None:
    held: list[Route] = []
    with signed_in(whole) as tab:
        page = tab.page
        page.route(AUDIT, lambda route: held.append(route))
        tab.goto("/alerts")
        expect(page.get_by_role("heading", level=1)).to_have_text("Alerts")
        page.get_by_role("link", name="Audit").click()
        expect(page.get_by_role("progressbar", name="Loading page")).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_have_text("Alerts")
        held.pop().continue_()
        expect(page.get_by_role("heading", level=1)).to_have_text("Audit log")
        expect(page.get_by_role("progressbar", name="Loading page")).to_have_count(0)


def test_a_script_that_is_gone_says_so_and_leaves_the_other_pages(whole: WholeSite) -> None:
    """As after an upgrade: the server has the files of the new version only."""
    with signed_in(whole) as tab:
        page = tab.page
        page.route(AUDIT, lambda route: route.fulfill(status=404, body="gone"))
        tab.goto("/alerts")
        page.get_by_role("link", name="Audit").click()
        expect(page.get_by_role("alert")).to_contain_text("This page could not be shown")
        page.get_by_role("link", name="Webhooks").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Webhooks")
        expect(page.get_by_text("This page could not be shown")).to_have_count(0)
        page.unroute(AUDIT)
        page.get_by_role("link", name="Audit").click()
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Audit log")
