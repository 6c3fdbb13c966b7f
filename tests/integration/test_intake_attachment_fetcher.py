"""The attachment fetcher against a real HTTP server on this machine."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from services.intake.adapters.attachment_fetcher import AttachmentFetcher
from services.intake.domain import AddressPolicy
from services.intake.errors import (
    AttachmentAddressRefused,
    AttachmentAnswerRefused,
    AttachmentEmpty,
    AttachmentError,
    AttachmentGone,
    AttachmentServerBusy,
    AttachmentTooLarge,
    AttachmentTooManyRedirects,
    AttachmentUnreachable,
    AttachmentUrlRefused,
)

MAX_BYTES = 100_000
METADATA = "http://169.254.169.254/latest/meta-data/"


class Site:
    """A web site with everything that can go wrong; `base` is its address."""

    def __init__(self) -> None:
        self.base = ""
        self.seen: list[web.Request] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        match request.path.split("/")[1:]:
            case ["picture"]:
                return web.Response(body=b"bytes")
            case ["status", code]:
                return web.Response(status=int(code), body=b"sorry")
            case ["hops", left]:
                where = "/picture" if left == "0" else f"/hops/{int(left) - 1}"
                return web.Response(status=302, headers={"Location": where})
            case ["to"]:
                return web.Response(status=307, headers={"Location": request.query.get("url", "")})
            case ["nowhere"]:
                return web.Response(status=302)
            case ["declared", size]:
                return web.Response(body=b"x" * int(size))
            case ["endless"]:
                return await self._stream(request, pieces=1_000_000)
            case ["broken"]:
                response = await self._stream(request, pieces=2, length=MAX_BYTES)
                assert request.transport is not None
                request.transport.close()
                return response
            case ["silent"]:
                await asyncio.sleep(3_600)
        return web.Response(status=404)

    async def _stream(self, request: web.Request, *, pieces: int, length: int | None = None) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = length
        await response.prepare(request)
        for _ in range(pieces):
            await response.write(b"x" * 1_000)
        return response


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", site.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    site.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield site
    await runner.cleanup()


@pytest.fixture
async def fetcher() -> AsyncIterator[AttachmentFetcher]:
    policy = AddressPolicy(allows_private=True)
    async with AttachmentFetcher(policy, max_bytes=MAX_BYTES, timeout_seconds=5) as fetcher:
        yield fetcher


@pytest.fixture
async def strict() -> AsyncIterator[AttachmentFetcher]:
    policy = AddressPolicy(allows_private=False)
    async with AttachmentFetcher(policy, max_bytes=MAX_BYTES, timeout_seconds=5) as fetcher:
        yield fetcher


async def test_bytes_come_as_they_are(site: Site, fetcher: AttachmentFetcher) -> None:
    assert await fetcher.fetch(f"{site.base}/picture") == b"bytes"


async def test_nothing_of_ours_is_told_to_the_stranger(
    site: Site, fetcher: AttachmentFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    await fetcher.fetch(f"{site.base}/picture")

    headers = site.seen[0].headers
    assert headers["Accept-Encoding"] == "identity"
    assert {"Cookie", "Authorization", "Referer"}.isdisjoint(headers)


@pytest.mark.parametrize("hops", [0, 1, 2])
async def test_up_to_three_redirects_are_followed(site: Site, fetcher: AttachmentFetcher, hops: int) -> None:
    assert await fetcher.fetch(f"{site.base}/hops/{hops}") == b"bytes"


async def test_a_fourth_redirect_is_too_many(site: Site, fetcher: AttachmentFetcher) -> None:
    with pytest.raises(AttachmentTooManyRedirects):
        await fetcher.fetch(f"{site.base}/hops/3")
    assert len(site.seen) == 4


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (METADATA, AttachmentAddressRefused),
        ("http://[fe80::1]/", AttachmentAddressRefused),
        ("http://[::ffff:169.254.169.254]/", AttachmentAddressRefused),
        ("file:///etc/passwd", AttachmentUrlRefused),
        ("ftp://127.0.0.1/a", AttachmentUrlRefused),
        ("http://user:pw@127.0.0.1/", AttachmentUrlRefused),
        ("http://[bad", AttachmentUrlRefused),
    ],
)
async def test_a_redirect_is_judged_like_the_first_link(
    site: Site, fetcher: AttachmentFetcher, target: str, error: type[AttachmentError]
) -> None:
    with pytest.raises(error):
        await fetcher.fetch(f"{site.base}/to?url={target}")
    assert len(site.seen) == 1


async def test_a_redirect_without_a_target_ends(site: Site, fetcher: AttachmentFetcher) -> None:
    with pytest.raises(AttachmentTooManyRedirects):
        await fetcher.fetch(f"{site.base}/nowhere")


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "0"]
)
async def test_outside_a_demonstration_no_spelling_of_this_machine_is_reached(
    site: Site, strict: AttachmentFetcher, host: str
) -> None:
    port = site.base.rpartition(":")[2]

    with pytest.raises(AttachmentError) as caught:
        await strict.fetch(f"https://{host}:{port}/picture")

    assert not caught.value.retryable or isinstance(caught.value, AttachmentUnreachable)
    assert site.seen == []


async def test_a_name_that_leads_inside_is_refused_where_it_is_resolved(strict: AttachmentFetcher) -> None:
    with pytest.raises(AttachmentAddressRefused):
        await strict.fetch("https://localhost/picture")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AttachmentGone),
        (403, AttachmentGone),
        (404, AttachmentGone),
        (410, AttachmentGone),
        (408, AttachmentServerBusy),
        (429, AttachmentServerBusy),
        (500, AttachmentServerBusy),
        (503, AttachmentServerBusy),
        (400, AttachmentAnswerRefused),
        (206, AttachmentAnswerRefused),
        (204, AttachmentAnswerRefused),
    ],
)
async def test_the_status_says_whether_asking_again_can_help(
    site: Site, fetcher: AttachmentFetcher, status: int, error: type[AttachmentError]
) -> None:
    with pytest.raises(error):
        await fetcher.fetch(f"{site.base}/status/{status}")


async def test_the_limit_holds_to_the_byte(site: Site, fetcher: AttachmentFetcher) -> None:
    assert len(await fetcher.fetch(f"{site.base}/declared/{MAX_BYTES}")) == MAX_BYTES
    for path in (f"declared/{MAX_BYTES + 1}", "endless"):
        with pytest.raises(AttachmentTooLarge):
            await fetcher.fetch(f"{site.base}/{path}")


async def test_an_empty_answer_is_no_attachment(site: Site, fetcher: AttachmentFetcher) -> None:
    with pytest.raises(AttachmentEmpty):
        await fetcher.fetch(f"{site.base}/declared/0")


async def test_an_answer_that_breaks_off_may_be_asked_for_again(site: Site, fetcher: AttachmentFetcher) -> None:
    with pytest.raises(AttachmentUnreachable):
        await fetcher.fetch(f"{site.base}/broken")


async def test_silence_ends_with_the_timeout(site: Site) -> None:
    async with AttachmentFetcher(
        AddressPolicy(allows_private=True), max_bytes=MAX_BYTES, timeout_seconds=0.1
    ) as fetcher:
        with pytest.raises(AttachmentUnreachable):
            await fetcher.fetch(f"{site.base}/silent")


async def test_a_closed_port_may_be_asked_again(fetcher: AttachmentFetcher) -> None:
    with pytest.raises(AttachmentUnreachable):
        await fetcher.fetch("http://127.0.0.1:1/")


@pytest.mark.parametrize("url", ["http://exa mple/", "http://\x00/", "http://a..b/", "http://" + "a" * 300 + "/"])
async def test_a_link_that_makes_no_sense_is_an_ordinary_failure(fetcher: AttachmentFetcher, url: str) -> None:
    with pytest.raises(AttachmentError):
        await fetcher.fetch(url)
