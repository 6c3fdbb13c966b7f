"""A citizen chooses on the phone, by buttons and words, and the officer's count of an audience follows.

The whole hub, nothing between faked.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.chromium import PATIENCE_MS
from tests.browser.test_console_hub_journey import WARD, Journey, browser, write
from tests.servers import RunningHub

__all__ = ["browser"]  # the fixture
pytestmark = pytest.mark.browser


class Desk:
    """An officer who asks what would happen if this one citizen were sent something now."""

    def __init__(self, hub: RunningHub, http: aiohttp.ClientSession, citizen_key: str) -> None:
        token = (hub.home / "people" / "an.token").read_text("utf-8").strip()
        self._http, self._headers = http, {"authorization": f"Bearer {token}"}
        self._url, self._citizen_key = f"{hub.state.notifier}/v1/send/dry-run", citizen_key

    async def preview(self, **audience: Any) -> tuple[int, dict[str, int]]:
        """How many are meant, and who gets nothing, by reason."""
        content = {"message": {"text": "Thử đếm"}}
        body = {"unit": "district", "content": content, "audience": audience, "citizens": [self._citizen_key]}
        async with self._http.post(self._url, json=body, headers=self._headers) as answer:
            assert answer.status == 200, await answer.text()
            forecast = await answer.json()
        return forecast["people"], forecast["refused"]

    async def sees(self, expected: tuple[int, dict[str, int]], **audience: Any) -> None:
        """The choice travels through four services, so the count follows in a moment."""
        seen = await self.preview(**audience)
        deadline = asyncio.get_running_loop().time() + PATIENCE_MS / 1000
        while seen != expected and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.1)
            seen = await self.preview(**audience)
        assert seen == expected, audience


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def tap(phone: Page, title: str, answer: str) -> None:
    """Tap the newest button of this title and wait for the answer."""
    await phone.get_by_role("button", name=title, exact=True).last.click()
    await expect(phone.locator(".theirs .bubble-text").last).to_contain_text(answer, timeout=PATIENCE_MS)


async def test_what_a_citizen_taps_decides_what_news_they_get_and_in_which_language(
    browser: Browser, hub: RunningHub, http: aiohttp.ClientSession
) -> None:
    journey = Journey("choices", browser, hub)
    meant: tuple[int, dict[str, int]] = (1, {})
    nobody: tuple[int, dict[str, int]] = (0, {})
    async with journey.phone("journey-choices", WARD, "Đặng Văn Khôi") as phone:
        await write(phone, "chọn loại tin")
        await expect(phone.get_by_role("button", name="Nhận tin giao thông")).to_be_visible(timeout=PATIENCE_MS)
        async with http.get(f"{hub.state.simulator}/control/people/{WARD}/journey-choices") as answer:
            person = await answer.json()
        desk = Desk(hub, http, f"{person['oa_id']}:{person['user_id']}")
        await desk.sees(meant, topics=["pccc"])

        await tap(phone, "Nhận tin giao thông", "nhận tin về giao thông")
        await journey.shot(phone, "1-topic")
        await desk.sees(meant, topics=["giao-thong"])
        await desk.sees(nobody, topics=["pccc"])

        await tap(phone, "Chọn khu vực", "phường nào")
        ward = phone.locator(".theirs").last.locator("button.choice").nth(1)  # the first is the page's own
        name = (await ward.inner_text()).removeprefix("Nhận tin ")
        await tap(phone, f"Nhận tin {name}", f"nhận tin của {name}")
        await journey.shot(phone, "2-area")
        await desk.sees(nobody, wards=[WARD])

        await write(phone, "ngừng")
        await expect(phone.locator(".theirs .bubble-text").last).to_contain_text("không nhận tin chung nữa")
        await desk.sees((1, {"contact.opted_out": 1}), topics=["giao-thong"])
        await tap(phone, "Nhận tin lại", "sẽ nhận tin chung")
        await desk.sees(meant, topics=["giao-thong"])

        await desk.sees(meant, languages=["vi"])
        await tap(phone, "English", "come in English")
        await desk.sees(nobody, languages=["vi"])
        await desk.sees(meant, languages=["en"])
        await tap(phone, "Choose topics", "Which news would you like?")
        await journey.shot(phone, "3-english")
        await write(phone, "Tiếng Việt")
        await desk.sees(meant, languages=["vi"])
