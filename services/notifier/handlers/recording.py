"""Writing down what Zalo was asked and answered, through any outage of the database."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared.errors import StoreUnavailable

T = TypeVar("T")


async def until_stored(
    call: Callable[[], Awaitable[T]], *, pause_seconds: float, waits: Callable[[StoreUnavailable], None]
) -> T:
    """What happened has happened: write it down for as long as it takes.

    Args:
        call: makes a fresh awaitable each time; must be safe to apply twice.
        pause_seconds: before each further try.
        waits: told before each pause why.
    """
    while True:
        try:
            return await call()
        except StoreUnavailable as error:
            waits(error)
            await asyncio.sleep(pause_seconds)
