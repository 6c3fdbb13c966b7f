"""The phone page in a real Chromium: what a person does and sees, and that nothing a page writes can run."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, FilePayload, Page, expect

from tests.browser.chromium import AXE, CHROMIUM, a_browser, a_page
from tests.browser.screenshots import keep_screenshot
from tests.unit.simulator.live import WARD, Live, Receiver, eventually

TEMPLATE = {"type": "template", "payload": {"buttons": [
    {"title": "Giờ làm việc", "type": "oa.query.show", "payload": "#gio"},
    {"title": "Ẩn", "type": "oa.query.hide", "payload": "#an"},
    {"title": "Cổng dịch vụ", "type": "oa.open.url", "payload": {"url": "https://dichvucong.gov.vn"}},
    {"title": "Gọi", "type": "oa.open.phone", "payload": {"phone_code": "113"}},
]}}  # fmt: skip

PAGE_MAX_BYTES = 150_000
SHOTS = Path(os.environ.get("SCREENSHOTS", "test-results/screenshots"))

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the PATH and none named by CHROMIUM"),
]


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with a_browser() as browser:
        yield browser


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
    viewport = {"width": 390, "height": 844}
    async with a_page(browser, viewport=viewport, has_touch=True, is_mobile=True) as page:
        one = Phone(page, live)
        page.on("console", lambda line: one.complaints.append(line.text) if line.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: one.complaints.append(str(error)))
        await page.goto(live.url + "/")
        await page.locator(".page-row", has_text="Công an phường").click()
        await expect(page.locator("#empty")).to_be_visible()
        yield one
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


async def test_a_reaction_is_given_and_taken_back(phone: Phone, hub: Receiver) -> None:
    page = phone.page
    await phone.write("hỏi")
    await expect(page.locator(".mark")).to_have_text("Đã nhận")
    await phone.live.send(await phone.live.token(), await phone.user_id(), "đáp")
    await page.locator(".theirs .bubble").click()
    await page.locator(".theirs").get_by_role("button", name="Thả cảm xúc").click()
    await page.get_by_role("button", name="Yêu thích").click()
    await expect(page.locator(".reaction")).to_have_text("❤️")
    await expect(page.locator(".reactions")).to_have_count(0)
    await page.locator(".reaction").click()
    await expect(page.locator(".reaction")).to_have_count(0)
    await eventually(lambda: len(hub.named("user_reacted_message")) == 2)
    icons = [one.body["message"]["react_icon"] for one in hub.named("user_reacted_message")]
    assert icons == ["/-heart", "/-remove"]


async def test_a_file_is_sent_with_its_name_and_size(phone: Phone, hub: Receiver) -> None:
    content = b"%PDF-1.4" + b" " * 5_000
    report = FilePayload(name="đơn trình báo.pdf", mimeType="application/pdf", buffer=content)
    await phone.page.set_input_files("#other-file", report)
    await expect(phone.page.locator(".mine .card")).to_contain_text("đơn trình báo.pdf")
    await eventually(lambda: bool(hub.named("user_send_file")))
    [attachment] = hub.named("user_send_file")[0].body["message"]["attachments"]
    payload = attachment["payload"]
    assert (payload["name"], payload["size"], payload["type"]) == ("đơn trình báo.pdf", str(len(content)), "pdf")


@pytest.fixture
async def desk(browser: Browser, live: Live) -> AsyncIterator[Page]:  # noqa: ARG001 - it must outlive the browser's page
    """An operator's browser: its scripts raise no error and its policy refuses nothing."""
    complaints: list[str] = []
    async with a_page(browser, viewport={"width": 1366, "height": 768}) as page:
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type in {"error", "warning"} else None)
        yield page
    assert complaints == []


async def test_the_panel_brings_a_mood_about_and_ends_it(desk: Page, live: Live) -> None:
    token, user_id = await live.token(), (await live.write("hỏi"))["user_id"]
    await desk.goto(f"{live.url}/operator")
    mood = desk.get_by_role("button", name="Quá giới hạn (-32)")
    await mood.click()
    await expect(mood).to_have_attribute("aria-pressed", "true")
    assert [(await live.send(token, user_id, "đáp"))["error"] for _ in range(2)] == [-32, 0]
    await expect(mood).to_have_attribute("aria-pressed", "false")  # once: it is over by itself
    await desk.get_by_label("Bao nhiêu lần").select_option("always")
    await mood.click()
    await expect(mood).to_have_attribute("aria-pressed", "true")
    await mood.click()
    await expect(mood).to_have_attribute("aria-pressed", "false")
    assert (await live.send(token, user_id, "đáp"))["error"] == 0
    await expect(desk.locator(".entry.bad")).to_contain_text("/v3.0/oa/message/cs")


async def test_the_panel_disables_a_page_revokes_its_token_and_moves_the_clock(desk: Page, live: Live) -> None:
    token, user_id = await live.token(), (await live.write("hỏi"))["user_id"]
    await desk.goto(f"{live.url}/operator")
    said = desk.get_by_role("status")
    await desk.get_by_label("Tình trạng").select_option("disabled")
    await expect(said).to_have_text("Đã làm.")
    assert (await live.send(token, user_id, "đáp"))["error"] == -204
    await desk.get_by_role("button", name="Bình thường trở lại").click()
    await expect(said).to_have_text("Mọi thứ đã bình thường.")
    assert (await live.send(token, user_id, "đáp"))["error"] == 0
    await desk.get_by_role("button", name="Thu hồi mã truy cập").click()
    await expect(desk.locator("#token")).to_have_text("Chưa có mã truy cập, hoặc đã hết hạn")
    assert (await live.send(token, user_id, "đáp"))["error"] == -220
    await desk.get_by_role("button", name="+48 giờ").click()
    await expect(desk.locator("#moved")).to_have_text("Đã lệch +2 ngày")
    await desk.get_by_role("button", name="Hết tiền").click()
    await desk.get_by_role("button", name="Dùng hết gói tin").click()
    await expect(desk.locator("#quota")).to_contain_text("Gói còn 0 tin")
    fresh = live.simulator.tokens.issue(live.simulator.world.page(WARD)).access_token
    await live.post("/control/people", {"page": WARD, "citizen": "0901", "last_interaction_hours_ago": 60})
    assert (await live.send(fresh, user_id, "đáp"))["error"] == -321


async def test_several_phones_on_one_screen_are_several_people(desk: Page, live: Live, hub: Receiver) -> None:
    await desk.goto(f"{live.url}/phones?n=2&page={WARD}")
    for number in range(2):
        phone = desk.frame_locator(".wall-phone").nth(number)
        await phone.locator("#text").fill(f"tôi là người {number}")
        await phone.locator("#text").press("Enter")
        await expect(phone.locator(".mark")).to_have_text("Đã nhận")
    senders = {one.body["sender"]["id"] for one in hub.named("user_send_text")}
    assert len(senders) == 2
    await desk.get_by_role("button", name="Thêm điện thoại").click()
    await expect(desk.locator(".wall-phone")).to_have_count(3)
    assert desk.url.endswith(f"n=3&page={WARD}")


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1366, "light")])
async def test_every_page_is_clean_for_axe_fits_the_screen_and_is_light(
    browser: Browser, live: Live, width: int, scheme: Literal["light", "dark"]
) -> None:
    token, citizen = await live.token(), "phone-1"
    written = await live.write("Làm căn cước cần gì?", citizen=citizen)
    msg_id = (await live.send(token, written["user_id"], "Mời bà đến phường"))["data"]["message_id"]
    await live.post("/control/reactions", {"page": WARD, "citizen": citizen, "msg_id": msg_id})
    weights: list[int] = []
    places = {
        "list": ("/?citizen=phone-1", ".page-row"),
        "conversation": (f"/?citizen=phone-1#{WARD}", ".reaction"),
        "nothing-said": (f"/?citizen=phone-2&lang=en#{WARD}", "#empty:not([hidden])"),
        "phones": (f"/phones?n=3&lang=vi&page={WARD}", ".wall-phone"),
        "operator": ("/operator", ".entry"),
    }
    viewport = {"width": width, "height": 844 if width == 390 else 768}
    async with a_page(browser, viewport=viewport, color_scheme=scheme) as page:
        page.on("response", lambda answer: weights.append(int(answer.headers.get("content-length", 0))))
        for name, (path, shown) in places.items():
            await page.goto("about:blank")
            weights.clear()
            await page.goto(live.url + path)
            await page.locator(shown).first.wait_for()
            await keep_screenshot(page, SHOTS / f"phone-{name}-{width}-{scheme}.png")
            await page.evaluate(AXE)
            result = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            found = [f"{v['id']}: {node['html'][:120]}" for v in result["violations"] for node in v["nodes"]]
            assert found == [], name
            assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
            assert sum(weights) <= PAGE_MAX_BYTES * (4 if name == "phones" else 1), f"{name}: {sum(weights)} bytes"
