"""Request bodies in the shapes of the official SDKs, written by hand, and what each is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.unit.simulator.live import WARD, Live, listening, running, settings_for

CS, V2 = "/v3.0/oa/message/cs", "/v2.0/oa/message"
DAY = "2026-11-24T03:00:00+00:00"  # 10:00 in Vietnam: a broadcast may go out
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64
GIF = b"GIF89a" + b"\0" * 100


def media(**element: Any) -> dict[str, Any]:
    return {"attachment": {"type": "template", "payload": {"template_type": "media", "elements": [element]}}}


def buttons(*listed: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"text": "Chọn", "attachment": {"type": "template", "payload": {"buttons": list(listed), **more}}}


URL_BUTTON = {"title": "Xem", "type": "oa.open.url", "payload": {"url": "https://example.vn"}}
INFO = {"title": "Chia sẻ", "subtitle": "Để tiện liên hệ", "image_url": "https://example.vn/a.png"}

# SDK and its call, the message, the code; $image, $gif, $file, $message stand for ids that exist.
CONSULTATION: list[tuple[str, dict[str, Any], int]] = [
    ("Java, PHP, .NET: text", {"text": "Xin chào"}, 0),
    ("PHP, .NET: quote", {"text": "Vâng", "quote_message_id": "$message"}, 0),
    ("Java: quote under another name", {"text": "Vâng", "react_message_id": "$message"}, 0),
    ("Java, PHP: image by address", media(media_type="image", url="https://example.vn/a.jpg"), 0),
    ("Java, PHP: image by upload", {"text": "Ảnh", **media(media_type="image", attachment_id="$image")}, 0),
    (".NET: gif", media(media_type="gif", attachment_id="$gif", width=100, height=80), 0),
    (".NET: gif without its size", media(media_type="gif", attachment_id="$gif"), -201),
    (".NET, Java: sticker", media(media_type="sticker", attachment_id="bfe458bf64fa8da4d4eb"), 0),
    ("Java, PHP: file", {"attachment": {"type": "file", "payload": {"token": "$file"}}}, 0),
    (
        "Java, PHP, .NET: contact request",
        {"attachment": {"type": "template", "payload": {"template_type": "request_user_info", "elements": [INFO]}}},
        0,
    ),
    ("PHP: buttons", buttons(URL_BUTTON), 0),
    ("PHP: buttons, named", buttons(URL_BUTTON, template_type="button"), 0),
    ("PHP: query button", buttons({"title": "Hỏi", "type": "oa.query.show", "payload": "#hoi"}), 0),
    ("PHP: hidden query", buttons({"title": "Hỏi", "type": "oa.query.hide", "payload": "#hoi"}), 0),
    ("PHP: phone button", buttons({"title": "Gọi", "type": "oa.open.phone", "payload": {"phone_code": "113"}}), 0),
    (
        "PHP: sms button",
        buttons({"title": "Nhắn", "type": "oa.open.sms", "payload": {"phone_code": "113", "content": "x"}}),
        0,
    ),
    (
        "Java: list, of version 2 only",
        {"attachment": {"type": "template", "payload": {"template_type": "list", "elements": [INFO]}}},
        -233,
    ),
    ("Java: an upload of somebody else", media(media_type="image", attachment_id="unknown"), -201),
]


def test_the_handbook_lists_these_bodies() -> None:
    handbook = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text("utf-8").splitlines()
    rows = [f"| {sdk} | {code} |" for sdk, _, code in CONSULTATION]
    assert [row for row in rows if row not in handbook] == [], "add them to docs/simulator.md"


def fill(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: fill(member, ids) for name, member in value.items()}
    if isinstance(value, list):
        return [fill(member, ids) for member in value]
    return ids.get(value, value) if isinstance(value, str) else value


async def post(live: Live, path: str, body: dict[str, Any], token: str) -> dict[str, Any]:
    return await live.post(path, body, headers={"access_token": token})


async def upload(live: Live, kind: str, name: str, content: bytes, token: str) -> str:
    form = aiohttp.FormData()
    form.add_field("file", content, filename=name)
    address = f"{live.url}/v2.0/oa/upload/{kind}"
    async with live.http.post(address, data=form, headers={"access_token": token}) as answer:
        return str(next(iter((await answer.json())["data"].values())))


@pytest.mark.parametrize(("sdk", "message", "code"), CONSULTATION, ids=[row[0] for row in CONSULTATION])
async def test_consultation(tmp_path: Path, sdk: str, message: dict[str, Any], code: int) -> None:
    async with listening() as hub, running(settings_for(tmp_path, webhook_url=hub.url)) as live:
        token, written = await live.token(), await live.write("chào")
        ids = {
            "$message": written["msg_id"],
            "$image": await upload(live, "image", "a.png", PNG, token),
            "$gif": await upload(live, "gif", "a.gif", GIF, token),
            "$file": await upload(live, "file", "a.csv", b"a,b\n", token),
        }
        body = {"recipient": {"user_id": written["user_id"]}, "message": fill(message, ids)}
        assert (await post(live, CS, body, token))["error"] == code, sdk


TARGETS: list[tuple[str, dict[str, Any]]] = [
    ("strings", {"ages": "0,1,2", "gender": "0", "cities": "4,9", "locations": "2", "platform": "1"}),
    ("Java: integers", {"ages": 3, "gender": 0, "locations": 1, "cities": 4, "platform": 1}),
    ("arrays", {"ages": [0, 7], "gender": [1], "locations": [0, 1, 2], "cities": [63], "platform": [1, 2]}),
]


@pytest.mark.parametrize("target", [row[1] for row in TARGETS], ids=[row[0] for row in TARGETS])
async def test_broadcast(tmp_path: Path, target: dict[str, Any]) -> None:
    article = {
        "type": "normal",
        "title": "Lịch tiếp dân",
        "author": "Công an phường",
        "description": "Thứ hai đến thứ sáu",
        "cover": {"cover_type": "photo", "photo_url": "https://example.vn/a.jpg", "status": "show"},
        "body": [{"type": "text", "content": "Từ 7 giờ 30"}, {"type": "image", "url": "https://example.vn/b.jpg"}],
        "status": "show",
        "comment": "hide",
    }
    async with running(settings_for(tmp_path, article_seconds=0)) as live:
        await live.post("/control/clock", {"now": DAY})
        token = await live.token()
        pending = (await post(live, "/v2.0/article/create", article, token))["data"]["token"]
        article_id = (await post(live, "/v2.0/article/verify", {"token": pending}, token))["data"]["id"]
        body = {"recipient": {"target": target}, "message": media(media_type="article", attachment_id=article_id)}
        answer = await post(live, V2, body, token)
        assert answer["error"] == 0
        assert answer["data"]["message_id"]


async def test_anonymous_and_reaction(tmp_path: Path) -> None:
    async with listening() as hub, running(settings_for(tmp_path, webhook_url=hub.url)) as live:
        token = await live.token()
        visitor = await live.write("chào", citizen="visitor", anonymous=True)
        anonymous = {"anonymous_id": visitor["user_id"], "conversation_id": visitor["conversation_id"]}
        assert (await post(live, V2, {"recipient": anonymous, "message": {"text": "Chào bạn"}}, token))["error"] == 0
        written = await live.write("chào")
        action = {"react_icon": "/-heart", "react_message_id": written["msg_id"]}
        reaction = {"recipient": {"user_id": written["user_id"]}, "sender_action": action}
        assert (await post(live, V2, reaction, token))["error"] == 0


LEGACY_ELEMENTS = [
    {"type": "banner", "image_url": "https://example.vn/a.png"},
    {"type": "header", "content": "Thông báo"},
    {"type": "table", "content": [{"key": "Mã", "value": "HS-1"}]},
]


@pytest.mark.parametrize("kind", ["transaction", "promotion"])
async def test_transaction_and_promotion_are_over(tmp_path: Path, kind: str) -> None:
    async with listening() as hub, running(settings_for(tmp_path, webhook_url=hub.url)) as live:
        user_id = (await live.write("chào"))["user_id"]
        payload = {"template_type": f"{kind}_order", "language": "VI", "elements": LEGACY_ELEMENTS, "buttons": []}
        message = {"attachment": {"type": "template", "payload": payload}}
        body = {"recipient": {"user_id": user_id}, "message": message}
        assert (await post(live, f"/v3.0/oa/message/{kind}", body, await live.token()))["error"] == -209
        assert len((await live.get(f"/control/conversations/{WARD}/{user_id}"))["items"]) == 1
