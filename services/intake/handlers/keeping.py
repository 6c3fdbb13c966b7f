"""Makes an event durable in time: Kafka, or else the spool in MongoDB, which is relayed later in order."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from services.intake.domain import Outgoing
from services.intake.errors import NowhereKept
from shared.errors import BrokerUnavailable, EventTooLarge, HubError, StoreUnavailable
from shared.events import Event
from shared.telemetry import get_logger
from shared.topics import Topic

log = get_logger()

Place = Literal["kafka", "spool", "dead_letters"]


class Publisher(Protocol):
    """Kafka. Returns when the event is on every replica."""

    async def publish(self, topic: Topic, event: Event) -> None:
        """Raises: BrokerUnavailable, EventTooLarge."""


class Spool(Protocol):
    """Where events wait for Kafka."""

    async def add(self, outgoing: Sequence[Outgoing], received_at: datetime) -> None:
        """Keep events; those that are there already stay as they are. Raises: StoreUnavailable."""


class Parking(Protocol):
    """Where events go that can never be published."""

    async def park(self, outgoing: Outgoing, reason: str) -> None:
        """Keep an event for a person. Raises: StoreUnavailable."""


class Outage:
    """A short memory of a failure, so that not every webhook has to wait for what has just failed.

    When the memory ends, one caller tries again; the others wait for what it finds.
    """

    def __init__(self, memory_seconds: float) -> None:
        self._memory_seconds = memory_seconds
        self._until: float | None = None

    def happened(self) -> None:
        """It has just failed."""
        self._until = time.monotonic() + self._memory_seconds

    def is_over(self) -> None:
        """It works again."""
        self._until = None

    def may_be_tried_first(self) -> bool:
        """Whether it works as far as is known, or this caller shall find out."""
        if self._until is None:
            return True
        if time.monotonic() < self._until:
            return False
        self._until = time.monotonic() + self._memory_seconds
        return True


class SpoolFlag:
    """Whether events wait in the spool; while they do, new ones queue up behind them.

    Each replica learns by polling that another replica has spooled something, so that for one poll period a
    citizen's next message may overtake through Kafka, if Kafka works for one replica and not for the other.
    """

    def __init__(self) -> None:
        self._is_raised = False
        self._additions = 0

    @property
    def is_raised(self) -> bool:
        """Whether new events must queue up."""
        return self._is_raised

    def add(self) -> None:
        """This replica is about to put something into the spool."""
        self._is_raised = True
        self._additions += 1

    def glance(self) -> int:
        """Taken before looking into the spool, and given to `seen`."""
        return self._additions

    def seen(self, *, is_empty: bool, glance: int) -> None:
        """Believe a look into the spool, unless this replica has added something meanwhile."""
        if not is_empty:
            self._is_raised = True
        elif glance == self._additions:
            self._is_raised = False


@dataclass(frozen=True)
class _Way:
    place: Place
    outage: Outage
    go: Callable[[Sequence[Outgoing], datetime], Awaitable[Place]]


class Keeper:
    """Knows both ways to make an event durable and which to try first."""

    def __init__(
        self,
        publisher: Publisher,
        spool: Spool,
        parking: Parking,
        flag: SpoolFlag,
        *,
        outage_memory_seconds: float,
        reserve_seconds: float,
    ) -> None:
        self._publisher = publisher
        self._spool = spool
        self._parking = parking
        self._flag = flag
        self._reserve_seconds = reserve_seconds
        self._kafka_way = _Way("kafka", Outage(outage_memory_seconds), self._publish)
        self._spool_way = _Way("spool", Outage(outage_memory_seconds), self._add_to_spool)

    async def keep(self, outgoing: Sequence[Outgoing], *, received_at: datetime, deadline: float) -> Place:
        """Make the events of one webhook durable.

        The first way must leave `reserve_seconds` for the second. Both may end up with an event, for a publish
        that timed out may still arrive: they are the same event by their id.

        Args:
            outgoing: the events; all or none are kept as far as the sender is told.
            received_at: when the webhook arrived.
            deadline: monotonic time.

        Raises:
            NowhereKept: tell the sender to send it again.
        """
        first, second = self._ways()
        for way, latest in ((first, deadline - self._reserve_seconds), (second, deadline)):
            try:
                async with asyncio.timeout(max(0.05, latest - time.monotonic())):
                    place = await way.go(outgoing, received_at)
            except (HubError, TimeoutError, ExceptionGroup) as error:
                way.outage.happened()
                log.warning("webhook.way_failed", way=way.place, error=_name(error))
            except Exception as error:
                # A driver's surprise must not keep us from the other way.
                way.outage.happened()
                log.exception("webhook.way_failed", way=way.place, error=_name(error))
            else:
                way.outage.is_over()
                return place
        raise NowhereKept("neither Kafka nor MongoDB took it in time")

    def _ways(self) -> tuple[_Way, _Way]:
        ways = [self._kafka_way, self._spool_way]
        if self._flag.is_raised:
            ways.reverse()
        if not ways[0].outage.may_be_tried_first():
            ways.reverse()
        return ways[0], ways[1]

    def kafka_works(self) -> None:
        """The relay has just published something."""
        self._kafka_way.outage.is_over()

    async def _publish(self, outgoing: Sequence[Outgoing], _: datetime) -> Place:
        if len(outgoing) == 1:
            return await self._publish_one(outgoing[0])
        async with asyncio.TaskGroup() as group:
            for one in outgoing:
                group.create_task(self._publish_one(one))
        return "kafka"

    async def _publish_one(self, one: Outgoing) -> Place:
        try:
            await self._publisher.publish(one.topic, one.event)
        except EventTooLarge as error:
            await self._parking.park(one, error.code)
            return "dead_letters"
        return "kafka"

    async def _add_to_spool(self, outgoing: Sequence[Outgoing], received_at: datetime) -> Place:
        self._flag.add()
        await self._spool.add(outgoing, received_at)
        return "spool"


def _name(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return _name(error.exceptions[0])
    cause = error.__cause__
    is_wrapper = isinstance(error, BrokerUnavailable | StoreUnavailable)
    return f"{type(error).__name__}({type(cause).__name__})" if is_wrapper and cause else type(error).__name__
