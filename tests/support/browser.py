"""Debian's Chromium, driven by Playwright, without a way to any other machine."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Route, sync_playwright

# Not even its own errands, which no route sees: it finds no address by name.
NO_NAMES = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


@dataclass
class Browser:
    """One window, and what went wrong in it."""

    context: BrowserContext
    strayed: list[str] = field(default_factory=list)
    """Requests for other places than the server under test."""
    complaints: list[str] = field(default_factory=list)
    """Errors on the console, and those that no script caught."""

    def page(self) -> Page:
        """Return a new page."""
        page = self.context.new_page()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)


@contextmanager
def chromium(home: str, names: Mapping[str, str] = {}) -> Iterator[Browser]:
    """Start the browser; only requests that begin with `home` leave it. It finds the `names` at these addresses."""
    program = shutil.which("chromium")
    if not program:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        rules = ", ".join([*(f"MAP {name} {address}" for name, address in names.items()), NO_NAMES])
        arguments = ["--no-sandbox", f"--host-resolver-rules={rules}"]
        launched = playwright.chromium.launch(executable_path=program, args=arguments)
        browser = Browser(launched.new_context(viewport={"width": 1000, "height": 760}, locale="ko-KR"))
        browser.context.set_default_timeout(10_000)

        def fence(route: Route) -> None:
            if route.request.url.startswith(home):
                route.continue_()
            else:
                browser.strayed.append(route.request.url)
                route.abort()

        browser.context.route("**", fence)
        try:
            yield browser
        finally:
            launched.close()
