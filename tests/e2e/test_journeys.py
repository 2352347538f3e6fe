"""What people come for, from beginning to end: each journey by mouse, and by the keyboard alone."""

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from controlplane import ui
from controlplane.db import session_scope
from controlplane.decisions import service as decisions
from controlplane.decisions.policy import Policy, Slo, demo_policy
from controlplane.webhooks.models import WebhookDelivery
from tests.support.api import ADMIN_TOKEN, api_server
from tests.support.browser import chromium_path
from tests.support.database import sqlite_url
from tests.support.hands import HANDS, Hands
from tests.support.web_visit import open_tab
from tests.support.whole_site import WholeSite, fail_delivery, kept_alive, signed_in

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium_path() is None, reason="no Chromium: install the package chromium"),
    pytest.mark.skipif(
        not (ui.STATIC / "index.html").is_file(), reason="the web app is not built: python hatch_build.py"
    ),
]
PASSWORD = "four plain words here"
Journey = Callable[[WholeSite, Hands], None]


@pytest.fixture(scope="module")
def site(whole: WholeSite) -> Iterator[WholeSite]:
    with kept_alive(whole):
        yield whole
        whole.end_rollouts()


def first_admin_is_set_up(site: WholeSite, hands: Hands) -> None:
    """In an installation in which nobody has been yet."""
    with (
        api_server(sqlite_url(_folder(site, hands, "fresh"))) as api,
        open_tab(site.browser, api.url) as tab,
    ):
        page, own = tab.page, type(hands)(tab)
        tab.goto(f"/#token={ADMIN_TOKEN}")
        own.write(page.get_by_label("Your name"), "Ada!")
        own.write(field(page, "Password"), PASSWORD)
        own.press(button(page, "Create the admin"))
        expect(page.get_by_text("lower-case letters, digits")).to_be_visible()
        expect(field(page, "Password")).to_have_value(PASSWORD)
        own.write(page.get_by_label("Your name"), "ada")
        own.press(button(page, "Create the admin"))
        heading(page, "Fleet")
        assert tab.faults == []


def somebody_signs_in_and_out(site: WholeSite, hands: Hands) -> None:
    name = _person(site, hands, "sam")
    with open_tab(site.browser, site.api.url) as tab:
        page, own = tab.page, type(hands)(tab)
        tab.goto("/decisions")
        own.write(page.get_by_label("Name"), name)
        own.write(field(page, "Password"), "not these words at all")
        own.press(button(page, "Sign in"))
        expect(page.get_by_text("Name or password is wrong")).to_be_visible()
        expect(page.get_by_label("Name")).to_have_value(name)
        own.write(field(page, "Password"), PASSWORD)
        own.press(button(page, "Sign in"))
        heading(page, "Decisions")
        own.pick(button(page, "Account"), "Sign out")
        heading(page, "Sign in")
        assert tab.faults == []


def user_is_invited(site: WholeSite, hands: Hands) -> None:
    page = hands.tab.page
    hands.press(link(page, "Access"))
    hands.press(button(page, "Invite a user"))
    hands.write(page.get_by_label("Name"), "bob")
    hands.choose(page.get_by_label("Role everywhere"), "operator")
    hands.press(button(page, "Create and show the link"))
    expect(page.get_by_text("there is a user of this name")).to_be_visible()
    expect(page.get_by_label("Role everywhere")).to_have_value("operator")
    hands.write(page.get_by_label("Name"), f"dan-{hands.name}")
    hands.press(button(page, "Create and show the link"))
    expect(page.get_by_role("textbox", name="Link")).to_have_value(re.compile("#invitation="))
    hands.press(button(page, "I have it"))
    expect(row(page, f"dan-{hands.name}").get_by_text("Invited")).to_be_visible()


def token_is_revoked(site: WholeSite, hands: Hands) -> None:
    name = f"report-{hands.name}"
    made = site.api.client.post("/api/v1/tokens", json={"name": name, "role": "viewer"}).json()
    held = {"authorization": f"Bearer {made['token']}"}
    page = hands.tab.page
    hands.press(link(page, "Access"))
    hands.switch(page.get_by_role("tablist"), "Tokens")
    hands.press(button(page, f"Revoke token {name}"))
    hands.press(button(page.get_by_role("dialog"), "Revoke"))
    expect(button(page, f"Revoke token {name}")).to_have_count(0)
    assert site.api.anonymous.get("/api/v1/session", headers=held).status_code == 401


def session_is_ended(site: WholeSite, hands: Hands) -> None:
    name = _person(site, hands, "eve")
    site.api.anonymous.post("/api/v1/session", json={"name": name, "password": PASSWORD}).raise_for_status()
    site.api.anonymous.cookies.clear()
    page = hands.tab.page
    hands.press(link(page, "Access"))
    hands.switch(page.get_by_role("tablist"), "Sessions")
    hands.press(button(page, f"End {name}'s session").first)
    hands.press(button(page.get_by_role("dialog"), "End session"))
    expect(page.get_by_role("dialog")).to_have_count(0)


def change_is_approved(site: WholeSite, hands: Hands) -> None:
    rollout = site.propose(max_queue=200)
    page = hands.tab.page
    # The live stream has told of it: the place says how many wait, which is part of its name from then on.
    place = page.get_by_role("link", name=re.compile(r"^Rollouts.* to approve$"))
    expect(place).to_be_visible()
    hands.press(place)
    hands.switch(page.get_by_role("radiogroup", name="Which rollouts"), "To approve")
    hands.press(page.locator(f'a[href$="/rollouts/{rollout}"]').first)  # others may wait as well
    hands.press(button(page, "Approve"))
    hands.write(page.get_by_label("Comment"), "calm hour")
    hands.press(button(page.get_by_role("dialog"), "Approve"))
    expect(page.get_by_role("dialog")).to_have_count(0)  # what is being written shows as text, too
    expect(page.get_by_text("calm hour", exact=True)).to_be_visible()
    assert _rollout(site, rollout)["approvals"][0]["agrees"] is True


def change_is_refused(site: WholeSite, hands: Hands) -> None:
    rollout = site.propose(max_queue=201)
    page = hands.tab.page
    hands.tab.goto(f"/rollouts/{rollout}")
    hands.press(button(page, "Refuse"))
    hands.write(page.get_by_label("Comment"), "not today")
    hands.press(button(page.get_by_role("dialog"), "Refuse"))
    expect(page.get_by_text("not today").first).to_be_visible()
    _until(site, rollout, {"REJECTED", "CANCELLED"})


def change_is_aborted(site: WholeSite, hands: Hands) -> None:
    page = hands.tab.page
    hands.press(pool_link(page))
    hands.press(button(page, "New rollout"))
    dialog = page.get_by_role("dialog")
    hands.write(dialog.get_by_label("max_queue"), "0")
    expect(dialog.get_by_text("at least 1", exact=True)).to_be_visible()
    hands.write(dialog.get_by_label("max_queue"), "130")
    hands.write(dialog.get_by_label("Reason"), "shorter queue")
    hands.press(button(dialog, "Check without changing anything"))
    expect(dialog.get_by_text("This would reach 2 nodes")).to_be_visible()
    hands.press(button(dialog, "Start rollout"))
    heading(page, "max_queue")
    hands.press(button(page, "Abort"))
    hands.press(button(page.get_by_role("dialog"), "Abort"))
    _until(site, page.url.rpartition("/")[2], {"CANCELLED", "ROLLED_BACK"})
    expect(button(page, "Abort")).to_have_count(0)


def change_is_paused_and_promoted(site: WholeSite, hands: Hands) -> None:
    rollout = _begin(site, max_queue=140)
    _until(site, rollout, {"ANALYZING"})
    page = hands.tab.page
    hands.tab.goto(f"/rollouts/{rollout}")
    hands.press(button(page, "Pause"))
    hands.write(page.get_by_label("Reason"), "a look at the logs")
    hands.press(button(page.get_by_role("dialog"), "Pause"))
    expect(page.get_by_text("a look at the logs").first).to_be_visible()
    expect(button(page, "Resume")).to_be_visible()
    hands.press(button(page, "Promote"))
    expect(page.get_by_role("dialog").get_by_text("without a verdict")).to_be_visible()
    hands.press(button(page.get_by_role("dialog"), "Promote"))
    _until(site, rollout, {"PROMOTING", "BAKING", "COMPLETED"})


def completed_change_is_rolled_back(site: WholeSite, hands: Hands) -> None:
    rollout = _begin(site, max_queue=150)
    _until(site, rollout, {"ANALYZING"})
    _ask(site, rollout, "promote")
    _until(site, rollout, {"BAKING"})
    _ask(site, rollout, "promote")
    _until(site, rollout, {"COMPLETED"})
    page = hands.tab.page
    hands.tab.goto(f"/rollouts/{rollout}")
    hands.press(button(page, "Roll back"))
    expect(page.get_by_role("dialog").get_by_text("All 2 nodes in demo go back")).to_be_visible()
    hands.press(button(page.get_by_role("dialog"), "Roll back"))
    expect(page).not_to_have_url(f"{site.api.url}/rollouts/{rollout}")
    heading(page, "max_queue")
    back = page.url.rpartition("/")[2]
    assert _rollout(site, back)["changes"]["max_queue"][0] == 150
    _until(site, back, {"COMPLETED", "BAKING"})


def policy_is_edited_beside_somebody_else(site: WholeSite, hands: Hands) -> None:
    page, pool = hands.tab.page, site.fleet.pool_id
    hands.press(pool_link(page))
    hands.press(link(page, "Policy"))
    ttft = page.locator('[name="slo.ttft_p95_s"]')
    hands.write(ttft, "0")
    expect(page.get_by_text("more than 0")).to_be_visible()
    hands.write(ttft, "2.5")
    _save_policy(site, _demo(error_rate=0.05))
    hands.press(button(page, "Save"))
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("slo.error_rate")).to_be_visible()
    hands.press(button(dialog, "Put mine on top"))
    expect(ttft).to_have_value("2.5")
    hands.press(button(page, "Save"))
    expect(page.get_by_text("Saved as version")).to_be_visible()
    with session_scope(site.engine, read_only=True) as session:
        policy, _ = decisions.current_policy(session, pool)
    assert (policy.slo.ttft_p95_s, policy.slo.error_rate) == (2.5, 0.05)
    _save_policy(site, _demo())


def webhook_is_delivered_again(site: WholeSite, hands: Hands) -> None:
    owed = str(site.api.client.post(f"/api/v1/webhooks/{site.webhook_id}/test").raise_for_status().json()["id"])
    with session_scope(site.engine) as session:
        fail_delivery(session.get_one(WebhookDelivery, owed))
    page = hands.tab.page
    hands.tab.goto(f"/webhooks?open={site.webhook_id}")
    hands.press(button(page, "Send again").first)
    expect(page.get_by_role("row").filter(has_text="webhook.test").first.get_by_text("next at")).to_be_visible()
    assert site.api.client.get(f"/api/v1/webhook-deliveries/{owed}").json()["state"] == "waiting"


def everything_is_frozen_and_let_go(site: WholeSite, hands: Hands) -> None:
    page = hands.tab.page
    hands.press(link(page, "System"))
    hands.press(button(page, "Freeze everything"))
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("No new change reaches 2 nodes in 1 pool")).to_be_visible()
    hands.write(dialog.get_by_label("Reason"), "the rack is on fire")
    hands.press(button(dialog, "Freeze everything"))
    expect(page.get_by_role("heading", name="Everything is frozen")).to_be_visible()
    assert site.api.client.get("/api/v1/system").json()["frozen"]["reason"] == "the rack is on fire"
    hands.press(link(page, "Fleet"))
    expect(page.get_by_text("no pool changes")).to_be_visible()
    hands.press(link(page, "Lift it"))
    hands.press(button(page, "Lift the freeze"))
    hands.press(button(page.get_by_role("dialog"), "Lift the freeze"))
    expect(page.get_by_role("heading", name="Freeze everything")).to_be_visible()
    assert site.api.client.get("/api/v1/system").json()["frozen"] is None


def what_if_becomes_a_proposal(site: WholeSite, hands: Hands) -> None:
    page = hands.tab.page
    hands.press(link(page, "What if"))
    batch = page.locator('input[name="max_batch_size"]')
    hands.write(batch, "0")
    expect(page.get_by_text("at least 1", exact=True)).to_be_visible()
    expect(batch).to_have_value("0")
    hands.write(batch, "10")
    hands.write(page.locator('input[name="offered_rps"]'), "4")
    expect(page.get_by_role("heading", name="Expected at 4/s")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="Time to first token p95")).to_be_visible()
    hands.press(button(page, "Save as proposal"))
    reason = page.get_by_role("dialog").get_by_label("Reason")
    expect(reason).to_have_value(re.compile("^What if: max_batch_size"))
    hands.press(button(page.get_by_role("dialog"), "Save proposal"))
    heading(page, "max_batch_size")
    made = _rollout(site, page.url.rpartition("/")[2])
    assert (made["approvals_needed"], made["changes"]["max_batch_size"][1]) == (1, 10)
    assert str(made["reason"]).startswith("What if: max_batch_size")
    _until(site, str(made["id"]), {"PENDING_APPROVAL"})


def alert_gets_a_rule(site: WholeSite, hands: Hands) -> None:
    name, page = f"freeze by {hands.name}", hands.tab.page
    hands.press(link(page, "Alerts"))
    hands.press(button(page, "Add a rule"))
    dialog = page.get_by_role("dialog")
    hands.write(dialog.get_by_label("Name"), name)
    hands.write(dialog.get_by_label("Alerts with"), "severity")
    hands.press(button(dialog, "Save"))
    expect(dialog.get_by_label("Alerts with")).to_have_attribute("aria-invalid", "true")
    expect(dialog.get_by_label("Name")).to_have_value(name)
    hands.write(dialog.get_by_label("Alerts with"), 'severity="nobody"')
    hands.press(button(dialog, "Save"))
    expect(row(page, name)).to_be_visible()
    hands.press(button(row(page, name), "Remove"))
    hands.press(button(page.get_by_role("dialog"), "Remove"))
    expect(row(page, name)).to_have_count(0)


def log_is_verified_and_taken_along(site: WholeSite, hands: Hands) -> None:
    page = hands.tab.page
    site.chain()
    hands.press(link(page, "Audit log"))
    hands.write(page.get_by_label("Kind, or access.*"), "access.*")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site.api.url}/audit?kind=access.*")
    hands.press(button(page, "Verify"))
    expect(page.get_by_text("Intact")).to_be_visible()
    with page.expect_download() as download:
        hands.press(link(page, "JSON lines"))
    lines = download.value.path().read_text(encoding="utf-8").splitlines()
    assert lines
    assert {json.loads(line)["kind"].split(".")[0] for line in lines} == {"access"}


def pool_is_frozen_for_itself(site: WholeSite, hands: Hands) -> None:
    page = hands.tab.page
    hands.press(pool_link(page))
    hands.press(button(page, "Freeze pool demo"))
    dialog = page.get_by_role("dialog")
    hands.write(dialog.get_by_label("Reason"), "trade fair")
    hands.press(button(dialog, "Freeze"))
    expect(page.get_by_text("Frozen: trade fair").first).to_be_visible()
    hands.press(button(page, "Unfreeze pool demo"))
    hands.press(button(page.get_by_role("dialog"), "Unfreeze"))
    expect(page.get_by_role("button", name="Freeze pool demo", exact=True)).to_be_visible()
    assert site.api.client.get(f"/api/v1/pools/{site.fleet.pool_id}").json()["frozen"] is None


JOURNEYS: tuple[Journey, ...] = (
    first_admin_is_set_up,
    somebody_signs_in_and_out,
    user_is_invited,
    token_is_revoked,
    session_is_ended,
    change_is_approved,
    change_is_refused,
    change_is_aborted,
    change_is_paused_and_promoted,
    completed_change_is_rolled_back,
    policy_is_edited_beside_somebody_else,
    webhook_is_delivered_again,
    everything_is_frozen_and_let_go,
    what_if_becomes_a_proposal,
    alert_gets_a_rule,
    log_is_verified_and_taken_along,
    pool_is_frozen_for_itself,
)


@pytest.mark.parametrize("kind", HANDS, ids=lambda kind: kind.__name__.lower())
@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda journey: journey.__name__)
def test_journey(site: WholeSite, journey: Journey, kind: type[Hands]) -> None:
    site.end_rollouts()
    with signed_in(site) as tab:
        journey(site, kind(tab))
        assert tab.faults == []


def link(scope: Page | Locator, name: str) -> Locator:
    return scope.get_by_role("link", name=name, exact=True)


def pool_link(page: Page) -> Locator:
    return page.get_by_role("navigation", name="Pools").get_by_role("link", name="demo")


def button(scope: Page | Locator, name: str) -> Locator:
    return scope.get_by_role("button", name=name)


def heading(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()


def field(page: Page, label: str) -> Locator:
    """A password's field, whose label its button repeats."""
    return page.get_by_role("textbox", name=label, exact=True)


def row(page: Page, text: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_text(text, exact=True))


def _folder(site: WholeSite, hands: Hands, name: str) -> Path:
    folder = site.folder / f"{name}-{hands.name}"
    folder.mkdir()
    return folder


def _person(site: WholeSite, hands: Hands, name: str) -> str:
    """Name of a user who has chosen PASSWORD."""
    name = f"{name}-{hands.name}"
    made = site.api.client.post("/api/v1/users", json={"name": name, "role": "operator"}).raise_for_status().json()
    chosen = {"secret": made["url"].partition("#invitation=")[2], "password": PASSWORD}
    site.api.anonymous.post("/api/v1/invitations/accept", json=chosen).raise_for_status()
    site.api.anonymous.cookies.clear()
    return name


def _begin(site: WholeSite, **settings: object) -> str:
    """Id of a change that begins by itself."""
    body = {"pool_id": site.fleet.pool_id, "settings": settings, "reason": "a try"}
    return str(site.as_author("POST", "/rollouts", json=body)["id"])


def _ask(site: WholeSite, rollout: str, verb: str) -> None:
    site.api.client.post(f"/api/v1/rollouts/{rollout}/{verb}").raise_for_status()


def _rollout(site: WholeSite, rollout: str) -> dict[str, Any]:
    found: dict[str, Any] = site.api.client.get(f"/api/v1/rollouts/{rollout}").raise_for_status().json()
    return found


def _until(site: WholeSite, rollout: str, phases: set[str]) -> None:
    deadline = time.monotonic() + 60
    while (phase := _rollout(site, rollout)["phase"]) not in phases:
        assert time.monotonic() < deadline, f"the rollout is {phase}, not one of {phases}"
        time.sleep(0.1)


def _demo(**slo: float) -> Policy:
    return demo_policy().model_copy(update={"slo": Slo(**slo)})


def _save_policy(site: WholeSite, policy: Policy) -> None:
    """Somebody else does, at the same time."""
    with session_scope(site.engine) as session:
        _, version = decisions.current_policy(session, site.fleet.pool_id)
        decisions.put_policy(session, site.fleet.pool_id, policy, based_on=version, actor="bob", now=datetime.now(UTC))


def test_page_refreshes_and_says_so_with_the_stream_dead(site: WholeSite) -> None:
    with open_tab(site.browser, site.api.url) as tab:
        tab.page.route("**/api/v1/events/stream*", lambda route: route.abort())
        tab.goto(f"/#token={ADMIN_TOKEN}")
        expect(tab.page.get_by_text("Polling", exact=True)).to_be_visible()
        site.api.client.post(f"/api/v1/pools/{site.fleet.pool_id}/freeze", json={"reason": "seen by asking"})
        expect(tab.page.get_by_text("Frozen: seen by asking", exact=True)).to_be_visible(timeout=40_000)
        site.api.client.delete(f"/api/v1/pools/{site.fleet.pool_id}/freeze")
