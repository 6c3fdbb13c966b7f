"""Independent clients from the registries talk to the simulator as they would to Zalo.

zalo-sdk 0.3.0: bodies, headers and error mapping are its own; only the address is ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zalo_sdk
from zalo_sdk.oa import Client, ZaloAttachment, ZaloMessageBody, ZaloRecipient

from tests.unit.simulator.live import APP_ID, APP_SECRET, WARD, Live, listening, running, settings_for

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


@dataclass
class Conversation:
    live: Live
    client: Any
    user_id: str
    msg_id: str

    async def send(self, **message: Any) -> Any:
        body = ZaloMessageBody(**message)
        return await asyncio.to_thread(self.client.send_message, ZaloRecipient(user_id=self.user_id), body)

    async def newest(self) -> dict[str, Any]:
        items = (await self.live.get(f"/control/conversations/{WARD}/{self.user_id}"))["items"]
        return dict(items[-1])


@pytest.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Conversation]:
    async with listening() as hub, running(settings_for(tmp_path, webhook_url=hub.url)) as live:
        written = await live.write("làm căn cước cần giấy tờ gì")
        client = Client(APP_ID, APP_SECRET, access_token=await live.token(), endpoint_prefix=live.url)
        yield Conversation(live, client, written["user_id"], written["msg_id"])


async def test_text(talk: Conversation) -> None:
    answer = await talk.send(text="Mời bà mang theo căn cước cũ")
    assert answer["message"] == "Success"
    shown = await talk.newest()
    assert (shown["msg_id"], shown["text"]) == (answer["data"]["message_id"], "Mời bà mang theo căn cước cũ")


async def test_quote(talk: Conversation) -> None:
    await talk.send(text="Vâng ạ", quote_message_id=talk.msg_id)
    assert (await talk.newest())["quote_message_id"] == talk.msg_id


async def test_image_upload_and_sending(talk: Conversation) -> None:
    uploaded = await asyncio.to_thread(talk.client.upload_file, PNG, "image", "so-do.png", "image/png")
    element = {"media_type": "image", "attachment_id": uploaded["data"]["attachment_id"]}
    payload = {"template_type": "media", "elements": [element]}
    await talk.send(text="Sơ đồ", attachment=ZaloAttachment("template", payload))
    [picture] = (await talk.newest())["attachments"]
    async with talk.live.http.get(picture["payload"]["url"]) as answer:
        assert await answer.read() == PNG


async def test_file_upload_and_sending(talk: Conversation) -> None:
    uploaded = await asyncio.to_thread(talk.client.upload_file, b"ho,ten\n", "file", "mau.csv", "text/csv")
    await talk.send(attachment=ZaloAttachment("file", {"token": uploaded["data"]["token"]}))
    [shown] = (await talk.newest())["attachments"]
    assert (shown["payload"]["name"], shown["payload"]["size"]) == ("mau.csv", "7")


async def test_user_detail(talk: Conversation) -> None:
    answer = await asyncio.to_thread(talk.client.get_user_detail, talk.user_id)
    assert answer["data"]["user_id"] == talk.user_id


async def test_user_list(talk: Conversation) -> None:
    answer = await asyncio.to_thread(talk.client.get_list, {"offset": 0, "count": 10})
    assert answer["data"]["users"] == [{"user_id": talk.user_id}]


async def test_quota_of_the_account_of_a_person_and_of_a_message(talk: Conversation) -> None:
    account = await asyncio.to_thread(talk.client.get_zalo_oa_quotas, "OA", "cs", "sub_quota")
    assert account["data"][0]["product_type"] == "cs"
    person = await asyncio.to_thread(talk.client.get_zalo_user_quotas, talk.user_id)
    assert person["data"]["last_interaction"].isdigit()
    message = await asyncio.to_thread(talk.client.get_free_response_quota, talk.msg_id)
    assert message["data"]["remain"] == 8


async def test_an_invalid_token_is_mapped_to_the_clients_error(talk: Conversation) -> None:
    talk.client.access_token = "not-a-token"
    with pytest.raises(zalo_sdk.ZaloOAException) as error:
        await talk.send(text="x")
    assert error.value._code == -216


async def test_the_old_profile_call_is_answered_with_an_error_not_a_crash(talk: Conversation) -> None:
    with pytest.raises(zalo_sdk.ZaloOAException):
        await asyncio.to_thread(talk.client.get_profile, talk.user_id)
