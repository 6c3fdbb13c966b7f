"""The phone page's server side; the page itself is driven by a browser in another suite."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from yarl import URL

import simulator.phone
from simulator.phone.texts import words_in
from tests.unit.simulator.live import APP_ID, OA_IDS, WARD, Live

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64
STATIC = Path(simulator.phone.__file__).parent / "static"
TEMPLATES = STATIC.parent / "templates"


@pytest.mark.parametrize("path", ["/", "/phones", "/operator", "/?lang=en", "/operator?lang=en"])
async def test_the_page_runs_under_a_policy_without_inline_code(live: Live, path: str) -> None:
    async with live.http.get(live.url + path) as answer:
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


def test_no_script_writes_markup() -> None:
    for script in STATIC.glob("*.js"):
        source = script.read_text("utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", source), script.name


def a_form(content: bytes, name: str = "anh.png") -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("file", content, filename=name)
    return form


def test_both_languages_have_the_same_words_with_the_same_values() -> None:
    vietnamese, english = words_in("vi").all, words_in("en").all
    assert vietnamese.keys() == english.keys()
    values = re.compile(r"\{(\w+)\}")
    assert [key for key in english if set(values.findall(vietnamese[key])) != set(values.findall(english[key]))] == []


def test_every_word_is_used_and_every_used_word_exists() -> None:
    sources = "".join(file.read_text("utf-8") for folder in (STATIC, TEMPLATES) for file in folder.glob("*.j*"))
    quoted = set(re.findall(r"""["'`]([a-z_]+\.[a-z_]+)["'`]""", sources))
    areas = {key.partition(".")[0] for key in words_in("vi").all}
    used = {key for key in quoted if key.partition(".")[0] in areas and not key.endswith(".js")} - {
        "phone.people"
    }  # the last: where the browser keeps them
    assert used <= words_in("vi").all.keys()
    made_of_data = {"kind", "mark", "mood", "state", "outcome", "bubble"}
    unused = {key for key in words_in("vi").all if key not in used and key.partition(".")[0] not in made_of_data}
    assert unused == set()


async def test_the_language_is_asked_for_once(live: Live) -> None:
    async with live.http.get(live.url + "/?lang=en") as answer:
        assert "A citizen&#39;s phone" in (text := await answer.text()) or "A citizen's phone" in text
        cookie = answer.cookies["phone_language"].value
    async with live.http.get(live.url + "/operator", cookies={"phone_language": cookie}) as answer:
        assert 'lang="en"' in await answer.text()
    async with live.http.get(live.url + "/operator?lang=vi") as answer:
        assert 'lang="vi"' in await answer.text()


async def test_a_picture_is_kept_and_served_without_rights(live: Live) -> None:
    async with live.http.post(f"{live.url}/phone/media", data=a_form(PNG)) as answer:
        stored = await answer.json()
    assert stored["type"] == "image"
    async with live.http.get(stored["payload"]["url"]) as answer:
        assert await answer.read() == PNG
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("don.pdf", b"%PDF-1.4", "file"),
        ("don.docx", b"PK\x03\x04", "file"),
        ("don.doc", b"\xd0\xcf\x11\xe0", "file"),
        ("ho.csv", "họ,tên\n".encode(), "file"),
        ("quay.mp4", b"\0\0\0\x18ftypmp42", "video"),
        ("ghi.amr", b"#!AMR\n", "audio"),
        ("anh.gif", b"GIF89a", "gif"),
    ],
)
async def test_a_file_becomes_the_attachment_that_zalo_makes_of_it(
    live: Live, name: str, content: bytes, kind: str
) -> None:
    async with live.http.post(f"{live.url}/phone/media", data=a_form(content, name)) as answer:
        stored = await answer.json()
    assert stored["type"] == kind
    if kind == "file":
        payload = stored["payload"]
        assert (payload["name"], payload["size"]) == (name, str(len(content)))
        assert payload["checksum"] == hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("anh.png", b"<html><script>1</script>"),
        ("anh.png", b""),
        ("a.csv", b""),
        ("a.csv", b"\0\0"),
        ("a.docx", b"x"),
        ("a.zip", b"PK\x03\x04"),
    ],
)
async def test_what_zalo_would_not_take_is_not_kept(live: Live, name: str, content: bytes) -> None:
    async with live.http.post(f"{live.url}/phone/media", data=a_form(content, name)) as answer:
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
