"""The relay: publishes what waits in the spool, oldest first, one replica at a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.intake.domain import SpooledRow, SpoolState
from services.intake.errors import ProducerStuck
from services.intake.handlers.keeping import Keeper, SpoolFlag
from services.intake.metrics import RELAYED, SPOOL_DEPTH, SPOOL_OLDEST_SECONDS
from shared.crash import crash_point
from shared.errors import BrokerUnavailable, EventTooLarge, HubError, StoreUnavailable
from shared.telemetry import get_logger

log = get_logger()

BACKOFF_SECONDS = (0.5, 1.0, 2.0, 4.0)
CITIZENS_AT_ONCE = 32
MEASURE_SECONDS = 5.0


class RelaySpool(Protocol):
    """The spool, as the relay sees it. Every call raises StoreUnavailable."""

    async def is_empty(self) -> bool:
        """Whether nothing waits."""

    async def state(self) -> SpoolState:
        """How much waits, and for how long."""

    async def next_rows(self, limit: int) -> list[SpooledRow]:
        """The oldest rows, in order."""

    async def remove(self, event_ids: Sequence[str]) -> None:
        """Forget rows."""


class RawPublisher(Protocol):
    """Kafka, for what is already serialised."""

    async def publish_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: dict[str, str]) -> None:
        """Raises: BrokerUnavailable, EventTooLarge."""


class RowParking(Protocol):
    """Where rows go that can never be published."""

    async def park_row(self, row: SpooledRow, reason: str) -> None:
        """Raises: StoreUnavailable."""


class RelayLease(Protocol):
    """Makes sure that one replica relays at a time. Raises StoreUnavailable."""

    async def acquire(self) -> bool:
        """Take or renew it; say whether this replica has it."""

    async def release(self) -> None:
        """Give it back."""


@dataclass
class RelayDeps:
    """What the relay needs.

    Attributes:
        kafka_answers: asks the broker past the producer.
        stuck_seconds: how long publishing may fail while Kafka answers.
        state: what the last look into the spool showed; for health.
    """

    spool: RelaySpool
    publisher: RawPublisher
    parking: RowParking
    lease: RelayLease
    flag: SpoolFlag
    keeper: Keeper
    batch: int
    poll_seconds: float
    lease_seconds: float
    kafka_answers: Callable[[], Awaitable[bool]]
    stuck_seconds: float
    state: SpoolState = field(default_factory=lambda: SpoolState(0, 0.0))


async def relay_spool(deps: RelayDeps) -> None:
    """Watch the spool and relay what waits in it, until cancelled. Outages are waited out.

    Raises:
        ProducerStuck: Kafka answers, and yet nothing can be published: only a fresh process helps.
    """
    failures = 0
    refused_since: float | None = None
    measured_at = -MEASURE_SECONDS
    while True:
        pause_seconds = deps.poll_seconds
        try:
            is_empty = await look_into_spool(deps)
            if not is_empty or deps.state.depth or time.monotonic() - measured_at > MEASURE_SECONDS:
                await _measure(deps)
                measured_at = time.monotonic()
            if not is_empty and await relay_round(deps):
                pause_seconds = 0.0
            failures, refused_since = 0, None
        except (BrokerUnavailable, StoreUnavailable) as error:
            pause_seconds = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
            failures += 1
            log.warning("relay.waiting", error=str(error), pause=pause_seconds, spooled=deps.state.depth)
            if isinstance(error, BrokerUnavailable):
                refused_since = refused_since or time.monotonic()
                await _leave_if_stuck(deps, time.monotonic() - refused_since)
        await asyncio.sleep(pause_seconds)


async def _leave_if_stuck(deps: RelayDeps, refused_seconds: float) -> None:
    # A producer whose sending task has died fails every publish at once and never recovers, while Kafka is well.
    if refused_seconds > deps.stuck_seconds and await deps.kafka_answers():
        raise ProducerStuck(f"nothing published for {refused_seconds:.0f} s though Kafka answers")


async def look_into_spool(deps: RelayDeps) -> bool:
    """Tell the webhooks of this replica whether they must queue up.

    Returns:
        Whether the spool is empty.

    Raises:
        StoreUnavailable: cannot tell; what was known stays.
    """
    glance = deps.flag.glance()
    is_empty = await deps.spool.is_empty()
    deps.flag.seen(is_empty=is_empty, glance=glance)
    return is_empty


async def _measure(deps: RelayDeps) -> None:
    deps.state = await deps.spool.state()
    SPOOL_DEPTH.set(deps.state.depth)
    SPOOL_OLDEST_SECONDS.set(deps.state.oldest_seconds)


async def relay_round(deps: RelayDeps) -> int:
    """Publish the oldest rows, if it is this replica's turn, and remove them afterwards.

    Rows of one key follow one another; a row that fails ends the round, so that nothing overtakes it. A crash
    between publishing and removing publishes again under the same ids.

    Returns:
        How many rows have left the spool.

    Raises:
        BrokerUnavailable: Kafka does not take them now.
        StoreUnavailable: published rows may still be there.
    """
    if not await deps.lease.acquire():
        return 0
    rows = await deps.spool.next_rows(deps.batch)
    by_key: dict[str, list[SpooledRow]] = {}
    for row in rows:
        by_key.setdefault(row.key, []).append(row)
    # The lease must outlive the last publish, so no new one begins in its second half.
    relay = _Round(deps, stop_at=time.monotonic() + deps.lease_seconds / 2)
    await asyncio.gather(*(relay.publish_in_order(of_key) for of_key in by_key.values()))
    crash_point("intake.relay.after_publish")
    await deps.spool.remove(relay.done)
    if relay.failure is not None:
        raise relay.failure
    if len(rows) < deps.batch:
        await deps.lease.release()
    log.info("spool.relayed", events=len(relay.done), of=len(rows))
    return len(relay.done)


class _Round:
    def __init__(self, deps: RelayDeps, *, stop_at: float) -> None:
        self._deps = deps
        self._stop_at = stop_at
        self._room = asyncio.Semaphore(CITIZENS_AT_ONCE)
        self.done: list[str] = []
        self.failure: HubError | None = None

    async def publish_in_order(self, rows: Sequence[SpooledRow]) -> None:
        async with self._room:
            for row in rows:
                if self.failure is not None or time.monotonic() > self._stop_at:
                    return
                try:
                    await self._publish(row)
                except Exception as error:  # noqa: BLE001 - whatever it is, nothing may overtake this row
                    self.failure = self.failure or _as_outage(error)
                    return

    async def _publish(self, row: SpooledRow) -> None:
        """Publish one row, or park it if Kafka will never take it."""
        try:
            await self._deps.publisher.publish_raw(
                row.topic, key=row.key.encode(), value=row.value, headers=row.headers
            )
        except EventTooLarge as error:
            await self._deps.parking.park_row(row, error.code)
            RELAYED.labels("parked").inc()
            log.warning("spool.row_parked", event_id=row.event_id, topic=row.topic, code=error.code)
        else:
            RELAYED.labels("published").inc()
            self._deps.keeper.kafka_works()
        self.done.append(row.event_id)


def _as_outage(error: Exception) -> HubError:
    if isinstance(error, BrokerUnavailable | StoreUnavailable):
        return error
    outage = BrokerUnavailable(type(error).__name__)  # a producer that is stopped or dead raises errors of its own
    outage.__cause__ = error
    return outage
