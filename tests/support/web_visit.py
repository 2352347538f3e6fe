"""A tab of the web app, and what it did that it should not: said something to the console, asked another host, broke the
content policy. And what axe has against a page."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

WIDTHS = {"phone": 390, "tablet": 820, "wide": 1440}
SERIOUS = {"serious", "critical"}
TIMEOUT_MS = 20_000
# The browser's own word on an answer that the app then shows at a field: no script can keep it from being said.
_SAID_OF_ANSWERS = "Failed to load resource: the server responded with a status of 4"
_MOST_STOPS = 160
_WATCH_POLICY = """document.addEventListener("securitypolicyviolation", (e) => console.error(
  `policy: ${e.effectiveDirective} blocked ${e.blockedURI} at ${e.sourceFile}:${e.lineNumber} ${e.sample}`))"""


@dataclass(slots=True)
class Visit:
    """One tab. `refusals` are answers with a 4xx status, which forms may provoke; `faults` nothing may."""

    page: Page
    faults: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def goto(self, path: str) -> None:
        """Opens a page and waits until its data stands there."""
        self.page.goto(path)
        self.settle()

    def settle(self) -> None:
        expect(self.page.locator("h1")).to_be_visible()
        expect(self.page.get_by_text("Loading", exact=True)).to_have_count(0)

    def watch(self, host: str) -> None:
        self.page.add_init_script(_WATCH_POLICY)
        self.page.on("console", lambda message: self._heard(message.type, message.text))
        self.page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        self.page.on(
            "request",
            lambda request: (
                None if urlsplit(request.url).netloc in {host, ""} else self.faults.append(f"off-host: {request.url}")
            ),
        )

    def tab_to(self, target: Locator) -> None:
        """Goes there by the Tab key alone."""
        expect(target).to_be_visible()
        for _ in range(_MOST_STOPS):
            if target.evaluate("element => element === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"the Tab key does not lead to {target}")

    def type_into(self, target: Locator, text: str) -> None:
        """Goes there by Tab, and types over what stands there."""
        self.tab_to(target)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(text)

    def press(self, target: Locator) -> None:
        """Goes there by Tab, and presses Enter."""
        self.tab_to(target)
        self.page.keyboard.press("Enter")

    def look(self, scheme: str, width: str) -> None:
        """The same page in another scheme and width, without loading it again."""
        self.page.set_viewport_size({"width": WIDTHS[width], "height": 900})
        self.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
        expect(self.page.locator("html")).to_have_attribute("data-mantine-color-scheme", scheme)

    def overflow_px(self) -> int:
        """By how much the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def _heard(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            (self.refusals if text.startswith(_SAID_OF_ANSWERS) else self.faults).append(f"console {kind}: {text}")


@contextmanager
def open_tab(browser: Browser, url: str, *, scheme: str = "light", width: str = "wide") -> Iterator[Visit]:
    """A tab of a browser of its own, with nothing opened in it yet."""
    context = browser.new_context(
        viewport={"width": WIDTHS[width], "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
        base_url=url,
    )
    context.set_default_timeout(TIMEOUT_MS)
    expect.set_options(timeout=TIMEOUT_MS)
    tab = Visit(context.new_page())
    tab.watch(urlsplit(url).netloc)
    try:
        yield tab
    finally:
        context.close()


def faults_of(axe: Axe, page: Page) -> list[str]:
    """What axe holds to be serious or critical."""
    return [
        f"{rule['id']} at {[node['target'] for node in rule['nodes']][:3]}: {rule['nodes'][0]['failureSummary']}"
        for rule in axe.run(page).response["violations"]
        if rule["impact"] in SERIOUS
    ]
