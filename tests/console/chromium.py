"""A real Chromium: where it is, how it is started, and what of a page is listened to."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from connector_psi.node.config import Layout
from tests.console.stage import PASSWORD, Desk

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
WIDE, NARROW = (1280, 900), (390, 844)
ARTEFACTS = Path(os.environ.get("CONNECTOR_PSI_ARTEFACTS", "build/console"))
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]
_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (e) => window.violations.push(`${e.violatedDirective} ${e.blockedURI}`));
"""

needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="no chromium: the browser tests need Debian's package chromium"
)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    arguments = [
        "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ]  # fmt: skip
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


class Window:
    """A person's browser at one desk; remembers what went wrong on its pages."""

    def __init__(self, browser: Browser, desk: Desk, person: str, **options: Any) -> None:
        self.desk = desk
        self.person = person
        self.context: BrowserContext = browser.new_context(
            ignore_https_errors=True,
            viewport={"width": WIDE[0], "height": WIDE[1]},
            **{"locale": "en-GB", "reduced_motion": "reduce", **options},
        )
        self.context.set_default_timeout(15_000)
        self.page: Page = self.context.new_page()
        self.page.add_init_script(_WATCH)
        self.wrong: list[str] = []
        self.addresses: list[str] = []
        self.page.on(
            "console",
            lambda message: (
                self.wrong.append(f"{message.type}: {message.text}") if message.type in {"error", "warning"} else None
            ),
        )
        self.page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        self.page.on("framenavigated", lambda frame: self.addresses.append(frame.url))

    def open(self, path: str) -> None:
        answer = self.page.goto(self.desk.url + path)
        assert answer is not None
        assert answer.status == 200, (path, answer.status)

    def sign_in(self) -> Window:
        self.open("/sign-in")
        self.page.fill("#id", self.person)
        self.page.fill("#password", PASSWORD)
        self.page.fill("#code", self.desk.code_of(self.person))
        self.page.get_by_role("button", name="Sign in with an account").click()
        self.page.wait_for_url(f"{self.desk.url}/")
        return self

    def press(self, name: str) -> None:
        """Press a button, and wait for the page that comes."""
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=name, exact=True).click()

    @property
    def says(self) -> str:
        return self.page.inner_text("[role=status]")

    @property
    def text(self) -> str:
        return self.page.inner_text("main")

    def until(self, path: str, words: str, tries: int = 60) -> None:
        """Open a page again and again until it says something."""
        for _ in range(tries):
            self.open(path)
            if words in self.text:
                return
            self.page.wait_for_timeout(300)
        raise AssertionError(f"{path} never said {words!r}: {self.text[:500]}")

    def check(self, name: str) -> None:
        """What holds of every page: no error, no violation of the policy, accessible; a screenshot is kept at two widths."""
        for (width, height), colours in ((WIDE, "light"), (NARROW, "dark")):
            self.page.set_viewport_size({"width": width, "height": height})
            self.page.emulate_media(color_scheme=colours)  # type: ignore[arg-type]
            self.picture(f"{name}-{width}")
            wide = self.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{name}: {wide} pixels wide on a screen of {width}"
            assert not (serious := self.serious()), f"{name} at {width}: {serious}"
        self.page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
        self.page.emulate_media(color_scheme="light")
        assert self.page.evaluate("window.violations") == [], name
        assert self.wrong == [], name

    def serious(self) -> list[tuple[str, str]]:
        """What axe finds serious about the page as it is: rule and element."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE_SCRIPT)
        options = {"runOnly": WCAG, "resultTypes": ["violations"]}
        found = self.page.evaluate("(options) => axe.run(document, options)", options)["violations"]
        return [
            (each["id"], each["nodes"][0]["html"][:200]) for each in found if each["impact"] in {"serious", "critical"}
        ]

    def picture(self, name: str) -> None:
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=ARTEFACTS / f"{re.sub(r'[^a-z0-9-]', '-', name)}.png", full_page=True)

    def keeps(self) -> str:
        """Everything that the browser keeps of this console, but for the cookies' random values."""
        kept = self.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
        names = [
            f"{cookie.get('name')}={cookie.get('value') if cookie.get('name') != '__Host-connector-psi' else ''}"
            for cookie in self.context.cookies()
        ]
        return kept + " ".join(names)


def root_of(desk: Desk) -> Path:
    return Layout(desk.directory).root_cert
