"""The whole hub: a tip from the phone, the right ward's queue, the officer's answer, the phone again, closed."""

import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.browser.test_console_journeys import ARGUMENTS, CHROMIUM, DESK
from tests.servers import RunningHub
from tests.unit.console.house import until

pytestmark = pytest.mark.browser

SHOTS = Path("test-results/console")
TIP = "hồi hôm có hai người bẻ khóa xe nhà bên cạnh ở TCH 21"
WARD = "tan-chanh-hiep"
PATIENCE_MS = 30_000


class Phone:
    """A citizen's phone, through the simulator's control API."""

    def __init__(self, session: aiohttp.ClientSession, simulator: str, citizen: str) -> None:
        self._session = session
        self._simulator = simulator
        self._citizen = citizen
        self._at = ""

    async def write(self, text: str, page: str) -> None:
        """Send a message to a page."""
        body = {"page": page, "citizen": self._citizen, "text": text}
        async with self._session.post(f"{self._simulator}/control/messages", json=body) as answer:
            sent = await answer.json()
            assert sent["webhook"]["status"] == 200, sent
            self._at = f"{sent['oa_id']}/{sent['user_id']}"

    async def has(self, text: str) -> bool:
        """Whether the phone shows this text from the page (`out` is the page's side)."""
        async with self._session.get(f"{self._simulator}/control/conversations/{self._at}") as answer:
            items = (await answer.json())["items"]
        return any(text in (item.get("text") or "") for item in items if item["direction"] == "out")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    assert shutil.which(CHROMIUM or "chromium"), "needs a Chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


async def officer_of(browser: Browser, hub: RunningHub, account: str) -> Page:
    assert hub.state.console is not None
    password = json.loads((hub.home / "demo-accounts.json").read_text("utf-8"))["password"]
    context = await browser.new_context(viewport={"width": DESK[0], "height": DESK[1]}, locale="vi-VN")
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    await page.goto(f"{hub.state.console}/sign-in")
    await page.get_by_label("Tài khoản").fill(account)
    await page.get_by_label("Mật khẩu").fill(password)
    await page.get_by_role("button", name="Đăng nhập").click()
    await page.wait_for_url("**/queue")
    return page


async def test_a_tip_reaches_the_right_ward_is_answered_on_the_phone_and_closed(
    browser: Browser, hub: RunningHub
) -> None:
    page = await officer_of(browser, hub, WARD)
    elsewhere = await officer_of(browser, hub, "thoi-an")
    assert hub.state.simulator is not None
    async with aiohttp.ClientSession() as session:
        phone = Phone(session, hub.state.simulator, "console-journey")
        await phone.write(TIP, "district")
        row = page.locator(".row", has_text="bẻ khóa xe nhà bên cạnh")
        await expect(row).to_be_visible(timeout=PATIENCE_MS)
        await page.screenshot(path=SHOTS / "hub-1-queue.png")
        await expect(elsewhere.locator("#queue")).not_to_contain_text("bẻ khóa xe")
        await row.locator("a").click()
        code = await page.locator(".case-title .code").inner_text()
        assert re.fullmatch(r"Q12-\d{6}-\d{4,}", code)
        await page.get_by_label("Nội dung trả lời").fill("Công an phường đã xác minh xong. Cảm ơn anh/chị.")
        await page.get_by_label("Đóng vụ sau khi gửi").check()
        await page.get_by_role("button", name="Gửi", exact=True).click()
        await page.get_by_role("button", name="Làm ngay").click()
        await until(lambda: phone.has("Công an phường đã xác minh xong"), seconds=30)
        await expect(page.locator(".line.officer .mark")).to_have_text(
            re.compile("Đã gửi|Đã nhận|Đã xem"), timeout=PATIENCE_MS
        )
        await expect(page.locator("#case-head")).to_contain_text("Đã đóng", timeout=PATIENCE_MS)
        await expect(page.locator("#act-reopen")).to_be_visible(timeout=PATIENCE_MS)  # not “close” any more
        await page.screenshot(path=SHOTS / "hub-2-answered.png")
        await page.goto(f"{hub.state.console}/queue?view=closed")
        await expect(page.locator("#queue")).to_contain_text(code)


async def test_an_emergency_is_on_top_and_its_numbers_are_on_the_phone_at_once(
    browser: Browser, hub: RunningHub
) -> None:
    page = await officer_of(browser, hub, WARD)
    assert hub.state.simulator is not None
    async with aiohttp.ClientSession() as session:
        phone = Phone(session, hub.state.simulator, "console-emergency")
        await phone.write("cháy nhà ở TCH 08, có người kẹt trong nhà, cứu với", WARD)
        await until(lambda: phone.has("114"), seconds=20)
    await expect(page.locator(".burning-group .row").first).to_contain_text("cháy nhà ở TCH 08", timeout=PATIENCE_MS)
    await page.screenshot(path=SHOTS / "hub-3-emergency.png")
