"""An officer's night in a real Chromium, against the running console with seeded data.

Screenshots of every page at desk and phone width, light and dark, go to the folder that SCREENSHOTS names (else
`test-results/screenshots/`), to be looked at.
"""

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, Page, expect

from services.console.adapters.console_data import load_quick_replies
from tests.browser.chromium import AXE, a_browser, a_page
from tests.browser.screenshots import keep_screenshot
from tests.unit.console.house import LEAD, PASSWORD, House, open_house, refuse, scratch_name, settings_for, until
from tests.unit.console.world import OTHER_UNIT, PAGE, a_busy_night, a_case, a_code, a_message, a_reply, an_entry, put

pytestmark = pytest.mark.browser

SHOTS = Path(os.environ.get("SCREENSHOTS", "test-results/screenshots"))
DESK, PHONE = (1366, 768), (390, 844)
COUNT_TONES = """() => {
  const make = AudioContext.prototype.createOscillator;
  window.tones = 0;
  AudioContext.prototype.createOscillator = function () { window.tones += 1; return make.call(this); };
}"""


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with a_browser() as browser:
        yield browser


@pytest.fixture
async def house(mongo_uri: str) -> AsyncIterator[House]:
    async with open_house(settings_for(mongo_uri, scratch_name(), console_undo_seconds=20)) as house:
        await a_busy_night(house.store)
        yield house


@asynccontextmanager
async def a_desk(
    browser: Browser,
    house: House,
    account: str | None = PAGE,
    *,
    size: tuple[int, int] = DESK,
    scheme: Literal["light", "dark"] = "light",
) -> AsyncIterator[Page]:
    """An officer's browser; any error of a script or of the security policy fails the test."""
    viewport = {"width": size[0], "height": size[1]}
    async with a_page(browser, viewport=viewport, color_scheme=scheme, locale="vi-VN", reduced_motion="reduce") as page:
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda message: faults.append(message.text) if "Content Security Policy" in message.text else None,
        )
        await page.goto(f"{house.url}/sign-in")
        if account is not None:
            await page.get_by_label("Tài khoản").fill(account)
            await page.get_by_label("Mật khẩu").fill(PASSWORD)
            await page.get_by_role("button", name="Đăng nhập").click()
            await page.wait_for_url("**/queue")
        yield page
        assert faults == []


async def first_codes(page: Page, count: int) -> list[str]:
    return (await page.locator(".row .code").all_inner_texts())[:count]


async def test_the_units_name_is_whole_beside_what_burns_and_a_second_try_begins_at_the_password(
    browser: Browser, house: House
) -> None:
    async with a_desk(browser, house, size=(1180, 800)) as page:
        await expect(page.locator("#burning")).to_contain_text("khẩn cấp")
        unit = page.locator(".bar .unit")
        assert await unit.evaluate("e => e.scrollWidth <= e.clientWidth"), await unit.inner_text()
    async with a_desk(browser, house, None) as page:
        await page.get_by_label("Tài khoản").fill(PAGE)
        await page.get_by_label("Mật khẩu").fill("sai")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_be_visible()
        await expect(page.get_by_label("Mật khẩu")).to_be_focused()


async def test_a_tip_is_answered_undone_answered_again_and_its_marks_come_alive(browser: Browser, house: House) -> None:
    async with a_desk(browser, house) as page:
        await page.get_by_text("sáng dậy mất xe máy").click()
        await expect(page.locator("#window")).to_contain_text("miễn phí đến")
        await page.get_by_role("button", name="Đã nhận tin báo").click()
        await expect(page.get_by_label("Nội dung trả lời")).to_have_value(
            "Công an đã nhận được tin anh/chị báo và đang cử cán bộ xác minh. Anh/chị giữ an toàn, không tự can thiệp. "
            "Nếu thấy nguy hiểm xin gọi ngay 113. Xin cảm ơn."
        )
        await page.get_by_role("button", name="Xem trước").click()
        await expect(page.locator(".phone .bubble")).to_contain_text("đang cử cán bộ xác minh")
        await page.get_by_role("button", name="Gửi", exact=True).click()
        await expect(page.locator(".line.officer .mark")).to_have_text("Chờ gửi")
        await page.get_by_role("button", name="Hoàn tác").click()
        await expect(page.locator(".line.officer")).to_have_count(0)
        reply = page.get_by_label("Nội dung trả lời")
        await expect(reply).to_have_value("Công an đã nhận được tin anh/chị báo và đang cử cán bộ xác minh. "
            "Anh/chị giữ an toàn, không tự can thiệp. Nếu thấy nguy hiểm xin gọi ngay 113. Xin cảm ơn.")  # fmt: skip
        await reply.fill("Cán bộ đang đến nhà anh/chị.")
        await reply.press("Control+Enter")
        await page.get_by_role("button", name="Làm ngay").click()
        await until(lambda: house.published.events)
        (event,) = house.published.events
        assert (event.action, event.text, event.case_code) == ("reply", "Cán bộ đang đến nhà anh/chị.", a_code(40))
        # What the router and the notifier then write:
        case = a_case(40, category="crime_report")
        sent = a_reply(case, event.text, origin="officer", at=datetime.now(UTC)) | {"_id": event.event_id}
        entry = an_entry(case, "officer_reply", at=datetime.now(UTC), by=PAGE, reply_id=event.event_id)
        await put(house.store, reply_ledger=[sent], case_entries=[entry])
        await expect(page.locator(".line.officer .mark")).to_have_text("Đã gửi")
        await house.store["reply_ledger"].update_one({"_id": event.event_id}, {"$set": {"seen_at": datetime.now(UTC)}})
        await expect(page.locator(".line.officer .mark")).to_have_text("Đã xem")
        await expect(page.locator(".history")).to_contain_text("Cán bộ trả lời (bởi Cán bộ Công an")


async def test_a_new_emergency_comes_to_the_top_of_an_open_queue_and_into_the_title_of_every_page(
    browser: Browser, house: House
) -> None:
    async with a_desk(browser, house) as page, a_desk(browser, house, size=PHONE) as phone:
        await page.get_by_role("button", name="Bật").click()
        await expect(page.locator("#announce")).to_have_text("Đã bật âm báo")
        await page.goto(f"{house.url}/queue")
        await page.evaluate(COUNT_TONES)
        await phone.goto(f"{house.url}/cases/{a_code(38)}")
        await phone.get_by_label("Nội dung trả lời").fill("đang viết dở")
        fire = a_case(700, category="emergency", opened_at=datetime.now(UTC), due_at=datetime(2026, 1, 1, tzinfo=UTC))
        await put(house.store, cases=[fire], messages=[a_message(fire, "cháy chung cư, có người kẹt trên lầu")])
        await expect(page.locator(".burning-group .row").first).to_contain_text("cháy chung cư")
        await expect(page).to_have_title("(3!) Hàng việc · Bình Yên")
        await expect(phone.locator("#burning")).to_contain_text("3 khẩn cấp")
        await expect(phone.locator("#alarm")).to_have_text("Có tin khẩn cấp mới")
        await expect(phone.get_by_label("Nội dung trả lời")).to_have_value("đang viết dở")
        assert (await first_codes(page, 1)) == [a_code(700)]
        await expect(page.locator("#alarm")).to_have_text("Có tin khẩn cấp mới")
        assert (await page.evaluate("window.tones"), await page.locator("#ask-sound").count()) == (3, 0)


async def test_a_citizen_who_writes_again_appears_without_disturbing_what_is_being_written(
    browser: Browser, house: House
) -> None:
    async with a_desk(browser, house) as page:
        await page.goto(f"{house.url}/cases/{a_code(40)}")
        await page.locator("#act-hand_over summary").click()
        await page.get_by_label("Ghi chú cho đơn vị nhận").fill("biết rõ hẻm")
        await page.get_by_label("Nội dung trả lời").fill("đang viết dở")
        case = a_case(40)
        quick = page.get_by_role("button", name="Hỏi địa điểm")
        await quick.focus()
        again = a_message(case, "they came back", number=5, at=datetime.now(UTC), language="en")
        await put(house.store, messages=[again])
        await expect(page.locator(".line.citizen").last).to_contain_text("they came back")
        await expect(page.get_by_role("group", name="Câu mẫu")).to_contain_text("Tiếng Anh")
        await expect(quick).to_be_focused()
        await expect(page.get_by_label("Nội dung trả lời")).to_have_value("đang viết dở")
        await quick.press("Enter")
        await expect(page.get_by_label("Nội dung trả lời")).to_have_value(re.compile("dở\nPlease tell us the exact"))
        await page.get_by_label("Nội dung trả lời").fill("đang viết dở")
        await expect(page.get_by_label("Nội dung trả lời")).to_have_value("đang viết dở")
        await expect(page.get_by_label("Ghi chú cho đơn vị nhận")).to_have_value("biết rõ hẻm")
        await expect(page.locator("#announce")).to_have_text("Có tin nhắn mới trong vụ này")


async def test_a_case_is_handed_over_and_the_next_unit_has_everything(browser: Browser, house: House) -> None:
    async with a_desk(browser, house) as page, a_desk(browser, house, OTHER_UNIT) as next_desk:
        await page.goto(f"{house.url}/cases/{a_code(42)}")
        await page.locator("#act-hand_over summary").click()
        await page.get_by_label("Chuyển sang").select_option(OTHER_UNIT)
        await page.get_by_label("Ghi chú cho đơn vị nhận").fill("đối tượng chạy về Thới An")
        await page.get_by_role("button", name="Chuyển", exact=True).click()
        await page.wait_for_url("**/queue")
        await expect(page.locator(".take-back")).to_contain_text(
            "Chuyển vụ Q12-261124-0042 sang Công an phường Thới An"
        )
        await page.get_by_role("button", name="Làm ngay").click()
        await until(lambda: house.published.events)
        (event,) = house.published.events
        assert (event.action, event.to_unit, event.text) == ("hand_over", OTHER_UNIT, "đối tượng chạy về Thới An")
        case = a_case(42)
        note = an_entry(
            case, "officer_hand_over", at=datetime.now(UTC), by=PAGE, text=event.text,
            changes=[{"field": "unit", "from": PAGE, "to": OTHER_UNIT}],
        )  # fmt: skip
        await put(house.store, case_entries=[note])
        await house.store["cases"].update_one({"code": a_code(42)}, {"$set": {"unit": OTHER_UNIT}})
        await expect(page.locator("#queue")).not_to_contain_text("bẻ khóa")
        await next_desk.get_by_text("bẻ khóa xe nhà bên cạnh").click()
        await expect(next_desk.locator(".line.citizen")).to_have_count(3)
        await expect(next_desk.locator(".picture img")).to_be_visible()
        await expect(next_desk.locator(".history")).to_contain_text("đối tượng chạy về Thới An")
        await expect(next_desk.locator(".history")).to_contain_text(
            "Đơn vị: Công an phường Tân Chánh Hiệp → Công an phường Thới An"
        )


async def test_a_case_handed_over_is_on_its_way_on_every_open_queue_and_comes_back_when_undone_or_refused(
    browser: Browser, house: House
) -> None:
    async with a_desk(browser, house) as page, a_desk(browser, house, LEAD, size=PHONE) as colleague:
        row, seen_elsewhere = (
            desk.locator(".row", has=desk.locator(f"#row-{a_code(40)}")) for desk in (page, colleague)
        )
        before = await row.inner_text()
        await page.goto(f"{house.url}/cases/{a_code(40)}")
        await page.keyboard.press("h")
        await page.get_by_label("Chuyển sang").select_option(OTHER_UNIT)
        await page.get_by_label("Ghi chú cho đơn vị nhận").fill("chạy về Thới An")
        await page.get_by_role("button", name="Chuyển", exact=True).click()
        await page.wait_for_url("**/queue")
        assert await row.locator(".tag.leaves").all_inner_texts() == ["Đang chuyển sang Công an phường Thới An"]
        await expect(seen_elsewhere.locator(".tag.leaves")).to_have_text("Đang chuyển sang Công an phường Thới An")
        await keep_screenshot(page, SHOTS / "console-on-its-way.png")
        await page.keyboard.press("u")
        await page.wait_for_url("**draft=**")
        await expect(seen_elsewhere.locator(".tag")).to_have_count(0)
        await page.get_by_role("button", name="Chuyển", exact=True).click()
        await page.get_by_role("button", name="Làm ngay").click()
        await until(lambda: house.published.events)
        await expect(seen_elsewhere.locator(".tag.leaves")).to_be_visible()
        await refuse(house, house.published.events[0])
        await expect(row.locator(".tag.stays")).to_have_text("Chưa chuyển được")
        assert (await row.inner_text()).replace(" Chưa chuyển được", "") == before, "as it was"
        await keep_screenshot(page, SHOTS / "console-refused.png")
        await page.locator(f"#row-{a_code(40)}").press("Enter")
        await expect(page.get_by_role("alert").filter(has_text="không thực hiện được")).to_be_visible()
        await expect(page.get_by_label("Chuyển sang")).to_have_value(OTHER_UNIT)
        await expect(page.get_by_label("Ghi chú cho đơn vị nhận")).to_have_value("chạy về Thới An")
        await keep_screenshot(page, SHOTS / "console-refused-case.png")


async def choose(house: House, number: int, language: str, at: datetime) -> None:
    """What the notifier notes when a citizen taps a language."""
    choice = {f"choices.language.{language}": {"is_on": True, "at": at, "by": "a"}}
    await house.store["contacts"].update_one({"_id": a_case(number)["citizen_key"]}, {"$set": choice})


async def test_an_open_case_follows_the_language_that_the_citizen_chooses_and_keeps_what_the_officer_writes(
    browser: Browser, house: House
) -> None:
    vietnamese, english = (load_quick_replies()[1].texts[language] for language in ("vi", "en"))
    async with a_desk(browser, house) as page:
        await page.goto(f"{house.url}/cases/{a_code(40)}")
        await page.evaluate("window.isThisPage = true")
        reply, told = page.get_by_label("Nội dung trả lời"), page.locator("#language-now")
        quick = page.get_by_role("button", name="Hỏi địa điểm")
        await quick.click()
        await page.get_by_role("button", name="Xem trước").click()
        await expect(page.locator(".phone .bubble")).to_have_text(vietnamese)
        await reply.focus()
        await choose(house, 40, "en", datetime.now(UTC))
        await expect(reply).to_have_value(english)
        await expect(reply).to_be_focused()
        await expect(told).to_have_text("Nay trả lời bằng: Tiếng Anh. Câu mẫu trong ô đã đổi theo.")
        await expect(page.locator(".phone")).to_have_count(0)
        await expect(page.locator("#case-facts")).to_contain_text("Ngôn ngữ đã chọn")
        await keep_screenshot(page, SHOTS / "console-language-followed.png")
        await reply.press("End")
        await reply.press_sequentially(" Số nhà m")
        await reply.evaluate("e => e.setSelectionRange(3, 8)")
        await choose(house, 40, "vi", datetime.now(UTC))
        await expect(told).to_have_text("Nay trả lời bằng: Tiếng Việt. Phần anh/chị đã viết được giữ nguyên.")
        await expect(reply).to_have_value(f"{english} Số nhà m")
        assert await reply.evaluate("e => [e.selectionStart, e.selectionEnd]") == [3, 8]
        await expect(quick).to_have_attribute("title", vietnamese)
        await reply.fill("")
        await quick.press("Enter")
        await expect(reply).to_have_value(vietnamese)
        assert await page.evaluate("window.isThisPage"), "without a reload"
        await page.goto(f"{house.url}/queue")
        await choose(house, 40, "en", datetime.now(UTC))
        await page.goto(f"{house.url}/cases/{a_code(40)}")
        await expect(reply).to_have_value(english)
        await expect(told).to_contain_text("Câu mẫu trong ô đã đổi theo")


async def test_who_opens_a_case_that_is_not_theirs_reads_what_to_do_and_goes_on_by_keys(
    browser: Browser, house: House
) -> None:
    async with a_desk(browser, house) as page:
        for number in (31, 999):  # another unit's, and none at all
            await page.goto(f"{house.url}/cases/{a_code(number)}")
            await expect(page.locator("main [lang=vi]")).to_contain_text("không tồn tại hoặc không thuộc đơn vị")
            await expect(page.locator("main [lang=en]")).to_contain_text("does not exist or is not one of your unit’s")
            await keep_screenshot(page, SHOTS / f"console-no-case-{number}.png")
            await expect(page.get_by_role("link", name="Về hàng việc")).to_be_focused()
            await page.keyboard.press("Enter")
            await page.wait_for_url("**/queue")
        await page.goto(f"{house.url}/cases/{a_code(31)}")
        await page.keyboard.press("q")
        await page.wait_for_url("**/queue")
        await page.goto(f"{house.url}/cases/{a_code(31)}")
        await page.keyboard.press("/")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await page.keyboard.type(a_code(40))
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/cases/{a_code(40)}")


async def test_the_daily_tasks_need_no_mouse(browser: Browser, house: House) -> None:
    async with a_desk(browser, house) as page:
        await (
            page.get_by_role("form", name="Bật âm báo khi có tin khẩn?")
            .get_by_role("button", name="Không")
            .press("Enter")
        )
        await expect(page.locator("#ask-sound")).to_have_count(0)
        await expect(page.locator("#main")).to_be_focused()
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        await page.keyboard.press("k")
        await page.keyboard.press("j")
        focused = await page.evaluate("document.activeElement.id")
        assert focused == f"row-{a_code(41)}"
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/cases/{a_code(41)}")
        await page.keyboard.press("r")
        await page.keyboard.type("jhc chữ thường khi đang viết")
        await expect(page.get_by_label("Nội dung trả lời")).to_have_value("jhc chữ thường khi đang viết")
        await page.keyboard.press("Escape")
        await page.keyboard.press("h")
        await expect(page.get_by_label("Chuyển sang")).to_be_focused()
        await page.keyboard.press("Escape")
        await page.keyboard.press("c")
        await page.keyboard.type("đã dập tắt")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/queue")
        await expect(page.locator(".take-back")).to_contain_text("Đóng vụ")
        await page.keyboard.press("u")
        await expect(page.get_by_label("Kết quả, ghi chú nội bộ")).to_have_value("đã dập tắt")
        await expect(page.get_by_label("Kết quả, ghi chú nội bộ")).to_be_focused()
        await page.keyboard.press("Escape")
        await page.keyboard.press("q")
        await page.wait_for_url("**/queue")
        await page.keyboard.press("/")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await page.keyboard.type(a_code(40).removeprefix("Q12-"))
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/cases/{a_code(40)}")
        await page.keyboard.press("?")
        await page.wait_for_url("**/help")
        await expect(page.get_by_role("heading", name="Phím tắt")).to_be_visible()
        assert house.published.events == []


async def test_single_keys_can_be_turned_off(browser: Browser, house: House) -> None:
    async with a_desk(browser, house) as page:
        await page.goto(f"{house.url}/account")
        await page.get_by_role("group", name="Phím tắt một chữ").get_by_role("button", name="Tắt").click()
        await page.goto(f"{house.url}/queue")
        await page.keyboard.press("?")
        await page.keyboard.press("j")
        assert await page.evaluate("document.activeElement.tagName") == "BODY"
        assert page.url.endswith("/queue")


async def test_the_page_says_when_the_connection_is_lost_and_leaves_when_the_session_ends(
    browser: Browser, house: House
) -> None:
    async with a_desk(browser, house) as page:
        await expect(page.locator("#live")).to_have_attribute("data-state", "on")
        house.deps.live.is_stopping = lambda: True  # every stream ends, and every new one at once
        await expect(page.locator("#live")).to_have_attribute("data-state", "off")
        house.deps.live.is_stopping = lambda: False
        await expect(page.locator("#live")).to_have_attribute("data-state", "on")
        await house.deps.sessions.close_all(PAGE)
        await page.wait_for_url("**/sign-in?over=1")
        await expect(page.get_by_role("status")).to_contain_text("Phiên làm việc đã kết thúc")


PAGES = {
    "queue": "/queue",
    "waiting": "/queue?view=waiting",
    "closed": "/queue?view=closed",
    "nothing-found": "/queue?q=zzzz",
    "emergency": f"/cases/{a_code(42)}",
    "crime": f"/cases/{a_code(40)}",
    "window-closed": f"/cases/{a_code(33)}",
    "case-closed": f"/cases/{a_code(32)}",
    "not-found": "/cases/Q12-000000-0000",
    "account": "/account",
    "help": "/help",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
async def test_every_page_is_clean_for_axe_and_fits_the_screen(
    browser: Browser, house: House, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    async def look(page: Page, name: str) -> None:
        await keep_screenshot(page, SHOTS / f"console-{name}-{size[0]}-{scheme}.png")
        await page.evaluate(AXE)
        result = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        found = [f"{v['id']}: {node['html'][:120]}" for v in result["violations"] for node in v["nodes"]]
        assert found == [], name
        too_wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert too_wide <= 0, f"{name} is {too_wide} px wider than the screen"

    async with a_desk(browser, house, None, size=size, scheme=scheme) as door:
        await look(door, "sign-in")
    async with a_desk(browser, house, LEAD, size=size, scheme=scheme) as lead:
        await look(lead, "lead")
    async with a_desk(browser, house, size=size, scheme=scheme) as page:
        for name, path in PAGES.items():
            await page.goto(house.url + path)
            await look(page, name)
        await page.goto(f"{house.url}/cases/{a_code(40)}")
        for act in await page.locator("details.act > summary").all():
            await act.click()
        await page.get_by_label("Nội dung trả lời").fill("Cán bộ đang đến.")
        await page.get_by_role("button", name="Xem trước").click()
        await page.locator(".phone").wait_for()
        await look(page, "everything-open")
        await page.get_by_role("button", name="Gửi", exact=True).click()
        await page.locator(".take-back").wait_for()
        await expect(page.locator(".mark.undo")).to_be_in_viewport()  # on a phone too
        await look(page, "undo")
        await choose(house, 40, "en", datetime.now(UTC))
        await expect(page.locator("#language-now")).not_to_be_empty()
        await look(page, "language-now")
        for number in (42, 39):
            await page.goto(f"{house.url}/cases/{a_code(number)}")
            await page.locator("#act-hand_over summary").click()
            await page.get_by_label("Chuyển sang").select_option(OTHER_UNIT)
            await page.get_by_role("button", name="Chuyển", exact=True).click()
            await page.wait_for_url("**/queue")
        await look(page, "leaving")
