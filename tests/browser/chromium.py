"""The browser of the tests, and pages in it that are always closed again."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from playwright.async_api import Browser, Frame, Page, Request, async_playwright, expect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
AXE = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
PATIENCE_MS = 60_000
CLOSING_SECONDS = 30.0

expect.set_options(timeout=PATIENCE_MS)


@asynccontextmanager
async def a_browser() -> AsyncIterator[Browser]:
    """Chromium, until the end."""
    assert CHROMIUM, "needs a Chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        async with asyncio.timeout(CLOSING_SECONDS):
            await browser.close()


@asynccontextmanager
async def a_page(browser: Browser, **options: Any) -> AsyncIterator[Page]:
    """A page in a context of its own.

    It is closed where it has come to rest. Chromium loses the order to close a page that has handlers for leaving it
    while one document gives way to the next, and Playwright waits for its end for ever:
    https://github.com/microsoft/playwright/issues/42068. A click waits for the next document, `page.keyboard` does not.
    """
    context = await browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    is_at_rest = at_rest(page)
    yield page
    async with asyncio.timeout(CLOSING_SECONDS):
        await is_at_rest.wait()
        await context.close()


def at_rest(page: Page) -> asyncio.Event:
    """Set while the page is not on its way to another document."""
    event = asyncio.Event()
    event.set()
    newest: list[Request] = []

    def sets_out(request: Request) -> None:
        if request.is_navigation_request() and request.frame == page.main_frame:
            newest[:] = [request]
            event.clear()

    def stays(request: Request) -> None:
        if request in newest:
            event.set()

    def arrives(frame: Frame) -> None:
        if frame == page.main_frame:
            event.set()

    page.on("request", sets_out)
    page.on("requestfailed", stays)
    page.on("framenavigated", arrives)
    return event
