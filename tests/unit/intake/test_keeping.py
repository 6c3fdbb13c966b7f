import asyncio
import time

import pytest

from services.intake.domain import Outgoing
from services.intake.errors import NowhereKept
from services.intake.handlers.keeping import Keeper, Outage, SpoolFlag
from shared import topics
from shared.errors import EventTooLarge
from tests.factories import a_change, a_message
from tests.unit.intake.support import (
    KAFKA_IS_AWAY,
    MONGO_IS_AWAY,
    RECEIVED_AT,
    FakeParking,
    FakePublisher,
    FakeSpool,
    until,
)


class Case:
    """A keeper over fakes."""

    def __init__(self, *, outage_memory_seconds: float = 60.0) -> None:
        self.publisher, self.spool, self.parking, self.flag = FakePublisher(), FakeSpool(), FakeParking(), SpoolFlag()
        self.keeper = Keeper(
            self.publisher,
            self.spool,
            self.parking,
            self.flag,
            outage_memory_seconds=outage_memory_seconds,
            reserve_seconds=0.1,
        )

    async def keep(self, *outgoing: Outgoing, within_seconds: float = 0.3) -> str:
        return await self.keeper.keep(
            outgoing or (one(),), received_at=RECEIVED_AT, deadline=time.monotonic() + within_seconds
        )


def one(text: str = "xin chào") -> Outgoing:
    return Outgoing(topics.CITIZEN_MESSAGES, a_message(text=text))


async def test_kafka_is_the_first_choice() -> None:
    case = Case()

    assert await case.keep() == "kafka"
    assert case.spool.calls == 0


async def test_what_kafka_refuses_goes_to_the_spool_and_later_events_queue_up_behind_it() -> None:
    case = Case()
    case.publisher.failure = KAFKA_IS_AWAY
    assert await case.keep(one("first")) == "spool"
    case.publisher.failure = None

    assert await case.keep(one("second")) == "spool"
    assert [outgoing.event.model_dump()["text"] for outgoing in case.spool.added] == ["first", "second"]


async def test_when_the_spool_is_empty_again_events_go_straight_to_kafka() -> None:
    case = Case()
    case.publisher.failure = KAFKA_IS_AWAY
    await case.keep()
    case.publisher.failure = None

    case.keeper.kafka_works()
    case.flag.seen(is_empty=True, glance=case.flag.glance())

    assert await case.keep() == "kafka"


async def test_a_look_into_the_spool_that_is_older_than_an_addition_is_not_believed() -> None:
    case = Case()
    glance = case.flag.glance()
    case.publisher.failure = KAFKA_IS_AWAY
    await case.keep()

    case.flag.seen(is_empty=True, glance=glance)

    assert case.flag.is_raised


async def test_events_queue_up_when_another_replica_has_spooled_something() -> None:
    case = Case()

    case.flag.seen(is_empty=False, glance=case.flag.glance())

    assert await case.keep() == "spool"
    assert case.publisher.calls == 0


async def test_a_kafka_that_hangs_leaves_time_for_the_spool() -> None:
    case = Case()
    case.publisher.hangs = True

    assert await case.keep() == "spool"


async def test_after_a_failure_the_next_webhooks_do_not_wait_for_kafka() -> None:
    case = Case()
    case.publisher.failure = KAFKA_IS_AWAY
    await case.keep()

    for _ in range(20):
        assert await case.keep() == "spool"

    assert case.publisher.calls == 1


async def test_with_the_spool_away_kafka_takes_what_it_can_even_out_of_turn() -> None:
    case = Case()
    case.flag.add()
    case.spool.failure = MONGO_IS_AWAY

    assert await case.keep() == "kafka"


async def test_without_both_the_sender_must_come_again() -> None:
    case = Case()
    case.publisher.failure, case.spool.failure = KAFKA_IS_AWAY, MONGO_IS_AWAY

    with pytest.raises(NowhereKept):
        await case.keep()
    assert NowhereKept.retryable


async def test_when_both_are_known_to_be_away_both_are_still_tried() -> None:
    case = Case()
    case.publisher.failure, case.spool.failure = KAFKA_IS_AWAY, MONGO_IS_AWAY
    with pytest.raises(NowhereKept):
        await case.keep()
    case.publisher.failure = None

    assert await case.keep() == "kafka"


async def test_a_surprise_of_one_driver_does_not_keep_from_the_other() -> None:
    case = Case()
    case.publisher.failure = RuntimeError("a surprise")

    assert await case.keep() == "spool"


async def test_an_event_that_kafka_will_never_take_is_parked_for_a_person() -> None:
    case = Case()
    case.publisher.failure = EventTooLarge("too large")

    assert await case.keep() == "dead_letters"
    ((_, reason),) = case.parking.parked
    assert reason == "event.too_large"


async def test_all_events_of_a_webhook_are_kept_before_it_is_answered() -> None:
    case = Case()
    several = [Outgoing(topics.CITIZEN_CHANGES, a_change(user_id=str(n))) for n in range(5)]

    assert await case.keep(*several) == "kafka"
    assert len(case.publisher.published) == 5


async def test_all_events_of_a_webhook_go_to_the_spool_when_kafka_refuses_them() -> None:
    case = Case()
    case.publisher.failure = KAFKA_IS_AWAY
    several = [Outgoing(topics.CITIZEN_CHANGES, a_change(user_id=str(n))) for n in range(5)]

    assert await case.keep(*several) == "spool"
    assert len(case.spool.added) == 5


async def test_a_webhook_whose_connection_is_cancelled_stops_waiting() -> None:
    case = Case()
    case.publisher.hangs = True
    task = asyncio.create_task(case.keep(within_seconds=60))
    await until(lambda: case.publisher.calls == 1)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


def test_after_an_outage_one_caller_finds_out_for_all() -> None:
    outage = Outage(memory_seconds=0.0)
    assert outage.may_be_tried_first()
    outage.happened()
    assert outage.may_be_tried_first()

    remembering = Outage(memory_seconds=60.0)
    remembering.happened()
    assert not remembering.may_be_tried_first()
    remembering.is_over()
    assert remembering.may_be_tried_first()
