"""Independent clients from the registries talk to the simulator as they would to Zalo.

zalo-sdk 0.3.0 and elizaos-plugin-zalo 2.0.0a5: bodies, headers and error mapping are their own; only the address is
ours. The handbook lists every call they made with the answers they got; the last test holds it against this run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import elizaos_plugin_zalo
import elizaos_plugin_zalo.client
import pytest
import zalo_sdk
from elizaos_plugin_zalo.client import ZaloClient
from elizaos_plugin_zalo.types import ZaloSendMessageParams
from zalo_sdk.oa import Client, ZaloAction, ZaloAttachment, ZaloMessageBody, ZaloRecipient

from tests.unit.simulator.live import APP_ID, APP_SECRET, OA_IDS, WARD, Live, listening, running, settings_for

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


Runs = dict[tuple[str, str, str], set[int]]
HANDBOOK = Path(__file__).parents[2] / "docs" / "simulator.md"


@pytest.fixture(scope="module")
def runs() -> Runs:
    """What each client called and was answered."""
    return {}


async def note_calls(runs: Runs, client: str, live: Live, after: int) -> None:
    for entry in await live.log(kind="api"):
        if entry["seq"] > after:
            runs.setdefault((client, entry["method"], entry["path"]), set()).add(entry["error"])


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
async def talk(tmp_path: Path, runs: Runs) -> AsyncIterator[Conversation]:
    async with listening() as hub, running(settings_for(tmp_path, webhook_url=hub.url)) as live:
        written = await live.write("làm căn cước cần giấy tờ gì")
        client = Client(APP_ID, APP_SECRET, access_token=await live.token(), endpoint_prefix=live.url)
        own_calls = live.simulator.log.last_seq
        yield Conversation(live, client, written["user_id"], written["msg_id"])
        await note_calls(runs, "zalo-sdk 0.3.0", live, own_calls)


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


async def test_tags_from_first_use_to_removal(talk: Conversation) -> None:
    await asyncio.to_thread(talk.client.tag_follower, talk.user_id, "Khu pho 5")
    assert (await asyncio.to_thread(talk.client.get_tags_of_oa))["data"] == ["Khu pho 5"]
    await asyncio.to_thread(talk.client.rm_follower_from_tag, talk.user_id, "Khu pho 5")
    await asyncio.to_thread(talk.client.rm_tag, "Khu pho 5")
    assert (await asyncio.to_thread(talk.client.get_tags_of_oa))["data"] == []


async def test_a_reaction(talk: Conversation) -> None:
    action = ZaloAction("/-heart", talk.msg_id)
    recipient = ZaloRecipient(user_id=talk.user_id)
    await asyncio.to_thread(talk.client.send_message, recipient, None, action, "action")
    assert (await talk.newest())["reaction"] == "/-heart"


@pytest.mark.parametrize("category", ["transaction", "media"])
async def test_what_is_not_provided_any_more_is_mapped_to_the_clients_error(talk: Conversation, category: str) -> None:
    body, recipient = ZaloMessageBody(text="x"), ZaloRecipient(user_id=talk.user_id)
    with pytest.raises(zalo_sdk.ZaloOAException) as error:
        await asyncio.to_thread(talk.client.send_message, recipient, body, None, category)
    assert error.value._code == -209


@pytest.fixture
async def eliza(tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Conversation]:
    async with listening() as hub, running(settings_for(tmp_path, webhook_url=hub.url)) as live:
        written = await live.write("chào")
        own_calls = live.simulator.log.last_seq
        monkeypatch.setattr(elizaos_plugin_zalo.client, "ZALO_OA_API_BASE", f"{live.url}/v2.0/oa")
        monkeypatch.setattr(elizaos_plugin_zalo.client, "ZALO_OAUTH_API_BASE", f"{live.url}/v4")
        grant = await ZaloClient.refresh_token(APP_ID, APP_SECRET, "first-8")
        client = ZaloClient(grant["access_token"])
        yield Conversation(live, client, written["user_id"], written["msg_id"])
        await client.close()
        await note_calls(runs, "elizaos-plugin-zalo 2.0.0a5", live, own_calls)


async def test_a_refresh_and_the_account_itself(eliza: Conversation) -> None:
    info = await eliza.client.get_oa_info()
    assert (info.oa_id, info.name) == (OA_IDS[WARD], "Công an phường")


async def test_a_refresh_token_that_was_used_is_explained_to_the_client(eliza: Conversation) -> None:
    with pytest.raises(elizaos_plugin_zalo.TokenRefreshError, match="already used"):
        await ZaloClient.refresh_token(APP_ID, APP_SECRET, "first-8")
    assert await eliza.client.get_oa_info()


async def test_a_client_of_the_old_message_call_is_told_to_move(eliza: Conversation) -> None:
    with pytest.raises(elizaos_plugin_zalo.ApiError) as error:
        await eliza.client.send_message(ZaloSendMessageParams(user_id=eliza.user_id, text="x"))
    assert error.value.error_code == -240


async def test_a_client_of_the_old_profile_call_finds_nobody(eliza: Conversation) -> None:
    with pytest.raises(elizaos_plugin_zalo.UserNotFoundError):
        await eliza.client.get_user_profile(eliza.user_id)


def test_the_handbook_lists_these_calls(runs: Runs, request: pytest.FixtureRequest) -> None:
    rows = [
        f"| {client} | `{method} {path}` | {', '.join(map(str, sorted(codes, reverse=True)))} |"
        for (client, method, path), codes in sorted(runs.items())
    ]
    listed = [line for line in HANDBOOK.read_text("utf-8").splitlines() if line.startswith(("| zalo-sdk", "| elizaos"))]
    here = {name for name in globals() if name.startswith("test_")}
    chosen = {getattr(item, "originalname", "") for item in request.session.items if item.path == Path(__file__)}
    if chosen >= here:
        assert rows == listed, "bring the table in docs/simulator.md up to date:\n" + "\n".join(rows)
    else:
        assert {row.rpartition("| ")[0] for row in rows} <= {row.rpartition("| ")[0] for row in listed}
