"""Forms that are given what the API refuses: the message stands at the field, and everything typed stays."""

from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Locator, Page, expect

from controlplane import ui
from tests.support.browser import chromium_path
from tests.support.whole_site import WholeSite, kept_alive, signed_in

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium_path() is None, reason="no Chromium: install the package chromium"),
    pytest.mark.skipif(
        not (ui.STATIC / "index.html").is_file(), reason="the web app is not built: python hatch_build.py"
    ),
]
LONG = "words " * 100


@dataclass(frozen=True, slots=True)
class Form:
    """bad: the field's label and what is typed into it; beside: other fields, which must stay as well."""

    name: str
    path: str
    opens: str
    bad: tuple[str, str]
    submit: str
    beside: dict[str, str] = field(default_factory=dict)


# Tokens and enrolment take whatever fits into their fields, which end where the API does. Sign-in, set-up, passwords,
# policies and the what-if have tests of their own.
FORMS = (
    Form("invite", "/access", "Invite a user", ("Name", "Bob!"), "Create and show the link"),
    Form("webhook", "/webhooks", "Add a webhook", ("Address", "ftp://nobody"), "Add", {"Name": "new"}),
    Form("rule", "/alerts", "Add a rule", ("Alerts with", "severity"), "Save", {"Name": "a rule"}),
    Form("freeze", "/system", "Freeze everything", ("Reason", LONG), "Freeze everything"),
    Form("pool freeze", "/pools/{pool}", "Freeze pool demo", ("Reason", LONG), "Freeze"),
    Form("rollout", "/pools/{pool}", "New rollout", ("Reason", LONG), "Start rollout", {"max_queue": "129"}),
    Form(
        "proposal", "/what-if?pool={pool}&max_batch_size=9", "Save as proposal", ("Reason", LONG), "Save proposal"
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def site(whole: WholeSite) -> WholeSite:
    with kept_alive(whole):
        whole.end_rollouts()
    return whole


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_is_told_at_the_field_and_stays(site: WholeSite, form: Form) -> None:
    with signed_in(site) as tab:
        page = tab.page
        tab.goto(form.path.format(pool=site.fleet.pool_id))
        page.get_by_role("button", name=form.opens, exact=True).click()
        label, text = form.bad
        for other, value in form.beside.items():
            _in_dialog(page, other).fill(value)
        _in_dialog(page, label).fill(text)
        page.get_by_role("dialog").get_by_role("button", name=form.submit, exact=True).click()
        expect(_in_dialog(page, label)).to_have_attribute("aria-invalid", "true")
        expect(_in_dialog(page, label)).to_have_value(text)
        for other, value in form.beside.items():
            expect(_in_dialog(page, other)).to_have_value(value)
        assert tab.faults == []


def _in_dialog(page: Page, label: str) -> Locator:
    return page.get_by_role("dialog").get_by_label(label).first
