"""Our request bodies are what Zalo's documentation shows and what an independent client sends."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from zalo_sdk.oa import Client
from zalo_sdk.oa.ZaloMessage import ZaloAttachment, ZaloMessageBody, ZaloRecipient

from services.notifier.adapters.zalo import ZaloClient
from shared.events import ReplyButton, ReplyContent
from tests.unit.notifier.fakes import RULES
from tests.unit.notifier.zalo_stub import APP_ID, APP_SECRET, Call, ZaloStub

TEXT = "Mời bác mang theo căn cước cũ"
IMAGE = {"template_type": "media", "elements": [{"media_type": "image", "url": "https://hub.example/a.jpg"}]}


@pytest.fixture
async def stub() -> AsyncIterator[ZaloStub]:
    async with ZaloStub(checks_tokens=False) as running:
        yield running


async def ours(stub: ZaloStub, content: ReplyContent, **more: Any) -> Call:
    client = ZaloClient(stub.config(), RULES.errors, timeout_seconds=5, connect_timeout_seconds=2, connections=2)
    async with client:
        await client.send(content, app_id=APP_ID, user_id="2001", access_token="the-token", **more)
    return stub.calls[-1]


async def theirs(stub: ZaloStub, body: ZaloMessageBody) -> Call:
    client = Client(APP_ID, APP_SECRET, access_token="the-token", endpoint_prefix=stub.url)
    await asyncio.to_thread(client.send_message, ZaloRecipient(user_id="2001"), body)
    return stub.calls[-1]


@pytest.mark.parametrize(
    ("content", "body"),
    [
        (ReplyContent(text=TEXT), ZaloMessageBody(text=TEXT)),
        (ReplyContent(text=TEXT, quote_message_id="q1"), ZaloMessageBody(text=TEXT, quote_message_id="q1")),
        (
            ReplyContent(text=TEXT, image_url="https://hub.example/a.jpg"),
            ZaloMessageBody(text=TEXT, attachment=ZaloAttachment("template", IMAGE)),
        ),
        (
            ReplyContent(file_token="file-token"),
            ZaloMessageBody(attachment=ZaloAttachment("file", {"token": "file-token"})),
        ),
    ],
    ids=["text", "quote", "image", "file"],
)
async def test_an_independent_client_sends_the_same(
    stub: ZaloStub, content: ReplyContent, body: ZaloMessageBody
) -> None:
    our_call, their_call = await ours(stub, content), await theirs(stub, body)

    assert our_call.body == their_call.body
    assert our_call.path == their_call.path == "/v3.0/oa/message/cs"
    for header in ("access_token", "Content-Type"):
        assert our_call.headers[header] == their_call.headers[header]


ATTACHED = {"type": "template"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ReplyContent(text=TEXT), {"text": TEXT}),
        (ReplyContent(text=TEXT, quote_message_id="q1"), {"text": TEXT, "quote_message_id": "q1"}),
        (ReplyContent(image_url="https://hub.example/a.jpg"), {"attachment": {**ATTACHED, "payload": IMAGE}}),
        (
            ReplyContent(text=TEXT, image_attachment_id="pic"),
            {
                "text": TEXT,
                "attachment": {
                    **ATTACHED,
                    "payload": {
                        "template_type": "media",
                        "elements": [{"media_type": "image", "attachment_id": "pic"}],
                    },
                },
            },
        ),
        (ReplyContent(file_token="t"), {"attachment": {"type": "file", "payload": {"token": "t"}}}),
        (
            ReplyContent(request_info=("Xin thông tin", "Để trả kết quả", "https://hub.example/i.jpg")),
            {
                "attachment": {
                    **ATTACHED,
                    "payload": {
                        "template_type": "request_user_info",
                        "elements": [
                            {
                                "title": "Xin thông tin",
                                "subtitle": "Để trả kết quả",
                                "image_url": "https://hub.example/i.jpg",
                            }
                        ],
                    },
                }
            },
        ),
        (
            ReplyContent(
                text=TEXT,
                buttons=(
                    ReplyButton(title="Bản đồ", type="oa.open.url", payload="https://hub.example/map"),
                    ReplyButton(title="Thủ tục", type="oa.query.show", payload="#thutuc"),
                    ReplyButton(title="Ẩn", type="oa.query.hide", payload="#an"),
                    ReplyButton(title="Gọi 113", type="oa.open.phone", payload="113"),
                    ReplyButton(title="Nhắn", type="oa.open.sms", payload="84900000001|Xin chào"),
                ),
            ),
            {
                "text": TEXT,
                "attachment": {
                    **ATTACHED,
                    "payload": {
                        "buttons": [
                            {"title": "Bản đồ", "type": "oa.open.url", "payload": {"url": "https://hub.example/map"}},
                            {"title": "Thủ tục", "type": "oa.query.show", "payload": "#thutuc"},
                            {"title": "Ẩn", "type": "oa.query.hide", "payload": "#an"},
                            {"title": "Gọi 113", "type": "oa.open.phone", "payload": {"phone_code": "113"}},
                            {
                                "title": "Nhắn",
                                "type": "oa.open.sms",
                                "payload": {"phone_code": "84900000001", "content": "Xin chào"},
                            },
                        ]
                    },
                },
            },
        ),
    ],
    ids=["text", "quote", "image by url", "image by id", "file", "request info", "buttons"],
)
async def test_a_body_has_the_documented_shape(stub: ZaloStub, content: ReplyContent, message: dict[str, Any]) -> None:
    assert (await ours(stub, content)).body == {"recipient": {"user_id": "2001"}, "message": message}


async def test_an_anonymous_visitor_is_addressed_by_id_and_conversation(stub: ZaloStub) -> None:
    call = await ours(stub, ReplyContent(text=TEXT), conversation_id="c1")

    assert call.path == "/v2.0/oa/message"
    assert call.body == {"recipient": {"anonymous_id": "2001", "conversation_id": "c1"}, "message": {"text": TEXT}}


@pytest.mark.parametrize(("kind", "mime_type"), [("image", "image/jpeg"), ("file", "application/pdf")])
async def test_an_upload_is_the_form_that_an_independent_client_sends(
    stub: ZaloStub, kind: str, mime_type: str
) -> None:
    client = ZaloClient(stub.config(), RULES.errors, timeout_seconds=5, connect_timeout_seconds=2, connections=2)
    async with client:
        await client.upload(
            kind, b"content", filename="a.bin", mime_type=mime_type, app_id=APP_ID, access_token="the-token"
        )
    their_client = Client(APP_ID, APP_SECRET, access_token="the-token", endpoint_prefix=stub.url)
    await asyncio.to_thread(their_client.upload_file, b"content", kind, "a.bin", mime_type)

    our_call, their_call = stub.calls
    assert (our_call.path, our_call.body) == (their_call.path, their_call.body)


async def test_bodies_are_plain_json_in_utf_8(stub: ZaloStub) -> None:
    call = await ours(stub, ReplyContent(text=TEXT))

    assert json.dumps(call.body, ensure_ascii=False).count("căn cước") == 1
    assert call.headers["Content-Type"] == "application/json"
