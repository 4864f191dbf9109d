"""A real browser, Debian's Chromium, in front of a whole installation."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from tests.house import LOOPBACK, House, house

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page

CHROMIUM = "/usr/bin/chromium"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PASSWORD = "four words of chance"
PEOPLE = {"ann": "admin", "bob": "operator"}


@dataclass
class Window:
    """One person at a browser. `complaints`: what the browser itself found amiss, such as a script that was blocked."""

    page: Page
    house: House
    pictures: Path
    complaints: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._dialog)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "status of 4" not in message.text:
            self.complaints.append(message.text)

    def _dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.accept()

    def go(self, path: str) -> None:
        self.page.goto(f"http://{LOOPBACK}:{self.house.admin_port}{path}")

    def sign_in(self, name: str, password: str = PASSWORD) -> None:
        self.go("/login")
        self.page.fill("[name=username]", name)
        self.page.fill("[name=password]", password)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("button", name="Sign out").wait_for()

    def picture(self, name: str) -> None:
        """Keep what is shown, to be looked at."""
        self.page.screenshot(path=self.pictures / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def tendon(tmp_path_factory) -> Iterator[House]:
    """An installation whose rules need a second person's approval; ann is an admin, bob an operator."""
    folder = tmp_path_factory.mktemp("house")
    with house(folder, [], TENDON_RULE_APPROVAL="true") as made:
        for name, role in PEOPLE.items():
            made.tell(PASSWORD, "user", "add", name, "--role", role, "--password-stdin")
        made.start()
        yield made


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def open_window(chromium, tendon, tmp_path):
    """A window with nobody signed in; give it a colour scheme."""
    pictures = Path(os.environ.get("TENDON_PICTURES", tmp_path))
    contexts = []

    def opened(**given) -> Window:
        context = chromium.new_context(viewport={"width": 1280, "height": 860}, **given)
        contexts.append(context)
        return Window(context.new_page(), tendon, pictures)

    yield opened
    for context in contexts:
        context.close()
