"""The database's clock, so that replicas agree on what is due; each replica estimates its own offset from it."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from shared.errors import StoreUnavailable
from shared.mongo import Store

MEASURE_EVERY_SECONDS = 30.0


class ServerClock:
    """Answers `now` by the database's clock without asking it each time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._offset = timedelta()

    def now(self) -> datetime:
        """The database's time, wrong by at most half a round trip and half a minute's drift."""
        return datetime.now(UTC) + self._offset

    async def measure(self) -> None:
        """Measure the offset once.

        Raises:
            StoreUnavailable: the old offset is kept.
        """
        started = time.perf_counter()
        there = await self._store.server_now()
        half_way = timedelta(seconds=(time.perf_counter() - started) / 2)
        self._offset = there + half_way - datetime.now(UTC)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            with suppress(StoreUnavailable):  # readiness tells it; the old offset is better than none
                await self.measure()
            await asyncio.sleep(MEASURE_EVERY_SECONDS)
