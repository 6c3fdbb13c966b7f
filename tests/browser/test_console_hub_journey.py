"""The whole hub in a real Chromium: a citizen's phone at one end, officers' desks at the other, nothing between faked.

Screenshots of every step, at desk and at phone width, go to the folder that SCREENSHOTS names, to be looked at; so do
the times of `hub ask`, in `arrival.json`.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from playwright.async_api import Browser, Page, expect
from pydantic import SecretStr

from shared.mongo import open_store
from shared.settings import HubSettings
from tests.browser.chromium import AXE, PATIENCE_MS, a_browser, a_page
from tests.browser.screenshots import keep_screenshot
from tests.servers import RunningHub

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
SHOTS = Path(os.environ.get("SCREENSHOTS", "test-results/screenshots"))
DESK, PHONE = (1366, 768), (390, 844)
TIP = "hồi hôm có hai người bẻ khóa xe nhà bên cạnh ở TCH 21"
WARD, OTHER_WARD = "tan-chanh-hiep", "thoi-an"


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with a_browser() as browser:
        yield browser


@dataclass(frozen=True)
class Journey:
    """One story with its screenshots, numbered in their order."""

    name: str
    browser: Browser
    hub: RunningHub

    async def shot(self, page: Page, step: str) -> None:
        """A picture of a step, at the page's own width and, for a desk, as a phone shows it; axe finds nothing."""
        await keep_screenshot(page, SHOTS / f"{self.name}-{step}.png")
        await clean(page, f"{self.name}-{step}")
        if (page.viewport_size or {"width": 0})["width"] == DESK[0]:
            await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
            await keep_screenshot(page, SHOTS / f"{self.name}-{step}-narrow.png")
            assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            await page.set_viewport_size({"width": DESK[0], "height": DESK[1]})

    @asynccontextmanager
    async def phone(self, citizen: str, page: str, name: str) -> AsyncIterator[Page]:
        """A citizen's phone with the conversation with one page open."""
        viewport = {"width": PHONE[0], "height": PHONE[1]}
        async with a_page(
            self.browser, viewport=viewport, has_touch=True, is_mobile=True, reduced_motion="reduce"
        ) as phone:
            await phone.goto(f"{self.hub.state.simulator}/?citizen={citizen}&name={quote(name)}#{page}")
            await expect(phone.locator("#chat-view")).to_be_visible()
            yield phone

    @asynccontextmanager
    async def desk(self, account: str) -> AsyncIterator[Page]:
        """An officer's browser, signed in, with the queue open and its live stream connected."""
        password = json.loads((self.hub.home / "demo-accounts.json").read_text("utf-8"))["password"]
        viewport = {"width": DESK[0], "height": DESK[1]}
        async with a_page(self.browser, viewport=viewport, locale="vi-VN", reduced_motion="reduce") as page:
            await page.goto(f"{self.hub.state.console}/sign-in")
            await page.get_by_label("Tài khoản").fill(account)
            await page.get_by_label("Mật khẩu").fill(password)
            async with page.expect_response(lambda answer: "/live?" in answer.url):
                await page.get_by_role("button", name="Đăng nhập").click()
                await page.wait_for_url("**/queue")
            yield page


async def clean(page: Page, name: str) -> None:
    """Axe finds nothing."""
    await page.evaluate(AXE)
    result = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert [f"{v['id']}: {n['html'][:120]}" for v in result["violations"] for n in v["nodes"]] == [], name


async def write(phone: Page, text: str) -> None:
    """Type into the phone and send."""
    await phone.locator("#text").fill(text)
    await phone.locator("#text").press("Enter")


async def answer(desk: Page, text: str, *, closes: bool = False) -> None:
    """Reply in the case that is open, without waiting for the ten seconds."""
    await desk.get_by_label("Nội dung trả lời").fill(text)
    if closes:
        await desk.get_by_label("Đóng vụ sau khi gửi").check()
    await desk.get_by_role("button", name="Gửi", exact=True).click()
    await desk.get_by_role("button", name="Làm ngay").click()


async def test_a_question_is_answered_by_the_bot_on_the_phone(browser: Browser, hub: RunningHub) -> None:
    journey = Journey("question", browser, hub)
    async with journey.phone("journey-question", WARD, "Trần Thị Bích") as phone:
        await journey.shot(phone, "1-phone")
        await write(phone, "lam can cuoc can giay to gi vay")
        await expect(phone.locator(".theirs .bubble-text").first).to_contain_text("căn cước", ignore_case=True)
        await expect(phone.locator(".theirs .bubble-text").first).to_contain_text("Nguồn")  # not in English
        await expect(phone.locator(".mark.seen")).to_be_visible()
        await journey.shot(phone, "2-answered")


async def test_a_tip_reaches_the_right_ward_is_answered_on_the_phone_and_closed(
    browser: Browser, hub: RunningHub
) -> None:
    journey = Journey("tip", browser, hub)
    async with (
        journey.desk(WARD) as desk,
        journey.desk(OTHER_WARD) as elsewhere,
        journey.phone("journey-tip", "district", "Lê Minh Châu") as phone,
    ):
        await write(phone, "thấy hai thanh niên lạ mặt dòm ngó cắt khóa cổng nhà số 45 TCH 21")
        row = desk.locator(".row", has_text="cắt khóa cổng")
        await expect(row).to_be_visible(timeout=PATIENCE_MS)
        await journey.shot(phone, "1-phone")
        await journey.shot(desk, "2-queue")
        await expect(elsewhere.locator("#queue")).not_to_contain_text("cắt khóa cổng")
        await row.locator("a").click()
        code = await desk.locator(".case-title .code").inner_text()
        assert re.fullmatch(r"Q12-\d{6}-\d{4,}", code)
        await expect(desk.locator("#window")).to_contain_text("miễn phí đến")
        await journey.shot(desk, "3-case")
        await desk.get_by_label("Nội dung trả lời").fill("đang viết dở")
        await desk.get_by_role("button", name="Gửi", exact=True).click()
        await journey.shot(desk, "4-ten-seconds")
        await desk.get_by_role("button", name="Hoàn tác").click()
        await expect(desk.get_by_label("Nội dung trả lời")).to_have_value("đang viết dở")
        await answer(desk, "Công an phường đã xác minh xong. Cảm ơn anh/chị.", closes=True)
        await expect(phone.locator(".theirs", has_text="đã xác minh xong")).to_be_visible(timeout=PATIENCE_MS)
        await journey.shot(phone, "5-answered")
        await expect(desk.locator(".line.officer .mark")).to_have_text("Đã xem", timeout=PATIENCE_MS)
        await expect(desk.locator("#act-reopen")).to_be_visible(timeout=PATIENCE_MS)  # not “close” any more
        await journey.shot(desk, "6-closed")
        await desk.goto(f"{hub.state.console}/queue?view=closed")
        await expect(desk.locator("#queue")).to_contain_text(code)


async def test_a_case_is_handed_over_with_its_picture_and_answered_by_the_next_unit(
    browser: Browser, hub: RunningHub, tmp_path: Path
) -> None:
    journey = Journey("hand-over", browser, hub)
    picture = tmp_path / "bien-so.png"
    async with (
        journey.desk(WARD) as desk,
        journey.desk(OTHER_WARD) as next_desk,
        journey.phone("journey-hand-over", WARD, "Phạm Quốc Dũng") as phone,
    ):
        await keep_screenshot(phone, picture)
        await write(phone, "có nhóm thanh niên tụ tập đua xe gần nhà tôi, tối nào cũng vậy")
        await expect(desk.locator(".row", has_text="tụ tập đua xe")).to_be_visible(timeout=PATIENCE_MS)
        await phone.set_input_files("#image-file", picture)
        await expect(phone.locator(".mine .photo")).to_be_visible()
        await desk.locator(".row", has_text="tụ tập đua xe").locator("a").click()
        await expect(desk.locator(".picture img")).to_be_visible(timeout=PATIENCE_MS)
        await journey.shot(desk, "1-case")
        await desk.keyboard.press("h")
        await desk.get_by_label("Chuyển sang").select_option(OTHER_WARD)
        await desk.get_by_label("Ghi chú cho đơn vị nhận").fill("nhóm này chạy về Lê Thị Riêng")
        await journey.shot(desk, "2-hand-over")
        await desk.get_by_role("button", name="Chuyển", exact=True).click()
        await expect(desk.locator(".row", has_text="tụ tập đua xe").locator(".tag.leaves")).to_contain_text("Thới An")
        await desk.get_by_role("button", name="Làm ngay").click()
        row = next_desk.locator(".row", has_text="tụ tập đua xe")
        await expect(row).to_be_visible(timeout=PATIENCE_MS)
        await expect(desk.locator("#queue")).not_to_contain_text("tụ tập đua xe", timeout=PATIENCE_MS)
        await row.locator("a").click()
        await expect(next_desk.locator(".picture img")).to_be_visible(timeout=PATIENCE_MS)
        await expect(next_desk.locator(".history")).to_contain_text("nhóm này chạy về Lê Thị Riêng")
        await journey.shot(next_desk, "3-next-unit")
        await next_desk.get_by_role("button", name="Hỏi địa điểm").click()
        await write(phone, "English")
        await expect(next_desk.get_by_label("Nội dung trả lời")).to_have_value(re.compile("^Please tell us"))
        await answer(next_desk, "Công an phường Thới An đã tiếp nhận, tối nay sẽ tuần tra.")
        await expect(phone.locator(".theirs", has_text="tối nay sẽ tuần tra")).to_be_visible(timeout=PATIENCE_MS)
        await journey.shot(phone, "4-answered")


async def test_a_hand_over_that_the_router_cannot_carry_out_comes_back_and_leaves_when_it_is_replayed(
    browser: Browser, hub: RunningHub
) -> None:
    journey = Journey("refused", browser, hub)
    store = open_store(HubSettings(mongo_uri=SecretStr(str(hub.state.mongo))))
    async with journey.desk(WARD) as desk, journey.phone("journey-refused", WARD, "Võ Thị Em") as phone:
        await write(phone, "quán đầu hẻm mở loa kẹo kéo tới khuya, cả xóm không ngủ được")
        row = desk.locator(".row", has_text="loa kẹo kéo")
        await expect(row).to_be_visible(timeout=PATIENCE_MS)
        code = await row.locator(".code").inner_text()
        case = await store["cases"].find_one({"code": code})
        assert case is not None
        # Broken by hand: a case of somebody else, as far as the router can tell.
        await store["cases"].update_one({"code": code}, {"$set": {"citizen_key": "nobody"}})
        await row.locator("a").click()
        await desk.wait_for_url(f"**/cases/{code}")  # the keys of the page before are others
        await desk.keyboard.press("h")
        await desk.get_by_label("Chuyển sang").select_option(OTHER_WARD)
        await desk.get_by_role("button", name="Chuyển", exact=True).click()
        await expect(row.locator(".tag.leaves")).to_contain_text("Thới An")
        await desk.get_by_role("button", name="Làm ngay").click()
        await expect(row.locator(".tag.stays")).to_have_text("Chưa chuyển được", timeout=PATIENCE_MS)
        await journey.shot(desk, "1-refused")
        await store["cases"].update_one({"code": code}, {"$set": {"citizen_key": case["citizen_key"]}})
        await command(hub, "dead-letters", "replay", "--all", "--reason", "case.unknown")
        await expect(row).to_have_count(0, timeout=PATIENCE_MS)
    await store.close()


async def test_an_emergency_is_on_top_and_its_numbers_are_on_the_phone_at_once(
    browser: Browser, hub: RunningHub
) -> None:
    journey = Journey("emergency", browser, hub)
    async with (
        journey.desk(WARD) as desk,
        journey.phone("journey-emergency", WARD, "Huỳnh Thị Giang") as phone,
    ):
        await write(phone, "cháy nhà ở TCH 08, có người kẹt trong nhà, cứu với")
        await expect(phone.locator(".theirs .bubble-text").first).to_contain_text("114", timeout=PATIENCE_MS)
        # Other tests' emergencies may be there too, and older ones stand above it.
        fire = desk.locator("#queue .group").first.locator(".row", has_text="cháy nhà ở TCH 08")
        await expect(fire).to_be_visible(timeout=PATIENCE_MS)
        await expect(desk.locator("#queue .group").first).to_have_class(re.compile("burning-group"))
        await expect(desk).to_have_title(re.compile(r"^\(\d+!\)"))
        await journey.shot(phone, "1-phone")
        await journey.shot(desk, "2-queue")
        await fire.locator("a").click()
        await expect(desk.locator("#lines")).to_contain_text("114")
        await journey.shot(desk, "3-case")


WATCH = """(text) => { window.arrivedAt = 0; new MutationObserver(() => {
    if (!window.arrivedAt && document.querySelector('#queue').textContent.includes(text)) window.arrivedAt = Date.now();
}).observe(document.querySelector('#queue'), {childList: true, subtree: true}); }"""


async def test_what_hub_ask_writes_to_the_district_arrives_on_the_open_page_of_the_right_ward(
    browser: Browser, hub: RunningHub
) -> None:
    journey = Journey("ask", browser, hub)
    async with journey.desk(WARD) as desk, journey.desk(OTHER_WARD) as elsewhere:
        await desk.evaluate(WATCH, "bẻ khóa xe nhà bên cạnh")
        asked = await ask(hub, TIP)
        await desk.wait_for_function("window.arrivedAt", timeout=PATIENCE_MS)
        arrived_ms = await desk.evaluate("window.arrivedAt")
        await expect(elsewhere.locator("#queue")).not_to_contain_text("bẻ khóa xe")
        await journey.shot(desk, "1-queue")
    written_ms = await written_at_ms(hub, "journey-ask")
    # The floor: what the same message took to be acknowledged, routed and answered; the page cannot be faster.
    times = {"arrived_on_the_page_ms": round(arrived_ms - written_ms), "steps_of_hub_ask_ms": asked["steps_ms"]}
    print(json.dumps(times))
    (SHOTS / "arrival.json").write_text(json.dumps(times, indent=1) + "\n", "utf-8")
    assert asked["unit"] == WARD
    assert times["arrived_on_the_page_ms"] > 0


async def ask(hub: RunningHub, text: str) -> dict[str, Any]:
    """`hub ask` as an operator types it."""
    said = await command(hub, "ask", text, "--page", "district", "--user", "journey-ask", "--json")
    return dict(json.loads(said))


async def command(hub: RunningHub, *words: str) -> bytes:
    """What `hub` prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", *words),
        cwd=ROOT,
        env=os.environ | {"HUB_HOME": str(hub.home)},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output


async def written_at_ms(hub: RunningHub, citizen: str) -> float:
    """When the simulator took the citizen's message, by the clock of this machine."""
    async with aiohttp.ClientSession(hub.state.simulator) as simulator:
        async with simulator.get(f"/control/people/district/{citizen}") as answer:
            user_id = (await answer.json())["user_id"]
        async with simulator.get("/control/log", params={"user_id": user_id, "event_name": "user_send_text"}) as answer:
            entry = (await answer.json())["items"][0]
    return datetime.fromisoformat(entry["at"]).timestamp() * 1000 - float(entry["ack_ms"])
