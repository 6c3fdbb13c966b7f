"""Fixtures of all suites, how much Hypothesis tries, and how long a browser may take."""

import asyncio
import functools
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import settings

from shared.zalo_config import ZaloConfig
from tests.properties import TIMES

pytest_plugins = ["tests.servers"]

BROWSER_SECONDS = 240.0

settings.load_profile("explore" if TIMES else "build")


@pytest.fixture
def no_zalo_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have a configuration of their own."""
    for name in ZaloConfig.model_fields:
        monkeypatch.delenv(f"ZALO_{name.upper()}", raising=False)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Much of Playwright waits without a limit: a test of a browser that hangs fails at the line where it waits."""
    if isinstance(item, pytest.Function) and item.get_closest_marker("browser"):
        item.obj = within(BROWSER_SECONDS, item.obj)


def within(seconds: float, test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """The same test with so long to do it."""

    @functools.wraps(test)
    async def in_time(*args: object, **values: object) -> None:
        async with asyncio.timeout(seconds):
            await test(*args, **values)

    return in_time
