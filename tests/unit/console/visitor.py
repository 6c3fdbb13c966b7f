"""A browser without a screen, and a program: what tests send to a running console."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.unit.console.house import PASSWORD


class Visitor:
    """Keeps cookies and the CSRF token like a browser."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url
        self.csrf = ""

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Status and text of a page; redirects are not followed."""
        async with self.session.get(self.url + path, headers=headers, allow_redirects=False) as answer:
            return answer.status, await answer.text(errors="replace")

    async def post(self, path: str, fields: dict[str, str] | None = None, **headers: str) -> tuple[int, str]:
        """Send a form with the CSRF token; answers status and text, or where a redirect leads."""
        data = {"csrf": self.csrf} | (fields or {})
        async with self.session.post(self.url + path, data=data, headers=headers, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("location") or await answer.text()

    async def sign_in(self, account: str, password: str = PASSWORD) -> int:
        """Sign in as in a browser; answers the status."""
        status, _ = await self.post("/sign-in", {"account": account, "password": password})
        if status == 303:
            _, page = await self.get("/account")
            found = re.search(r'name="csrf" value="([^"]+)"', page)
            assert found is not None
            self.csrf = found[1]
        return status


@asynccontextmanager
async def a_visitor(url: str, account: str | None = None) -> AsyncIterator[Visitor]:
    """A browser, signed in if an account is named."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        visitor = Visitor(session, url)
        if account is not None:
            assert await visitor.sign_in(account) == 303
        yield visitor


class Program:
    """Speaks to the API with a token."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session = session
        self._url = url
        self._headers = {"authorization": f"Bearer {token}"}

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        async with self._session.request(
            method, self._url + path, json=body, headers=self._headers | headers
        ) as answer:
            content = await answer.read()
            return (
                answer.status,
                await answer.json() if content and answer.content_type == "application/json" else content,
            )


@asynccontextmanager
async def a_program(url: str, account: str, password: str = PASSWORD) -> AsyncIterator[Program]:
    """A program that is signed in."""
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/api/sessions", json={"account": account, "password": password}) as answer:
            assert answer.status == 201, await answer.text()
            token = (await answer.json())["token"]
        yield Program(session, url, token)
