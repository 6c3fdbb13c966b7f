"""Fetches what a link in a citizen's message points to, without ever being led into our own network."""

import asyncio
import socket
from types import TracebackType
from typing import Self
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from services.intake.domain import AddressPolicy
from services.intake.errors import (
    AttachmentAnswerRefused,
    AttachmentEmpty,
    AttachmentGone,
    AttachmentServerBusy,
    AttachmentTooLarge,
    AttachmentTooManyRedirects,
    AttachmentUnreachable,
    AttachmentUrlRefused,
)

MAX_REDIRECTS = 3
CONNECT_SECONDS = 5.0
CHUNK_BYTES = 65_536

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({401, 403, 404, 410})
_BUSY = frozenset({408, 425, 429})


class _CheckedResolver(AbstractResolver):
    """Resolves names; the connection then goes to exactly the addresses that were judged here."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        results = await self._resolver.resolve(host, port, family)
        for result in results:
            self._policy.check_address(result["host"])
        return results

    async def close(self) -> None:
        await self._resolver.close()


class AttachmentFetcher:
    """An HTTP client for strangers' links: no proxy and no credentials from the environment, no cookies.

    Use as a context manager.
    """

    def __init__(self, policy: AddressPolicy, *, max_bytes: int, timeout_seconds: float) -> None:
        self._policy = policy
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_CheckedResolver(self._policy), use_dns_cache=False, force_close=True
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=self._timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "binh-yen-intake/1"},
            auto_decompress=False,  # a few compressed bytes must not become gigabytes
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(self, url: str) -> bytes:
        """Fetch the bytes behind a link.

        Raises:
            AttachmentError: of a kind that says whether trying again can help.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._follow(url)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            if isinstance(error, aiohttp.InvalidURL):
                raise AttachmentUrlRefused("not a URL") from None
            raise AttachmentUnreachable(type(error).__name__) from error
        except ValueError:  # aiohttp and yarl raise it for hosts and headers that make no sense
            raise AttachmentUrlRefused("not a URL") from None

    async def _follow(self, url: str) -> bytes:
        if self._session is None:
            raise RuntimeError("use the fetcher as a context manager")
        for _ in range(MAX_REDIRECTS + 1):
            self._policy.check_url(url)
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status not in _REDIRECTS:
                    return await self._read(response)
                url = urljoin(url, response.headers.get("Location", ""))
        raise AttachmentTooManyRedirects(f"more than {MAX_REDIRECTS}")

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        status = response.status
        if status in _GONE:
            raise AttachmentGone(f"HTTP {status}")
        if status in _BUSY or status >= 500:
            raise AttachmentServerBusy(f"HTTP {status}")
        if status != 200:
            raise AttachmentAnswerRefused(f"HTTP {status}")
        if response.content_length is not None and response.content_length > self._max_bytes:
            raise AttachmentTooLarge(f"{response.content_length} bytes")
        content = bytearray()
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            content += chunk
            if len(content) > self._max_bytes:
                raise AttachmentTooLarge(f"more than {self._max_bytes} bytes")
        if not content:
            raise AttachmentEmpty("no bytes")
        return bytes(content)
