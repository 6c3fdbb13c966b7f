"""Screenshots that do not depend on the moment."""

import asyncio
from pathlib import Path

from playwright.async_api import Error, Page

WAITS_SECONDS = (0.5, 1.0, 2.0)


async def keep_screenshot(page: Page, file: Path) -> None:
    """Keep what the page looks like.

    Chromium refuses now and then on a busy machine, while it still draws a window of a new size; it is asked again.
    """
    for wait_seconds in WAITS_SECONDS:
        try:
            await page.screenshot(path=file)
        except Error as error:
            if "Unable to capture screenshot" not in str(error):
                raise
            await asyncio.sleep(wait_seconds)
        else:
            return
    await page.screenshot(path=file)
