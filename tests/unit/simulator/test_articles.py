"""Articles and broadcasts: made in two steps, sent by day, once a day for each follower."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulator.broadcasts import read_target, traits_of
from simulator.errors import ZaloRefusal
from tests.unit.simulator.live import WARD, Live, Receiver, running, settings_for

DAY = "2026-11-24T03:00:00+00:00"  # 10:00 in Vietnam
NIGHT = "2026-11-24T16:00:00+00:00"  # 23:00 in Vietnam
MP4 = b"\0\0\0\x18ftypmp42" + b"\0" * 64


def an_article(**changes: Any) -> dict[str, Any]:
    return {
        "type": "normal",
        "title": "Lịch cấp căn cước lưu động",
        "author": "Công an phường",
        "description": "Thứ bảy, từ 8 giờ",
        "cover": {"cover_type": "photo", "photo_url": "https://example.vn/anh.jpg", "status": "show"},
        "body": [{"type": "text", "content": "Mời bà con <b>mang</b> giấy tờ cũ."}],
    } | changes


class Editor:
    """Publishes as the ward's page."""

    def __init__(self, live: Live, token: str) -> None:
        self.live, self.headers = live, {"access_token": token}

    async def post(self, path: str, body: Any) -> dict[str, Any]:
        return await self.live.post(path, body, headers=self.headers)

    async def get(self, path: str, **params: str) -> dict[str, Any]:
        return await self.live.get(path, params=params, headers=self.headers)

    async def publish(self, **changes: Any) -> str:
        token = (await self.post("/v2.0/article/create", an_article(**changes)))["data"]["token"]
        await self.live.post("/control/clock", {"shift_seconds": 4})
        return str((await self.post("/v2.0/article/verify", {"token": token}))["data"]["id"])

    async def broadcast(self, article_id: str, target: Any = None, **message: Any) -> dict[str, Any]:
        element = {"media_type": "article", "attachment_id": article_id}
        payload = {"template_type": "media", "elements": [element]}
        body = {
            "recipient": {"target": target or {}},
            "message": {"attachment": {"type": "template", "payload": payload}} | message,
        }
        return await self.post("/v2.0/oa/message", body)

    async def broadcasts(self) -> list[dict[str, Any]]:
        return list((await self.live.get(f"/control/pages/{WARD}/broadcasts"))["items"])


@pytest.fixture
async def editor(tmp_path: Path, hub: Receiver) -> AsyncIterator[Editor]:
    async with running(settings_for(tmp_path, webhook_url=hub.url)) as live:
        await live.post("/control/clock", {"now": DAY})
        yield Editor(live, await live.token())


async def test_an_article_is_processed_for_some_seconds(editor: Editor) -> None:
    token = (await editor.post("/v2.0/article/create", an_article()))["data"]["token"]
    assert await editor.post("/v2.0/article/verify", {"token": token}) == {
        "error": -214,
        "message": "Article is being processed",
    }
    await editor.live.post("/control/clock", {"shift_seconds": 4})
    first, second = [await editor.post("/v2.0/article/verify", {"token": token}) for _ in range(2)]
    assert first == second
    detail = (await editor.get("/v2.0/article/getdetail", id=first["data"]["id"]))["data"]
    assert (detail["title"], detail["status"]) == ("Lịch cấp căn cước lưu động", "hide")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"title": "x" * 149}, 0),
        ({"title": "x" * 150}, -210),
        ({"description": "x" * 300}, -210),
        ({"author": "x" * 51}, -210),
        ({"title": ""}, -201),
        ({"type": "other"}, -201),
        ({"body": []}, -201),
        ({"body": [{"type": "music"}]}, -201),
        ({"cover": {"cover_type": "photo", "photo_url": "https://example.vn/ảnh 1.jpg"}}, -201),
        ({"status": "maybe"}, -201),
        ({"type": "video", "video_id": "unknown", "avatar": "https://example.vn/a.jpg"}, -201),
    ],
)
async def test_articles_have_zalos_limits(editor: Editor, changes: dict[str, Any], code: int) -> None:
    assert (await editor.post("/v2.0/article/create", an_article(**changes)))["error"] == code


async def test_a_slice_has_at_most_ten_articles_of_one_type(editor: Editor) -> None:
    ids = [await editor.publish(title=f"Bài {number}") for number in range(3)]
    sliced = (await editor.get("/v2.0/article/getslice", offset="1", limit="10", type="normal"))["data"]
    assert ([media["id"] for media in sliced["medias"]], sliced["total"]) == (ids[1::-1], 3)
    too_many = await editor.get("/v2.0/article/getslice", offset="0", limit="11", type="normal")
    assert too_many == {"error": -201, "message": "maximum limit is 10"}
    untyped = await editor.get("/v2.0/article/getslice", offset="0", limit="1")
    assert untyped["message"] == "type accept only 2 value normal and video."


async def test_an_update_takes_effect_when_it_is_verified(editor: Editor) -> None:
    article_id = await editor.publish()
    changed = an_article(title="Dời sang chủ nhật") | {"id": article_id}
    token = (await editor.post("/v2.0/article/update", changed))["data"]["token"]
    assert (await editor.get("/v2.0/article/getdetail", id=article_id))["data"]["title"] != "Dời sang chủ nhật"
    await editor.live.post("/control/clock", {"shift_seconds": 4})
    assert (await editor.post("/v2.0/article/verify", {"token": token}))["data"]["id"] == article_id
    assert (await editor.get("/v2.0/article/getdetail", id=article_id))["data"]["title"] == "Dời sang chủ nhật"
    assert (await editor.post("/v2.0/article/remove", {"id": article_id}))["error"] == 0
    assert (await editor.get("/v2.0/article/getdetail", id=article_id))["error"] == -201


async def test_a_video_is_converted_before_an_article_can_show_it(editor: Editor) -> None:
    form = aiohttp.FormData()
    form.add_field("file", MP4, filename="a.mp4")
    path = "/v2.0/article/upload_video/preparevideo"
    async with editor.live.http.post(editor.live.url + path, data=form, headers=editor.headers) as answer:
        token = (await answer.json())["data"]["token"]
    assert (await editor.get("/v2.0/article/upload_video/verify", token=token))["data"]["status"] == 3
    await editor.live.post("/control/clock", {"shift_seconds": 4})
    ready = (await editor.get("/v2.0/article/upload_video/verify", token=token))["data"]
    assert (ready["status"], ready["convert_percent"]) == (1, 100)
    await editor.publish(type="video", video_id=ready["video_id"], avatar="https://example.vn/a.jpg")
    assert (await editor.get("/v2.0/article/getslice", type="video"))["data"]["total"] == 1


async def test_a_cover_that_is_too_large_fails_at_verify(editor: Editor) -> None:
    name = editor.live.simulator.media.store_media(b"\xff\xd8\xff" + b"\0" * 1024 * 1024, "jpg")
    cover = {"cover_type": "photo", "photo_url": editor.live.simulator.media_url + name}
    token = (await editor.post("/v2.0/article/create", an_article(cover=cover)))["data"]["token"]
    await editor.live.post("/control/clock", {"shift_seconds": 4})
    answer = await editor.post("/v2.0/article/verify", {"token": token})
    assert answer == {"error": -200, "message": "Upload media failed"}


async def test_people_read_an_article_and_are_counted(editor: Editor) -> None:
    await editor.publish()
    [media] = (await editor.get("/v2.0/article/getslice", type="normal"))["data"]["medias"]
    async with editor.live.http.get(media["link_view"]) as page:
        assert "&lt;b&gt;mang&lt;/b&gt;" in await page.text()
    [media] = (await editor.get("/v2.0/article/getslice", type="normal"))["data"]["medias"]
    assert media["total_view"] == 1


async def test_a_broadcast_reaches_every_follower_once_a_day(editor: Editor) -> None:
    await editor.live.post("/control/followers", {"page": WARD, "count": 30})
    follower = editor.live.simulator.world.contact(editor.live.simulator.world.page(WARD), "follower-1")
    article_id = await editor.publish()
    answer = await editor.broadcast(article_id)
    await editor.live.post("/control/clock", {"shift_seconds": 1_800})
    [item] = (await editor.live.get(f"/control/conversations/{WARD}/{follower.user_id}"))["items"]
    assert (item["msg_id"], item["attachments"][0]["type"]) == (answer["data"]["message_id"], "link")
    await editor.broadcast(article_id)
    await editor.live.post("/control/clock", {"shift_seconds": 1_800})
    await editor.live.post("/control/clock", {"shift_seconds": 86_400 - 3_600})
    await editor.broadcast(article_id)
    await editor.live.post("/control/clock", {"shift_seconds": 1_800})
    sent = await editor.broadcasts()
    assert [(one["delivered"], one["held_back"]) for one in sent] == [(30, 0), (0, 30), (30, 0)]


async def test_a_broadcast_waits_for_the_morning(editor: Editor) -> None:
    article_id = await editor.publish()
    await editor.live.post("/control/clock", {"now": NIGHT})
    assert (await editor.broadcast(article_id))["error"] == -234


async def test_only_a_finished_article_can_be_broadcast(editor: Editor) -> None:
    token = (await editor.post("/v2.0/article/create", an_article()))["data"]["token"]
    assert (await editor.broadcast(token))["error"] == -214
    assert (await editor.broadcast("unknown"))["error"] == -201
    assert (await editor.broadcast("x", attachment=None, text="Xin chào bà con"))["error"] == -233
    await editor.live.post(f"/control/pages/{WARD}", {"state": "unverified"})
    assert (await editor.broadcast("x"))["error"] == -221


async def test_a_target_narrows_who_gets_it(editor: Editor) -> None:
    await editor.live.post("/control/followers", {"page": WARD, "count": 200})
    article_id = await editor.publish()
    await editor.broadcast(article_id, {"ages": "2,3", "gender": 2})
    await editor.live.post("/control/clock", {"shift_seconds": 1_800})
    expected = [traits_of(1, f"follower-{number}") for number in range(1, 201)]
    women = sum(traits.gender == 2 and traits.ages in {2, 3} for traits in expected)
    assert 0 < women < 200
    assert (await editor.broadcasts())[0]["delivered"] == women


@pytest.mark.parametrize("ages", ["2,3", [2, 3], ["2", "3"]])
def test_the_three_spellings_of_a_target_mean_the_same(ages: Any) -> None:
    assert read_target({"ages": ages}) == {"ages": frozenset({2, 3})}


def test_a_target_of_one_number_is_read() -> None:
    assert read_target({"ages": 2, "gender": "0", "platform": ""}) == {"ages": frozenset({2})}


def test_cities_replace_locations() -> None:
    assert read_target({"cities": "4", "locations": "2"}) == {"cities": frozenset({4})}


@pytest.mark.parametrize("target", [{"ages": "8"}, {"wards": "1"}, {"cities": "x"}, "everybody"])
def test_a_target_that_does_not_exist_is_refused(target: Any) -> None:
    with pytest.raises(ZaloRefusal) as refusal:
        read_target(target)
    assert refusal.value.code == -201


async def test_what_a_page_published_survives_a_restart(tmp_path: Path, hub: Receiver) -> None:
    settings = settings_for(tmp_path, webhook_url=hub.url, article_seconds=0)
    async with running(settings) as live:
        article_id = await Editor(live, await live.token()).publish()
    async with running(settings) as live:
        assert article_id in live.simulator.world.page(WARD).articles
        await live.post("/control/reset")
        assert not live.simulator.world.page(WARD).articles


async def test_a_conversation_and_its_tag_survive_a_restart(tmp_path: Path, hub: Receiver) -> None:
    settings = settings_for(tmp_path, webhook_url=hub.url)
    async with running(settings) as live:
        token, user_id = await live.token(), (await live.write("hỏi"))["user_id"]
        await live.send(token, user_id, "đáp")
        tag = {"user_id": user_id, "tag_name": "Khu phố 5"}
        await live.post("/v2.0/oa/tag/tagfollower", tag, headers={"access_token": token})
        before = await live.get(f"/control/conversations/{WARD}/{user_id}")
    async with running(settings) as live:
        assert await live.get(f"/control/conversations/{WARD}/{user_id}") == before
        assert user_id in live.simulator.world.page(WARD).tags["Khu phố 5"]
