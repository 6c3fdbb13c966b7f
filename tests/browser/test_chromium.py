"""How the tests handle their browser."""

import pytest

from tests.browser.chromium import a_browser, a_page

pytestmark = pytest.mark.browser

LEAVES_AT_A_KEY = """<!doctype html><title>here</title><script>
addEventListener("pagehide", () => 0); // as the console has one: without it Chromium closes the page at once
addEventListener("keydown", () => location.assign("/elsewhere"));
</script>"""


async def test_a_page_that_a_key_has_just_sent_elsewhere_is_closed_all_the_same() -> None:
    async with a_browser() as browser:
        for _ in range(10):
            async with a_page(browser) as page:
                await page.route("**/*", lambda route: route.fulfill(body=LEAVES_AT_A_KEY, content_type="text/html"))
                await page.goto("http://here.test/")
                await page.keyboard.press("x")
