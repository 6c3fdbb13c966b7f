"""What the services rely on in our Kafka edge, proven on a real broker and a real store."""

import asyncio
import inspect
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from faststream.kafka import KafkaBroker, KafkaRouter
from pydantic import SecretStr

from cli.kafka_admin import KafkaAdmin
from shared import kafka, topics
from shared.dead_letter import DeadLetter, DeadLetters, as_record
from shared.errors import BrokerUnavailable, EventTooLarge, HubError, StoreUnavailable
from shared.events import CitizenMessageReceived
from shared.kafka import EventPublisher, Progress, Received, build_broker, by_key, on_batch
from shared.mongo import Store, open_store
from shared.settings import HubSettings
from shared.topics import Topic
from tests.factories import a_message, one_of_each

_consumer: Any = AIOKafkaConsumer
_producer: Any = AIOKafkaProducer
Messages = Sequence[Received[CitizenMessageReceived]]


@pytest.fixture
def settings(kafka_bootstrap: str, mongo_uri: str) -> HubSettings:
    return HubSettings.model_validate(
        {
            "kafka_bootstrap_servers": kafka_bootstrap,
            "mongo_uri": SecretStr(mongo_uri),
            "mongo_database": f"test_{uuid.uuid4().hex[:12]}",
        }
    )


@pytest.fixture
async def store(settings: HubSettings) -> AsyncIterator[Store]:
    opened = open_store(settings)
    yield opened
    await opened.drop()
    await opened.close()


@pytest.fixture
async def topic(kafka_bootstrap: str) -> Topic:
    name = f"test.{uuid.uuid4().hex[:12]}.v1"
    async with KafkaAdmin(kafka_bootstrap) as admin:
        await admin.create_topic(name, partitions=6, replication_factor=1, configs={})
    return replace(topics.CITIZEN_MESSAGES, name=name)


@pytest.fixture
async def publisher(settings: HubSettings) -> AsyncIterator[EventPublisher]:
    broker = build_broker(settings, service="test")
    await broker.connect()
    yield EventPublisher(broker, service="test", timeout_seconds=10)
    await broker.stop()


@asynccontextmanager
async def reading(
    settings: HubSettings, topic: Topic, store: Store, handle: Callable[[Any], Awaitable[None]], **options: Any
) -> AsyncIterator[Progress]:
    """One replica of a service that reads the topic, started and stopped as services are."""
    router = KafkaRouter()
    progress = on_batch(
        router,
        topic,
        service="test",
        group_id="test-group",
        handle=handle,
        dead_letters=DeadLetters(store, "test"),
        **options,
    )
    broker: KafkaBroker = build_broker(settings, service="test", routers=[router])
    await broker.start()
    try:
        yield progress
    finally:
        await broker.stop()


async def until(condition: Callable[[], Any], *, seconds: float = 150) -> None:
    """Wait for a condition; the limit only ends a test that hangs."""
    async with asyncio.timeout(seconds):
        while True:
            answer = condition()
            if await answer if inspect.isawaitable(answer) else answer:
                return
            await asyncio.sleep(0.02)


async def publish_bytes(
    settings: HubSettings, topic: Topic, *records: tuple[bytes | None, list[tuple[str, Any]]]
) -> None:
    """Put foreign records on the topic, all on one partition, past our publisher."""
    producer = _producer(bootstrap_servers=settings.kafka_bootstrap_servers)
    await producer.start()
    for value, headers in records:
        await producer.send_and_wait(topic.name, value, key=b"foreign", headers=headers, partition=0)
    await producer.stop()


async def committed_lag(settings: HubSettings, topic: Topic) -> int:
    async with KafkaAdmin(settings.kafka_bootstrap_servers) as admin:
        [lag] = await admin.lags([("test-group", topic.name)])
    return lag.lag


def good(message: CitizenMessageReceived) -> tuple[bytes, list[tuple[str, bytes]]]:
    headers = kafka.cloud_event_headers(message, source="/test")
    return message.model_dump_json().encode(), [(name, value.encode()) for name, value in headers.items()]


async def test_events_arrive_whole_and_with_their_position(
    settings: HubSettings, store: Store, topic: Topic, publisher: EventPublisher
) -> None:
    message = a_message(text="Nhà tôi bị mất xe", quoted_message_id="q1")
    seen: list[Received[CitizenMessageReceived]] = []

    async def handle(received: Messages) -> None:
        seen.extend(received)

    await publisher.publish(topic, message)
    async with reading(settings, topic, store, handle):
        await until(lambda: seen)

    assert [one.event for one in seen] == [message]
    assert seen[0].offset == 0


async def test_an_unreadable_event_is_parked_byte_for_byte_and_the_others_are_handled(
    settings: HubSettings, store: Store, topic: Topic
) -> None:
    before, after = a_message(text="trước"), a_message(text="sau")
    poison = b'{"event_id": "\xff broken'
    headers = [("ce_id", b"\xff\xfe"), ("empty", None), ("ce_type", b"something")]
    await publish_bytes(settings, topic, good(before), (poison, headers), good(after))
    seen: list[str] = []

    async def handle(received: Messages) -> None:
        seen.extend(one.event.text for one in received)

    async with reading(settings, topic, store, handle):
        await until(lambda: len(seen) == 2)
        await until(lambda: store["dead_letters"].count_documents({}))

    assert seen == ["trước", "sau"]
    [letter] = await store["dead_letters"].find({}).to_list()
    assert (letter["reason"], letter["state"], letter["topic"], letter["offset"]) == (
        "event.unreadable",
        "parked",
        topic.name,
        1,
    )
    assert as_record(letter) == (topic.name, b"foreign", headers, poison)


@pytest.mark.parametrize("body", [b"1", b"null", b"[]", b"", None, b"\xed\xa0\x80", b'{"event_id": 1}'])
async def test_a_body_that_is_no_event_is_parked_whatever_it_looks_like(
    settings: HubSettings, store: Store, topic: Topic, body: bytes | None
) -> None:
    await publish_bytes(settings, topic, (body, []))

    async def handle(received: Messages) -> None:
        pytest.fail(f"handled {received}")

    async with reading(settings, topic, store, handle):
        await until(lambda: store["dead_letters"].count_documents({}))
    [letter] = await store["dead_letters"].find({}).to_list()
    assert bytes(letter["value"]) == (body or b"")


async def test_headers_that_are_no_text_do_not_take_the_batch_with_them(
    settings: HubSettings, store: Store, topic: Topic
) -> None:
    odd, plain = a_message(text="lạ"), a_message(text="thường")
    await publish_bytes(
        settings, topic, (good(odd)[0], [("traceparent", None), ("x", b"\xff"), ("y", None)]), good(plain)
    )
    seen: list[str] = []

    async def handle(received: Messages) -> None:
        seen.extend(one.event.text for one in received)

    async with reading(settings, topic, store, handle):
        await until(lambda: len(seen) == 2)
    assert seen == ["lạ", "thường"]


async def test_the_event_that_a_handler_cannot_bear_is_parked_alone_with_the_place_of_the_fault(
    settings: HubSettings, store: Store, topic: Topic
) -> None:
    await publish_bytes(settings, topic, *(good(a_message(text=text)) for text in ("một", "hai", "ba")))
    handled: Counter[str] = Counter()

    async def handle(received: Messages) -> None:
        for one in received:
            if one.event.text == "hai":
                raise KeyError("a citizen's words must not end up in the letter")
        handled.update(one.event.text for one in received)

    async with reading(settings, topic, store, handle):
        await until(lambda: handled["ba"])
        await until(lambda: store["dead_letters"].count_documents({}))
        await until(lambda: _is_zero(committed_lag(settings, topic)))

    assert set(handled) == {"một", "ba"}
    [letter] = await store["dead_letters"].find({}).to_list()
    assert letter["reason"] == "handler.failed"
    assert letter["error"].startswith("KeyError:  at tests/conformance/test_events_on_kafka.py:")
    assert "citizen's words" not in letter["error"]


async def _is_zero(number: Awaitable[int]) -> bool:
    return await number == 0


class NeverFits(HubError):
    """Permanent."""

    code = "test.never_fits"


async def test_a_permanent_error_out_of_a_task_group_gives_its_own_reason(
    settings: HubSettings, store: Store, topic: Topic
) -> None:
    await publish_bytes(settings, topic, good(a_message()))

    async def refuse() -> None:
        raise NeverFits("too wide")

    async def handle(_: Messages) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(refuse())

    async with reading(settings, topic, store, handle):
        await until(lambda: store["dead_letters"].count_documents({}))
    [letter] = await store["dead_letters"].find({}).to_list()
    assert (letter["reason"], letter["error"]) == ("test.never_fits", "NeverFits: too wide")


async def test_a_batch_is_redelivered_while_nothing_can_be_recorded(
    settings: HubSettings, store: Store, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "BACKOFF_SECONDS", (0.01,))
    await publish_bytes(settings, topic, *(good(a_message(text=str(number))) for number in range(5)))
    calls: list[list[str]] = []

    async def handle(received: Messages) -> None:
        calls.append([one.event.text for one in received])
        if len(calls) <= 3:
            raise StoreUnavailable("primary is away")

    async with reading(settings, topic, store, handle) as progress:
        await until(lambda: len(calls) > 3 and calls[-1][-1] == "4")
        await until(lambda: _is_zero(committed_lag(settings, topic)))
        assert progress.failures_in_a_row == 0

    assert calls[0] == calls[1] == calls[2]
    assert [text for call in calls[3:] for text in call] == ["0", "1", "2", "3", "4"]
    assert await store["dead_letters"].count_documents({}) == 0


async def test_a_consumer_that_died_is_seen_by_the_events_that_wait_for_it(
    settings: HubSettings, store: Store, topic: Topic, publisher: EventPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "LAG_EVERY_SECONDS", 0.2)
    handled: list[str] = []

    async def handle(received: Messages) -> None:
        handled.extend(one.event.event_id for one in received)

    router = KafkaRouter()
    progress = on_batch(
        router, topic, service="test", group_id="test-group", handle=handle, dead_letters=DeadLetters(store, "test")
    )
    broker: KafkaBroker = build_broker(settings, service="test", routers=[router])
    await broker.start()
    measuring = asyncio.create_task(kafka.measure_lag(broker, "test", {"test-group": progress}))
    try:
        await publisher.publish(topic, a_message())
        await until(lambda: handled)
        await until(lambda: progress.mark() is None)  # nothing waits any more
        for task in broker.subscribers[0].tasks:  # type: ignore[attr-defined]
            task.cancel()
        await publisher.publish_all(topic, [a_message() for _ in range(30)])

        await until(lambda: progress.waiting_events > 0)
        stands_at = progress.mark()
        await asyncio.sleep(1)
        assert progress.mark() == stands_at is not None
    finally:
        measuring.cancel()
        await broker.stop()


async def test_parking_the_same_event_again_counts_up_and_changes_nothing_else(store: Store) -> None:
    letter = DeadLetter("some.topic.v1", 0, 7, None, (("a", None),), b"x", "event.unreadable", "why")
    letters = DeadLetters(store, "test")

    first, second = await letters.park(letter), await letters.park(replace(letter, error="other"))

    assert first == second
    document = await store["dead_letters"].find_one({"_id": first})
    assert document is not None
    assert (document["seen"], document["error"], document["state"]) == (2, "why", "parked")


async def test_a_citizens_events_are_handled_in_the_order_of_their_publication(
    settings: HubSettings, store: Store, topic: Topic, publisher: EventPublisher
) -> None:
    citizens, each = 20, 60
    messages = [
        a_message(user_id=f"u{citizen}", text=str(number)) for number in range(each) for citizen in range(citizens)
    ]
    await publisher.publish_all(topic, messages)
    seen: dict[str, list[int]] = defaultdict(list)

    async def handle(received: Messages) -> None:
        for events in by_key(received).values():
            seen[events[0].event.user_id].extend(int(one.event.text) for one in events)

    async with reading(settings, topic, store, handle, max_records=37):
        await until(lambda: sum(map(len, seen.values())) == citizens * each)
    assert dict(seen) == {f"u{citizen}": list(range(each)) for citizen in range(citizens)}


async def test_a_second_replica_takes_its_share_and_nothing_is_lost(
    settings: HubSettings, store: Store, topic: Topic, publisher: EventPublisher
) -> None:
    """What must hold: every event is handled, and one is handled twice only where a rebalance cut its commit.

    How we break it: a second replica joins and the first one leaves while both are at work.
    """
    total = 1_200
    handled: Counter[str] = Counter()
    at: dict[str, Counter[str]] = {"first": Counter(), "second": Counter()}

    def handler(replica: str) -> Callable[[Messages], Awaitable[None]]:
        async def handle(received: Messages) -> None:
            await asyncio.sleep(0.02)  # the work; long enough for rebalances to meet a batch in hand
            handled.update(one.event.text for one in received)
            at[replica].update(one.event.text for one in received)

        return handle

    messages = [a_message(user_id=f"u{number % 97}", text=str(number)) for number in range(total)]
    await publisher.publish_all(topic, messages[: total // 2])
    async with reading(settings, topic, store, handler("first"), max_records=10) as first:
        await until(lambda: len(handled) > 50)
        async with reading(settings, topic, store, handler("second"), max_records=10) as second:
            await until(lambda: first.assigned and second.assigned)
            await publisher.publish_all(topic, messages[total // 2 :])
            await until(lambda: len(at["second"]) > 50)
        await until(lambda: len(handled) == total)
        await until(lambda: _is_zero(committed_lag(settings, topic)))

    assert set(handled) == {str(number) for number in range(total)}
    print(f"handled twice because of a rebalance: {sum(handled.values()) - total} of {total}")
    assert sum(handled.values()) - total <= 2 * 10 * 6, "at most one batch of each partition for each rebalance"
    assert await store["dead_letters"].count_documents({}) == 0


async def test_an_event_that_can_never_fit_is_refused_before_it_is_sent(
    topic: Topic, publisher: EventPublisher
) -> None:
    many = tuple(
        {"index": number, "kind": "image", "url": "https://example.invalid/" + "x" * 4_000} for number in range(300)
    )

    with pytest.raises(EventTooLarge, match="at most 1000000"):
        await publisher.publish(topic, a_message(attachments=many))
    with pytest.raises(EventTooLarge):
        await publisher.publish_all(topic, [a_message(attachments=many)])


async def test_a_topic_that_nobody_created_is_broker_unavailable_within_the_time_limit(settings: HubSettings) -> None:
    broker = build_broker(settings, service="test")
    await broker.connect()
    missing = replace(topics.CITIZEN_MESSAGES, name=f"test.never.{uuid.uuid4().hex[:6]}")

    with pytest.raises(BrokerUnavailable):
        await EventPublisher(broker, service="test", timeout_seconds=0.3).publish(missing, a_message())
    await broker.stop()


async def test_a_plain_consumer_and_a_cloud_events_library_read_every_event(
    settings: HubSettings, topic: Topic, publisher: EventPublisher
) -> None:
    events = one_of_each()
    for event in events:
        await publisher.publish(topic, event)
    consumer = _consumer(topic.name, bootstrap_servers=settings.kafka_bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    records = [await consumer.getone() for _ in events]
    await consumer.stop()

    read = {}
    for record in records:
        cloud_event = from_binary_event(KafkaMessage(dict(record.headers), record.key, record.value))
        read[cloud_event.get_id()] = cloud_event
    for event in events:
        cloud_event = read[event.event_id]
        assert cloud_event.get_type() == event.ce_type
        assert cloud_event.get_source() == "/test"
        assert cloud_event.get_specversion() == "1.0"
        assert cloud_event.get_time() == event.occurred_at
        assert cloud_event.get_datacontenttype() == "application/json"
        assert cloud_event.get_extension("partitionkey") == event.partition_key
        assert cloud_event.get_extension("correlationid") == event.correlation_id
        data = cloud_event.get_data()
        assert isinstance(data, dict)
        assert type(event).model_validate(data) == event
