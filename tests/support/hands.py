"""Two ways to work with a page: by mouse, and by the keyboard alone. A journey is written once, for either."""

from typing import Protocol

from playwright.sync_api import Locator, expect

from tests.support.web_visit import Visit

_MOST_ITEMS, _MOST_STOPS = 40, 80


class Hands(Protocol):
    """What somebody does. Each waits until what it is about is there, and can be used."""

    name: str
    tab: Visit

    def __init__(self, tab: Visit) -> None: ...

    def press(self, target: Locator) -> None:
        """A button, a link or a tab."""
        ...

    def write(self, target: Locator, text: str) -> None:
        """Over what stands there."""
        ...

    def choose(self, target: Locator, value: str) -> None:
        """An option of a select, by its value."""
        ...

    def pick(self, menu: Locator, item: str) -> None:
        """An item of the menu behind a button."""
        ...

    def switch(self, group: Locator, label: str) -> None:
        """One of a row of tabs or segments, of which one is on."""
        ...


class Mouse:
    name = "mouse"

    def __init__(self, tab: Visit) -> None:
        self.tab = tab

    def press(self, target: Locator) -> None:
        target.click()

    def write(self, target: Locator, text: str) -> None:
        target.fill(text)

    def choose(self, target: Locator, value: str) -> None:
        target.select_option(value)

    def pick(self, menu: Locator, item: str) -> None:
        menu.click()
        self.tab.page.get_by_role("menuitem", name=item).click()

    def switch(self, group: Locator, label: str) -> None:
        group.get_by_text(label, exact=True).click()


class Keys:
    name = "keys"

    def __init__(self, tab: Visit) -> None:
        self.tab = tab

    def press(self, target: Locator) -> None:
        expect(target).to_be_enabled()
        self.tab.press(target)

    def write(self, target: Locator, text: str) -> None:
        self.tab.type_into(target, text)

    def choose(self, target: Locator, value: str) -> None:
        self.tab.tab_to(target)
        self.tab.page.keyboard.press("Home")
        for _ in range(_MOST_ITEMS):
            if target.input_value() == value:
                return
            self.tab.page.keyboard.press("ArrowDown")
        raise AssertionError(f"the arrow keys do not lead to {value}")

    def pick(self, menu: Locator, item: str) -> None:
        self.press(menu)
        wanted = self.tab.page.get_by_role("menuitem", name=item)
        expect(wanted).to_be_visible()
        self._arrow_to(wanted, "ArrowDown")
        self.tab.page.keyboard.press("Enter")

    def switch(self, group: Locator, label: str) -> None:
        on = group.locator('input:checked, [role="tab"][aria-selected="true"]').first
        expect(on).to_be_attached()
        for _ in range(_MOST_STOPS):  # a radio behind a segment is there, and not to be seen
            if on.evaluate("element => element === document.activeElement"):
                break
            self.tab.page.keyboard.press("Tab")
        wanted = group.locator(f'label:has-text("{label}"), [role="tab"]:has-text("{label}")').first
        for _ in range(_MOST_ITEMS):
            if wanted.evaluate("e => e.getAttribute('aria-selected') === 'true' || !!(e.control && e.control.checked)"):
                return
            self.tab.page.keyboard.press("ArrowRight")
        raise AssertionError(f"the arrow keys do not lead to {label}")

    def _arrow_to(self, wanted: Locator, key: str) -> None:
        for _ in range(_MOST_ITEMS):
            if wanted.evaluate("element => element === document.activeElement"):
                return
            self.tab.page.keyboard.press(key)
        raise AssertionError(f"the arrow keys do not lead to {wanted}")


HANDS = (Mouse, Keys)
