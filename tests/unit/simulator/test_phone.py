"""The phone page's server side; the page itself is driven by a browser in another suite."""

from __future__ import annotations

import re
from typing import Any

import aiohttp
import orjson
import pytest
from yarl import URL

from tests.unit.simulator.live import APP_ID, OA_IDS, WARD, Live

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


async def test_the_page_runs_under_a_policy_without_inline_code(live: Live) -> None:
    async with live.http.get(live.url + "/") as answer:
        html, policy = await answer.text(), answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", html)
    assert re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL) == [""]
    assert not re.search(r'(?:src|href)="(?:https?:)?//', html), "assets come from here only"
    for asset in re.findall(r'(?:src|href)="(/static/[^"]+)"', html):
        async with live.http.get(live.url + asset) as answer:
            assert answer.status == 200, asset


async def test_no_script_writes_markup(live: Live) -> None:
    for name in ("phone", "bubbles", "conversation", "people", "words", "api"):
        async with live.http.get(f"{live.url}/static/{name}.js") as answer:
            source = await answer.text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", source), name


def a_form(content: bytes) -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("file", content, filename="anh.png")
    return form


async def test_a_picture_is_kept_and_served_without_rights(live: Live) -> None:
    async with live.http.post(f"{live.url}/phone/media", data=a_form(PNG)) as answer:
        stored = await answer.json()
    assert stored["type"] == "image"
    async with live.http.get(stored["url"]) as answer:
        assert await answer.read() == PNG
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("content", [b"<html><script>1</script>", b"", b"%PDF-1.4"])
async def test_what_is_no_picture_is_not_kept(live: Live, content: bytes) -> None:
    async with live.http.post(f"{live.url}/phone/media", data=a_form(content)) as answer:
        assert answer.status == 415


@pytest.mark.parametrize("name", ["none.png", "..%2Ftokens.json", "a.exe", "%00.png", "tokens.json"])
async def test_only_stored_media_are_served(live: Live, name: str) -> None:
    async with live.http.get(URL(f"{live.url}/media/{name}", encoded=True)) as answer:
        assert answer.status == 404


async def next_event(stream: aiohttp.ClientResponse) -> tuple[str, Any]:
    name, data = "", b""
    async for line in stream.content:
        if line.startswith(b"event: "):
            name = line[7:].strip().decode()
        elif line.startswith(b"data: "):
            data = line[6:]
        elif line == b"\n" and data:
            return name, orjson.loads(data)
    raise AssertionError("the stream ended")


async def test_the_stream_tells_the_past_and_then_every_change(live: Live) -> None:
    token, written = await live.token(), await live.write("hỏi")
    params = {"page": WARD, "citizen": "0901"}
    async with live.http.get(f"{live.url}/phone/stream", params=params) as stream:
        name, snapshot = await next_event(stream)
        assert name == "snapshot"
        assert [item["text"] for item in snapshot["items"]] == ["hỏi"]
        assert snapshot["user_id"] == written["user_id"]
        assert (snapshot["follows"], snapshot["chatted"]) == (False, True)
        sent = await live.send(token, written["user_id"], "<b>đáp</b>")
        name, answer = await next_event(stream)
        assert (name, answer["text"], answer["msg_id"]) == ("item", "<b>đáp</b>", sent["data"]["message_id"])
        name, question = await next_event(stream)
        assert (question["msg_id"], question["state"]) == (written["msg_id"], "seen")


async def test_looking_at_a_page_makes_nobody_reachable(live: Live) -> None:
    async with live.http.get(f"{live.url}/phone/stream", params={"page": WARD, "citizen": "0901"}) as stream:
        user_id = (await next_event(stream))[1]["user_id"]
    token = await live.token()
    assert (await live.send(token, user_id, "x"))["error"] == -213
    listed = await live.get("/v3.0/oa/user/getlist", params={"data": "{}"}, headers={"access_token": token})
    assert listed["data"]["total"] == 0


async def test_the_list_shows_the_last_word_and_what_is_unread(live: Live) -> None:
    token, written = await live.token(), await live.write("hỏi")
    await live.send(token, written["user_id"], "đáp")
    async with live.http.get(f"{live.url}/phone/pages", params={"citizen": "0901"}) as answer:
        ward, district = await answer.json()
    assert (ward["last"]["text"], ward["unread"]) == ("đáp", 1)
    assert (district["last"], district["unread"], district["follows"]) == (None, 0, False)


async def test_consent_sends_the_administrator_back_with_a_code(live: Live) -> None:
    query = {"app_id": APP_ID, "redirect_uri": "http://127.0.0.1:1/callback", "state": "s1", "code_challenge": ""}
    async with live.http.get(f"{live.url}/v4/oa/permission", params=query) as answer:
        assert "Công an phường" in await answer.text()
    form = query | {"oa_id": OA_IDS[WARD]}
    async with live.http.post(f"{live.url}/v4/oa/permission", data=form, allow_redirects=False) as answer:
        assert answer.status == 302
        back = URL(answer.headers["Location"])
    assert (back.query["oa_id"], back.query["state"]) == (OA_IDS[WARD], "s1")
    exchange = {"grant_type": "authorization_code", "code": back.query["code"], "app_id": APP_ID}
    async with live.http.post(
        f"{live.url}/v4/oa/access_token", data=exchange, headers={"secret_key": "app-secret"}
    ) as answer:
        assert (await answer.json())["expires_in"] == "90000"


@pytest.mark.parametrize(
    ("app_id", "redirect_uri", "code"), [("9", "https://x.vn", "-14002"), (APP_ID, "javascript:1", "-14003")]
)
async def test_a_wrong_consent_request_is_refused(live: Live, app_id: str, redirect_uri: str, code: str) -> None:
    query = {"app_id": app_id, "redirect_uri": redirect_uri}
    async with live.http.get(f"{live.url}/v4/oa/permission", params=query) as answer:
        page = await answer.text()
    assert code in page
    assert "<form" not in page
