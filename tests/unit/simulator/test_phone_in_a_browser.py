"""The phone page in a real Chromium: what a person does and sees, and that nothing a page writes can run."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.unit.simulator.live import WARD, Live, Receiver, eventually

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TEMPLATE = {"type": "template", "payload": {"buttons": [
    {"title": "Giờ làm việc", "type": "oa.query.show", "payload": "#gio"},
    {"title": "Ẩn", "type": "oa.query.hide", "payload": "#an"},
    {"title": "Cổng dịch vụ", "type": "oa.open.url", "payload": {"url": "https://dichvucong.gov.vn"}},
    {"title": "Gọi", "type": "oa.open.phone", "payload": {"phone_code": "113"}},
]}}  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the PATH and none named by CHROMIUM"),
]


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        await chromium.close()


@dataclass
class Phone:
    page: Page
    live: Live
    complaints: list[str] = field(default_factory=list)

    async def user_id(self) -> str:
        state = await self.page.evaluate("localStorage['phone.people']")
        citizen = state.split('"citizen":"')[1].split('"')[0]
        return str((await self.live.get(f"/control/people/{WARD}/{citizen}"))["user_id"])

    async def write(self, text: str) -> None:
        await self.page.fill("#text", text)
        await self.page.press("#text", "Enter")


@pytest.fixture
async def phone(browser: Browser, live: Live) -> AsyncIterator[Phone]:
    context = await browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = await context.new_page()
    one = Phone(page, live)
    page.on("console", lambda line: one.complaints.append(line.text) if line.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: one.complaints.append(str(error)))
    await page.goto(live.url + "/")
    await page.locator(".page-row", has_text="Công an phường").click()
    await expect(page.locator("#empty")).to_be_visible()
    yield one
    await context.close()
    assert one.complaints == []


async def test_a_question_is_answered_and_both_sides_see_it(phone: Phone, hub: Receiver) -> None:
    await phone.write("Làm căn cước cần gì?")
    await expect(phone.page.locator(".mark")).to_have_text("Đã nhận")
    await expect(phone.page.locator("#typing")).to_be_visible()
    await phone.live.send(await phone.live.token(), await phone.user_id(), "Mời bà đến phường")
    await expect(phone.page.locator(".theirs .bubble-text")).to_have_text("Mời bà đến phường")
    await expect(phone.page.locator("#typing")).to_be_hidden()
    await expect(phone.page.locator(".mark")).to_have_text("Đã xem")
    await eventually(lambda: bool(hub.named("user_received_message") and hub.named("user_seen_message")))


async def test_markup_in_an_answer_stays_text(phone: Phone) -> None:
    await phone.write("hỏi")
    await expect(phone.page.locator(".mark")).to_have_text("Đã nhận")
    evil = "<img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script>"
    await phone.live.send(await phone.live.token(), await phone.user_id(), evil)
    await expect(phone.page.locator(".theirs .bubble-text")).to_have_text(evil)
    assert await phone.page.locator(".theirs img, .theirs script").count() == 0
    assert await phone.page.title() != "ran"


async def test_buttons_answer_show_open_and_call(phone: Phone, hub: Receiver) -> None:
    await phone.write("hỏi")
    await expect(phone.page.locator(".mark")).to_have_text("Đã nhận")
    message = {"text": "Chọn ạ", "attachment": TEMPLATE}
    await phone.live.send(await phone.live.token(), await phone.user_id(), message)
    page = phone.page
    await expect(page.get_by_text("Cổng dịch vụ")).to_be_visible()
    assert await page.locator(".choice", has_text="Cổng").get_attribute("href") == "https://dichvucong.gov.vn/"
    assert await page.locator(".choice", has_text="Gọi").get_attribute("href") == "tel:113"
    await page.locator(".choice", has_text="Giờ").click()
    await expect(page.locator(".mine .bubble-text").last).to_have_text("#gio")
    await page.locator(".choice", has_text="Ẩn").click()
    await eventually(
        lambda: [one.body["message"]["text"] for one in hub.named("user_send_text")][1:] == ["#gio", "#an"]
    )
    await expect(page.get_by_text("#an")).to_have_count(0)


async def test_a_place_and_a_quoted_message_reach_the_hub(phone: Phone, hub: Receiver) -> None:
    page = phone.page
    await page.click("#attach")
    await page.click("#attach-location")
    await page.fill("#latitude", "10.8668")
    await page.fill("#longitude", "106.6262")
    await page.get_by_text("Gửi tọa độ này").click()
    await expect(page.locator(".map")).to_be_visible()
    await page.locator(".mine .stamp").first.click()
    await page.get_by_role("button", name="Trả lời tin này", exact=True).click()
    await phone.write("Cháy ở đây")
    await eventually(lambda: len(hub.received) == 2)
    place, text = (one.body["message"] for one in hub.received)
    assert place["attachments"][0]["payload"]["coordinates"] == {"latitude": "10.8668", "longitude": "106.6262"}
    assert text["quote_msg_id"] == place["msg_id"]


async def test_a_message_that_the_hub_refused_says_when_it_goes_again(phone: Phone, hub: Receiver) -> None:
    await phone.live.post("/control/webhook", {"time_scale": 1})
    hub.statuses = [500]
    await phone.write("có ai không")
    words = "Trang chưa nhận được tin; Zalo sẽ gửi lại sau 30 giây"
    await expect(phone.page.locator(".mark.refused")).to_have_text(words)
    await phone.live.post("/control/webhook/retry-now")
    await expect(phone.page.locator(".mark")).to_have_text("Đã nhận")


async def test_following_is_one_touch(phone: Phone, hub: Receiver) -> None:
    await phone.page.get_by_role("button", name="Quan tâm").click()
    await expect(phone.page.get_by_role("button", name="Đang quan tâm")).to_be_visible()
    assert [one.event_name for one in hub.received] == ["follow"]


async def test_everything_to_touch_is_large_enough_and_nothing_overflows(phone: Phone) -> None:
    await phone.write("hỏi")
    await expect(phone.page.locator(".mark")).to_have_text("Đã nhận")
    small = await phone.page.evaluate(
        """() => [...document.querySelectorAll('button, a, input, textarea')]
            .filter((one) => one.offsetParent && one.getBoundingClientRect().height < 44)
            .map((one) => one.id || one.className)"""
    )
    assert small == []
    assert await phone.page.evaluate("document.documentElement.scrollWidth") == 390
    sizes = await phone.page.evaluate(
        "[...document.querySelectorAll('input, textarea')].map((one) => getComputedStyle(one).fontSize)"
    )
    assert set(sizes) == {"16px"}
