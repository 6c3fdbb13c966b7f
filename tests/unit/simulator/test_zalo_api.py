"""Zalo's HTTP edge: answers, headers, limits, and what the log says about each call."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulator.uploads import MEGABYTE
from simulator.world import PAGE_STATES
from tests.unit.simulator.live import APP_SECRET, OA_IDS, WARD, Live, Receiver, running, settings_for

JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 200
GIF = b"GIF89a" + b"\0" * 100
PDF = b"%PDF-1.7\n" + b"\0" * 100


async def ask(live: Live, path: str, token: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
    params = {"data": json.dumps(data)} if data is not None else {}
    return await live.get(path, params=params, headers={"access_token": token})


async def upload(live: Live, token: str, kind: str, name: str, content: bytes) -> dict[str, Any]:
    form = aiohttp.FormData()
    form.add_field("file", content, filename=name)
    async with live.http.post(
        f"{live.url}/v2.0/oa/upload/{kind}", data=form, headers={"access_token": token}
    ) as answer:
        return dict(await answer.json())


async def test_a_sent_message_is_answered_with_strings(live: Live) -> None:
    token, user_id = await live.token(), (await live.write("hỏi"))["user_id"]
    answer = await live.send(token, user_id, "đáp")
    assert answer["error"] == 0
    assert answer["message"] == "Success"
    assert set(answer["data"]) == {"message_id", "user_id", "sent_time", "quota"}
    assert all(isinstance(answer["data"][name], str) for name in ("message_id", "user_id", "sent_time"))
    assert answer["data"]["quota"] == {"quota_type": "reply"}


async def test_the_quota_runs_from_package_to_billed_without_a_quota_object(live: Live) -> None:
    token, user_id = await live.token(), (await live.write("hỏi"))["user_id"]
    await live.post("/control/clock", {"shift_seconds": 49 * 3600 - 25 * 3600 + 3600})
    await live.post("/control/people", {"page": WARD, "citizen": "0901", "last_interaction_hours_ago": 60})
    page = live.simulator.world.page(WARD)
    page.sub_quota_remain = 1
    token = (await live.refresh(live.simulator.tokens._grants[page.oa_id].refresh_token))["access_token"]
    first, second = [await live.send(token, user_id, "đáp") for _ in range(2)]
    quota = first["data"]["quota"]
    assert (quota["quota_type"], quota["remain"], quota["total"]) == ("sub_quota", "0", "500")
    assert "quota" not in second["data"]


async def test_a_message_opens_the_window_and_time_closes_it(live: Live) -> None:
    user_id = (await live.write("hỏi"))["user_id"]
    grant = await live.refresh("first-8")
    await live.post("/control/clock", {"shift_seconds": 7 * 86_400 + 1})
    token = (await live.refresh(grant["refresh_token"]))["access_token"]
    assert (await live.send(token, user_id, "muộn"))["error"] == -230
    await live.write("tôi đây")
    assert (await live.send(token, user_id, "kịp"))["error"] == 0


@pytest.mark.parametrize(("token", "code"), [("", -216), ("never issued", -216)])
async def test_an_unknown_token_is_invalid(live: Live, token: str, code: int) -> None:
    assert await live.send(token, "2000", "x") == {"error": code, "message": "Access token is invalid"}
    [entry] = await live.log(kind="api")
    assert (entry["error"], entry["applied"], entry["oa_id"]) == (code, False, "")


async def test_the_token_may_come_in_the_address_as_old_clients_send_it(live: Live) -> None:
    assert (await live.get("/v2.0/oa/getoa", params={"access_token": await live.token()}))["error"] == 0


@pytest.mark.parametrize(("state", "code"), [item for item in PAGE_STATES.items() if item[1]])
async def test_a_page_in_trouble_answers_its_code_until_it_is_normal(live: Live, state: str, code: int) -> None:
    token, user_id = await live.token(), (await live.write("hỏi"))["user_id"]
    await live.post(f"/control/pages/{WARD}", {"state": state})
    assert (await live.send(token, user_id, "x"))["error"] == code
    await live.post(f"/control/pages/{WARD}", {"state": "normal"})
    assert (await live.send(token, user_id, "x"))["error"] == 0


async def test_a_persons_switch_is_set_through_the_control_api(live: Live) -> None:
    token, user_id = await live.token(), (await live.write("hỏi"))["user_id"]
    await live.post("/control/people", {"page": WARD, "citizen": "0901", "switch": "blocked"})
    assert (await live.send(token, user_id, "x"))["error"] == -217


async def test_the_rate_limit_counts_down_and_then_refuses(tmp_path: Path, hub: Receiver) -> None:
    async with running(settings_for(tmp_path, webhook_url=hub.url, rate_limit_per_minute=3)) as live:
        token, user_id = await live.token(), (await live.write("hỏi"))["user_id"]
        await live.post("/control/clock", {"now": "2026-11-24T03:00:01+00:00"})
        live.simulator.tokens.issue(live.simulator.world.page(WARD))
        token = live.simulator.tokens._grants[OA_IDS[WARD]].access_token
        await live.write("hỏi")
        seen = []
        for _ in range(4):
            async with live.http.post(
                f"{live.url}/v3.0/oa/message/cs",
                json={"recipient": {"user_id": user_id}, "message": {"text": "x"}},
                headers={"access_token": token},
            ) as answer:
                limits = answer.headers.get("X-RateLimit-Limit"), answer.headers.get("X-RateLimit-Remain")
                seen.append(((await answer.json())["error"], answer.status, *limits))
        assert seen == [(0, 200, "3", "2"), (0, 200, "3", "1"), (0, 200, "3", "0"), (-32, 200, "3", "0")]
        await live.post("/control/clock", {"shift_seconds": 60})
        assert (await live.send(token, user_id, "x"))["error"] == 0


async def test_the_proof_is_checked_when_given_and_wanted_when_set(tmp_path: Path, hub: Receiver) -> None:
    async with running(settings_for(tmp_path, webhook_url=hub.url, require_appsecret_proof=True)) as live:
        token, user_id = await live.token(), (await live.write("hỏi"))["user_id"]
        proof = hmac.new(APP_SECRET.encode(), token.encode(), hashlib.sha256).hexdigest()
        assert (await live.send(token, user_id, "x"))["error"] == -242
        assert (await live.send(token, user_id, "x", appsecret_proof="0" * 64))["error"] == -242
        assert (await live.send(token, user_id, "x", appsecret_proof=proof))["error"] == 0


async def test_version_two_sends_no_messages_to_users_any_more(live: Live) -> None:
    token, user_id = await live.token(), (await live.write("hỏi"))["user_id"]
    body = {"recipient": {"user_id": user_id}, "message": {"text": "x"}}
    answer = await live.post("/v2.0/oa/message", body, headers={"access_token": token})
    assert answer == {"error": -240, "message": "MessageV2 API has been shut down, please switch to MessageV3"}


async def test_a_reaction_still_goes_through_version_two(live: Live) -> None:
    token, written = await live.token(), await live.write("cảm ơn")
    body = {
        "recipient": {"user_id": written["user_id"]},
        "sender_action": {"react_icon": "/-heart", "react_message_id": written["msg_id"]},
    }
    assert (await live.post("/v2.0/oa/message", body, headers={"access_token": token}))["error"] == 0
    [item] = (await live.get(f"/control/conversations/{WARD}/{written['user_id']}"))["items"]
    assert item["reaction"] == "/-heart"


@pytest.mark.parametrize("path", ["/v3.0/oa/message/transaction", "/v2.0/oa/unheard-of"])
async def test_what_is_not_built_says_so_with_an_error_code(live: Live, path: str) -> None:
    answer = await live.post(path, {}, headers={"access_token": await live.token()})
    assert answer == {"error": -209, "message": "Not supported this api"}


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b'{"recipient":[],"message":{}}', b"\xff\xfe"])
async def test_a_broken_body_is_refused_politely(live: Live, body: bytes) -> None:
    async with live.http.post(
        f"{live.url}/v3.0/oa/message/cs", data=body, headers={"access_token": await live.token()}
    ) as answer:
        assert answer.status == 200
        assert (await answer.json())["error"] == -201


UPLOADS: list[tuple[str, str, bytes, int]] = [
    ("image", "a.jpg", JPEG, 0),
    ("image", "a.jpg", b"<svg>", -201),
    ("image", "a.gif", GIF, -201),
    ("image", "a.jpg", JPEG + b"\0" * MEGABYTE, -210),
    ("gif", "a.gif", GIF, 0),
    ("file", "a.pdf", PDF, 0),
    ("file", "a.csv", b"a,b\n", 0),
    ("file", "a.exe", b"MZ", -201),
    ("file", "a.pdf", PDF + b"\0" * (5 * MEGABYTE), -210),
    ("file", "a.pdf", b"", -201),
]


@pytest.mark.parametrize(("kind", "name", "content", "code"), UPLOADS)
async def test_uploads_have_zalos_types_and_sizes(live: Live, kind: str, name: str, content: bytes, code: int) -> None:
    answer = await upload(live, await live.token(), kind, name, content)
    assert answer["error"] == code
    if code == 0:
        assert answer["data"]["token" if kind == "file" else "attachment_id"]


async def test_an_uploaded_picture_reaches_the_phone_and_expires_for_sending(live: Live) -> None:
    token, user_id = await live.token(), (await live.write("gửi tôi ảnh"))["user_id"]
    attachment_id = (await upload(live, token, "image", "a.jpg", JPEG))["data"]["attachment_id"]
    element = {"media_type": "image", "attachment_id": attachment_id}
    message = {"attachment": {"type": "template", "payload": {"template_type": "media", "elements": [element]}}}
    assert (await live.send(token, user_id, message))["error"] == 0
    item = (await live.get(f"/control/conversations/{WARD}/{user_id}"))["items"][-1]
    async with live.http.get(item["attachments"][0]["payload"]["url"]) as picture:
        assert await picture.read() == JPEG
        assert picture.headers["Content-Type"] == "image/jpeg"
    await live.post("/control/uploads/expire")
    assert (await live.send(token, user_id, message))["error"] == -100


async def test_a_person_is_described_with_strings_and_a_vietnamese_date(live: Live) -> None:
    token = await live.token()
    written = await live.write("chào", display_name="Bà Hoa")
    detail = (await ask(live, "/v3.0/oa/user/detail", token, {"user_id": written["user_id"]}))["data"]
    assert detail["display_name"] == "Bà Hoa"
    assert detail["user_id_by_app"] == written["user_id_by_app"]
    assert detail["user_is_follower"] is False
    assert len(detail["user_last_interaction_date"].split("/")) == 3
    assert (await ask(live, "/v3.0/oa/user/detail", token, {"user_id": "2999"}))["error"] == -213
    assert (await ask(live, "/v3.0/oa/user/detail", token, {}))["error"] == -201


async def test_the_list_of_people_has_pages_filters_and_limits(live: Live) -> None:
    token = await live.token()
    await live.post("/control/followers", {"page": WARD, "count": 60})
    await live.write("chào", citizen="not a follower")

    async def listed(**data: Any) -> dict[str, Any]:
        return await ask(live, "/v3.0/oa/user/getlist", token, {"offset": 0, "count": 50, **data})

    assert (await listed())["data"]["total"] == 61
    assert len((await listed())["data"]["users"]) == 50
    assert len((await listed(offset=50))["data"]["users"]) == 11
    assert (await listed(is_follower="true"))["data"]["total"] == 60
    assert (await listed(last_interaction_period="TODAY"))["data"]["total"] == 1
    assert (await listed(last_interaction_period="YESTERDAY"))["data"]["total"] == 0
    assert (await listed(count=51))["error"] == -201
    assert (await listed(offset=9952))["error"] == -201
    assert (await listed(last_interaction_period="L3D"))["error"] == -201


async def test_the_page_gives_its_id_under_both_names(live: Live) -> None:
    data = (await ask(live, "/v2.0/oa/getoa", await live.token()))["data"]
    assert data["oaid"] == data["oa_id"] == OA_IDS[WARD]
    assert data["oa_type"] == 4


async def test_conversations_come_as_arrays_newest_first(live: Live) -> None:
    token, user_id = await live.token(), (await live.write("hỏi"))["user_id"]
    await live.send(token, user_id, "đáp")
    await live.write("của người khác", citizen="0902")
    chats = (await ask(live, "/v2.0/oa/listrecentchat", token, {"offset": 0, "count": 10}))["data"]
    assert [(chat["message"], chat["src"]) for chat in chats] == [("của người khác", 1), ("đáp", 0)]
    data = {"user_id": int(user_id), "offset": 0, "count": 10}
    items = (await ask(live, "/v2.0/oa/conversation", token, data))["data"]
    assert [(item["message"], item["from_id"]) for item in items] == [("đáp", OA_IDS[WARD]), ("hỏi", user_id)]
    assert isinstance(items[0]["time"], int)


async def test_the_quota_of_a_person_and_of_the_account(live: Live) -> None:
    token, written = await live.token(), await live.write("hỏi")
    headers = {"access_token": token}
    person = await live.post("/v3.0/oa/quota/message", {"user_id": written["user_id"]}, headers=headers)
    assert person["data"]["last_interaction"].isdigit()
    assert person["data"]["cs_reply"]["remain"] == 8
    assets = await live.post("/v3.0/oa/quota/message", {"quota_owner": "OA", "product_type": "cs"}, headers=headers)
    assert assets["data"][0]["quota_type"] == "sub_quota"


async def test_every_call_is_logged_with_what_it_did(live: Live) -> None:
    token, user_id = await live.token(), (await live.write("hỏi"))["user_id"]
    sent = await live.send(token, user_id, "đáp")
    await live.send(token, "2999", "cho người lạ")
    applied, refused = await live.log(kind="api", oa_id=OA_IDS[WARD], after="2")
    assert (applied["path"], applied["text"], applied["error"]) == ("/v3.0/oa/message/cs", "đáp", 0)
    assert (applied["message_id"], applied["applied"]) == (sent["data"]["message_id"], True)
    assert (refused["user_id"], refused["error"], refused["applied"]) == ("2999", -213, False)
    assert token not in json.dumps(await live.log())
