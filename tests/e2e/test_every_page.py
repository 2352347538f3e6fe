"""Every page in both schemes and at three widths: accessible, no wider than the window, quiet, and at home."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from controlplane import ui
from tests.support.browser import chromium_path
from tests.support.web_visit import WIDTHS, Visit, faults_of
from tests.support.whole_site import WholeSite, kept_alive, signed_in

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium_path() is None, reason="no Chromium: install the package chromium"),
    pytest.mark.skipif(
        not (ui.STATIC / "index.html").is_file(), reason="the web app is not built: python hatch_build.py"
    ),
]

# The pages that docs/web-app.md shows from here; WEB_PICTURES=docs/images makes the pictures anew. Of the others, the pictures
# are of a fleet that really ran.
PICTURED = ("what-if", "forecasts", "system")
PICTURES = os.environ.get("WEB_PICTURES")
# Something that stands on a page only when its data does.
TELLS = {
    "fleet": "node-2",
    "pool": "Step times learned",
    "node": "node-1",
    "decision": "Expected and realised",
    "rollouts": "took",
    "rollout": "Canary against baseline",
    "approvals": "needs 1 approval",
    "what-if": "Which limit binds",
    "forecasts": "Models in the race",
    "alerts": "Errors burn the budget",
    "webhooks": "webhook.test",
    "audit": "pool.created",
    "access": "carol",
    "system": "Freeze everything",
}


@pytest.fixture(scope="module")
def waiting(whole: WholeSite) -> None:
    """A change that somebody else asked for."""
    with kept_alive(whole):
        rollout = whole.propose(max_batch_size=24)
        deadline = time.monotonic() + 30
        while whole.api.client.get(f"/api/v1/rollouts/{rollout}").json()["phase"] != "PENDING_APPROVAL":
            assert time.monotonic() < deadline
            time.sleep(0.1)


def names() -> list[str]:
    return ["fleet", "pool", "node", "decisions", "decision", "rollouts", "rollout", "approvals", "policy", "what-if",
            "forecasts", "alerts", "webhooks", "audit", "access", "account", "system", "missing"]  # fmt: skip


@pytest.fixture(scope="module")
def tab(whole: WholeSite, waiting: None) -> Iterator[Visit]:
    with signed_in(whole) as opened:
        yield opened


@pytest.mark.parametrize("name", names())
def test_page_is_accessible_quiet_and_at_home(whole: WholeSite, tab: Visit, name: str) -> None:
    tab.look("light", "wide")
    tab.goto(whole.pages()[name])
    if name in TELLS:
        expect(tab.page.get_by_text(TELLS[name]).first).to_be_visible()
    for width in WIDTHS:
        for scheme in ("light", "dark"):
            tab.look(scheme, width)
            assert faults_of(whole.axe, tab.page) == [], (name, scheme, width)
            assert tab.overflow_px() <= 0, f"{name} is wider than the window ({width})"
            _picture(tab, name, scheme, width)
    assert tab.faults + tab.refusals == []


def test_no_page_is_left_out(whole: WholeSite) -> None:
    assert list(whole.pages()) == names()


def _picture(tab: Visit, name: str, scheme: str, width: str) -> None:
    if PICTURES is None or (name not in PICTURED and os.environ.get("WEB_PICTURES_ALL") is None):
        return
    if width == "wide" or os.environ.get("WEB_PICTURES_ALL") is not None:
        suffix = "" if width == "wide" else f"-{width}"
        tab.page.wait_for_timeout(150)  # the cursor and the last chart come to rest
        tab.page.screenshot(path=Path(PICTURES) / f"web-{name}{suffix}-{scheme}.png", full_page=width != "wide")
