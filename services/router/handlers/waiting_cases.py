"""How many cases wait for a person, as metrics."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Protocol

from prometheus_client import Gauge

from services.router.domain.waiting import WaitingCase, count_waiting
from shared.errors import StoreUnavailable

WAITING = Gauge("hub_cases_waiting", "Cases that wait for an officer, counted up to a bound", ["unit"])
OVERDUE = Gauge("hub_cases_overdue", "Cases whose deadline has passed, counted up to a bound", ["unit"])
EMERGENCIES = Gauge("hub_emergencies_waiting", "Emergencies that wait for a person", ["unit"])

EVERY_SECONDS = 10.0
MAX_CASES = 2_000
"""The first ones to be due; when more wait, the true numbers are higher than those that are told."""


class WaitingCases(Protocol):
    """What this needs of the database."""

    async def waiting_cases(self, limit: int) -> list[WaitingCase]:
        """Those that wait for an officer, the first to be due first.

        Raises:
            StoreUnavailable: cannot tell.
        """
        ...


async def measure_waiting_cases(store: WaitingCases, *, units: Collection[str], now: Callable[[], datetime]) -> None:
    """Report what waits until cancelled. Every replica tells the same, so take the maximum over them.

    Args:
        store: the database.
        units: told with 0 while nothing waits there, so that an alert can be seen to end.
        now: the time.
    """
    while True:
        with suppress(StoreUnavailable):
            report(await store.waiting_cases(MAX_CASES), units, now())
        await asyncio.sleep(EVERY_SECONDS)


def report(cases: Sequence[WaitingCase], units: Collection[str], now: datetime) -> None:
    """Set the gauges to what waits at this moment."""
    counts = count_waiting(cases, now)
    for gauge, by_unit in ((WAITING, counts.waiting), (OVERDUE, counts.overdue), (EMERGENCIES, counts.emergencies)):
        gauge.clear()  # a unit of which nothing is known any more is no longer told
        for unit in {*units, *counts.waiting}:
            gauge.labels(unit).set(by_unit[unit])
