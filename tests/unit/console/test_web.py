"""Headers, limits and the words of moments."""

import asyncio
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import pytest

from services.console.endpoints.sign_in import local_path
from services.console.web import MAX_BODY_BYTES, Protect, StaticFiles, build_templates, local_moment


async def answer(headers: list[tuple[bytes, bytes]], *, is_secure: bool = False) -> tuple[int, dict[str, str]]:
    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"private")]})
        await send({"type": "http.response.body", "body": b""})

    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return await asyncio.Future()

    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    await Protect(app, is_secure=is_secure)(scope, receive, send)
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


async def test_every_answer_carries_the_security_headers_and_keeps_its_own() -> None:
    status, headers = await answer([])
    assert status == 200
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "private"
    assert "strict-transport-security" not in headers
    assert "strict-transport-security" in (await answer([], is_secure=True))[1]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"content-length", str(MAX_BODY_BYTES).encode())], 200),
        ([(b"content-length", str(MAX_BODY_BYTES + 1).encode())], 413),
        ([(b"content-length", b"-1")], 413),
        ([(b"content-length", b"abc")], 413),
        ([(b"transfer-encoding", b"chunked")], 411),
    ],
)
async def test_a_body_that_is_too_long_or_of_unknown_length_is_refused(
    headers: list[tuple[bytes, bytes]], status: int
) -> None:
    got, answered = await answer(headers)
    assert got == status
    assert "content-security-policy" in answered


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ("/cases/Q12-261124-0042?draft=1", "/cases/Q12-261124-0042?draft=1"),
        ("", "/queue"),
        (None, "/queue"),
        ("https://elsewhere.example/", "/queue"),
        ("//elsewhere.example/", "/queue"),
        ("/\\elsewhere.example/", "/queue"),
        ("javascript:alert(1)", "/queue"),
    ],
)
def test_signing_in_leads_only_to_places_of_ours(wanted: str | None, path: str) -> None:
    assert local_path(wanted) == path


def test_a_moment_is_said_in_local_time_with_the_day_when_it_is_not_today() -> None:
    now = datetime(2026, 11, 24, 18, 0, tzinfo=UTC)  # 01:00 of the 25th in Vietnam
    assert local_moment(datetime(2026, 11, 24, 17, 5, tzinfo=UTC), now) == "00:05"
    assert local_moment(datetime(2026, 11, 24, 16, 5, tzinfo=UTC), now) == "23:05 24/11"
    assert local_moment(datetime(2025, 11, 24, 16, 5, tzinfo=UTC), now) == "23:05 24/11/2025"


def test_static_addresses_change_with_their_content_and_name_only_what_exists() -> None:
    static = StaticFiles()
    assert static.url("console.css") == f"/static/{static.version}/console.css"
    with pytest.raises(KeyError):
        static.url("nothing.js")


def test_the_first_page_with_everything_it_loads_is_under_150_kilobytes_uncompressed() -> None:
    files = StaticFiles().files
    assert sum(len(file.content) for file in files.values()) < 110_000  # leaves 40 kB for the page itself


def test_templates_escape_what_citizens_write() -> None:
    assert build_templates().from_string("{{ x }}").render(x="<script>alert(1)</script>").startswith("&lt;script&gt;")
