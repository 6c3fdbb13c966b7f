"""Kafka edge: one way to publish and one way to consume, with the delivery rules in one place.

At least once: offsets are committed after the effect. What cannot be read, or fails for its own content, is parked
as a dead letter; only when nothing can be recorded does an exception leave a handler, after a pause, and Kafka
redelivers. Events travel as CloudEvents 1.0 in binary mode: attributes in headers, JSON in the body.

Source: ADR 0001, CloudEvents Kafka protocol binding 1.0.2.
"""

import asyncio
import contextlib
import logging
import time
import traceback
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from aiokafka import ConsumerRebalanceListener, ConsumerRecord
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faststream import AckPolicy
from faststream.exceptions import IncorrectState
from faststream.kafka import KafkaBroker, KafkaMessage, KafkaRouter
from pydantic import ValidationError

from shared.dead_letter import DeadLetter, DeadLetters
from shared.errors import BrokerUnavailable, EventTooLarge, HubError
from shared.events import Event
from shared.settings import HubSettings
from shared.telemetry import CONSUMER_LAG, DEAD_LETTERS, EVENTS_HANDLED, HANDLING_SECONDS, get_logger
from shared.topics import Topic
from shared.tracing import TRACEPARENT, traceparent_of, tracing_of

log = get_logger()
E = TypeVar("E", bound=Event)
_ROOT = Path(__file__).resolve().parent.parent
Record: TypeAlias = ConsumerRecord[Any, Any]
_Outgoing: TypeAlias = tuple[bytes | None, bytes, dict[str, str]]
"""Key, value, headers."""

CONTENT_TYPE = "application/json"
MAX_EVENT_BYTES = 1_000_000
"""Kafka's own default limit of a record, less room for headers and key."""

SESSION_TIMEOUT_MS = 10_000
REBALANCE_TIMEOUT_MS = 60_000
DRAIN_SECONDS = 40.0
"""How long a rebalance waits for the batch in hand; below the rebalance timeout."""

POLL_MS = 20
LAG_EVERY_SECONDS = 2.0
BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True)
class Received(Generic[E]):
    """An event with where it stood in Kafka; the position orders events of one key."""

    event: E
    partition: int
    offset: int
    traceparent: str | None = None


Handler = Callable[[Sequence[Received[E]]], Awaitable[None]]


def build_broker(settings: HubSettings, *, service: str, routers: Iterable[KafkaRouter] = ()) -> KafkaBroker:
    """Build the one broker object of a service, with the delivery rules as its defaults."""
    broker = KafkaBroker(
        settings.kafka_bootstrap_servers.split(","),
        client_id=f"hub-{service}",
        enable_idempotence=True,  # implies acks=all: what is acknowledged is on every in-sync replica, once
        linger_ms=0,  # a webhook waits for each publish
        compression_type="lz4",
        max_request_size=MAX_EVENT_BYTES + 65_536,
        request_timeout_ms=10_000,
        metadata_max_age_ms=30_000,
        retry_backoff_ms=100,
        allow_auto_create_topics=False,  # `hub init` makes them with the right partitions
        ack_policy=AckPolicy.NACK_ON_ERROR,
        graceful_timeout=20.0,
        logger=logging.getLogger("faststream"),
        log_level=logging.DEBUG,
    )
    for router in routers:
        broker.include_router(router)
    return broker


def cloud_event_headers(event: Event, *, source: str) -> dict[str, str]:
    """CloudEvents attributes as Kafka headers (binary content mode)."""
    return {
        "ce_specversion": "1.0",
        "ce_id": event.event_id,
        "ce_source": source,
        "ce_type": event.ce_type,
        "ce_time": event.occurred_at.isoformat(),
        "ce_correlationid": event.correlation_id,
        "content-type": CONTENT_TYPE,
    }


class EventPublisher:
    """Publishes our events; the only way anything gets onto a topic."""

    def __init__(self, broker: KafkaBroker, *, service: str, timeout_seconds: float) -> None:
        self._broker = broker
        self._source = f"/{service}"
        self._timeout_seconds = timeout_seconds

    async def publish(self, topic: Topic, event: Event) -> None:
        """Publish one event and wait until Kafka has it.

        Raises:
            BrokerUnavailable: not acknowledged in time; it may still arrive. Publish again under the same id.
            EventTooLarge: it will never fit.
        """
        await self._publish(topic.name, [self._as_record(event)])

    async def publish_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: dict[str, str]) -> None:
        """Publish bytes as they are: from the spool or a dead letter.

        Raises:
            BrokerUnavailable: not acknowledged in time; it may still arrive.
            EventTooLarge: the broker refuses the size.
        """
        await self._publish(topic, [(key, value, headers)])

    async def publish_all(self, topic: Topic, events: Iterable[Event]) -> None:
        """Publish many events; they share Kafka's batches, and events of one key keep their order.

        Raises:
            BrokerUnavailable: at least one is not acknowledged in time.
            EventTooLarge: at least one will never fit; none is published.
        """
        await self._publish(topic.name, [self._as_record(event) for event in events])

    def _as_record(self, event: Event) -> _Outgoing:
        value = event.model_dump_json(exclude_none=True).encode()
        if len(value) > MAX_EVENT_BYTES:
            raise EventTooLarge(f"{event.ce_type} of {len(value)} bytes; at most {MAX_EVENT_BYTES}")
        headers = cloud_event_headers(event, source=self._source)
        if traceparent := traceparent_of(event.correlation_id):
            headers[TRACEPARENT] = traceparent
        return event.partition_key.encode(), value, headers

    async def _publish(self, topic: str, records: Sequence[_Outgoing]) -> None:
        """Hand all over in their order, then wait for all acknowledgements: a task for each would cost more."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                acknowledged = [
                    await self._broker.publish(
                        value,
                        topic,
                        key=key,
                        headers=headers,
                        correlation_id=headers.get("ce_correlationid"),
                        no_confirm=True,
                    )
                    for key, value, headers in records
                ]
                await asyncio.gather(*acknowledged)
        except MessageSizeTooLargeError as error:
            raise EventTooLarge(f"{max(len(value) for _, value, _ in records)} bytes") from error
        except (TimeoutError, KafkaError, OSError, IncorrectState) as error:  # not connected yet, or being stopped
            raise BrokerUnavailable(type(error).__name__) from error


class Progress(ConsumerRebalanceListener):
    """What one subscriber is doing: holds a rebalance until the batch in hand is done, and tells liveness.

    Attributes:
        assigned: partitions this replica has now.
        waiting_events: that Kafka has for it, as far as `measure_lag` knows; 0 while Kafka does not answer.
    """

    def __init__(self) -> None:
        self._idle = asyncio.Event()
        self._idle.set()
        self.assigned = 0
        self.has_joined = False
        self.busy_since: float | None = None
        self.failures_in_a_row = 0
        self.waiting_events = 0
        self._steps = 0

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Let the batch in hand finish before its partitions go to another replica."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            log.warning("consumer.drain_timed_out", partitions=len(revoked))
        self.assigned = 0

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Remember that this replica takes part."""
        self.assigned = len(assigned)
        self.has_joined = True

    def begin(self) -> None:
        """A batch was taken."""
        self._idle.clear()
        self._steps += 1
        self.busy_since = time.monotonic()

    def end(self) -> None:
        """The batch is done or given back."""
        self.busy_since = None
        self._steps += 1
        self._idle.set()

    def mark(self) -> int | None:
        """For the watchdog: another number after every step; None while nothing waits. A failed batch is a step too."""
        return self._steps if self.busy_since is not None or self.waiting_events else None

    def stuck_seconds(self) -> float:
        """How long the batch in hand has been going on."""
        return 0.0 if self.busy_since is None else time.monotonic() - self.busy_since


def _safe_headers(record: Record) -> Record:
    """Replace header values that are None or not UTF-8: FastStream would drop the whole batch for one of them."""
    clean = []
    for name, value in record.headers:
        try:
            (value or b"").decode("utf-8")
            clean.append((name, value or b""))
        except UnicodeDecodeError:
            clean.append((name, value.decode("utf-8", "replace").encode()))
    return replace(record, headers=tuple(clean))


async def _parse_safely(records: tuple[Record, ...], original: Callable[[Any], Awaitable[Any]]) -> Any:
    message = await original(tuple(_safe_headers(record) for record in records))
    message.raw_message = records  # a dead letter keeps the headers as they came
    return message


async def _raw_bodies(message: KafkaMessage) -> list[bytes]:
    # Without this FastStream guesses JSON from the headers, and a body `1` would arrive as an int.
    return [record.value or b"" for record in _records(message)]


def _records(message: KafkaMessage) -> Sequence[Record]:
    raw = message.raw_message
    return raw if isinstance(raw, tuple) else (raw,)


def on_batch(
    router: KafkaRouter,
    topic: Topic,
    *,
    service: str,
    group_id: str,
    handle: Handler[Any],
    dead_letters: DeadLetters,
    max_records: int = 500,
) -> Progress:
    """Subscribe a handler to a topic: at least once, in batches, in order of each partition.

    The handler gets parsed events. It raises a retryable `HubError` when nothing could be recorded: the batch is
    then redelivered after a pause. Any other exception is a fault of ours or of one event: the events are handled
    one by one and the guilty ones are parked, so that a poison event never blocks its partition.

    Args:
        router: FastStream's router of the service.
        topic: what to read; its event class is what the handler gets.
        service: name in metrics.
        group_id: the consumer group, one of `topic.readers[service]`.
        handle: called with the events of a batch; must be repeatable.
        dead_letters: where unreadable and poisonous events go.
        max_records: the most events of one batch; a batch must end well below REBALANCE_TIMEOUT_MS.

    Returns:
        The subscriber's progress, for readiness and liveness.
    """
    progress = Progress()

    async def on_records(message: KafkaMessage) -> None:
        records = _records(message)
        progress.begin()
        started = time.perf_counter()
        try:
            received = await _read(records, topic, service, dead_letters)
            origins = {one.event.correlation_id: one.traceparent for one in received}
            with tracing_of(service).spans(f"{service} handles {topic.name}", origins, attributes={"group": group_id}):
                await _handle(received, topic, service, handle, dead_letters, records)
            progress.failures_in_a_row = 0
        except Exception as error:
            # Nothing could be recorded. Pause, then let FastStream seek back: Kafka redelivers the batch.
            EVENTS_HANDLED.labels(service, topic.name, "redelivered").inc(len(records))
            pause_seconds = BACKOFF_SECONDS[min(progress.failures_in_a_row, len(BACKOFF_SECONDS) - 1)]
            progress.failures_in_a_row += 1
            log.warning(
                "batch.redelivered", topic=topic.name, group=group_id, error=type(error).__name__, pause=pause_seconds
            )
            await asyncio.sleep(pause_seconds)
            raise
        finally:
            progress.end()
            HANDLING_SECONDS.labels(service, topic.name).observe(time.perf_counter() - started)

    router.subscriber(
        topic.name,
        group_id=group_id,
        batch=True,
        max_records=max_records,
        batch_timeout_ms=POLL_MS,
        auto_offset_reset="earliest",  # a new group starts from the oldest event
        ack_policy=AckPolicy.NACK_ON_ERROR,  # offsets are committed after the handler returns
        no_reply=True,
        listener=progress,
        parser=_parse_safely,
        decoder=_raw_bodies,
        session_timeout_ms=SESSION_TIMEOUT_MS,
        rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
        max_poll_interval_ms=5 * REBALANCE_TIMEOUT_MS,
        title=f"{topic.name} as {group_id}",
    )(on_records)
    return progress


async def measure_lag(broker: KafkaBroker, service: str, progress: Mapping[str, Progress]) -> None:
    """Report how many events each consumer group has not handled yet, every few seconds, until cancelled.

    A partition is reported by the replica that has it; the sum over replicas is the group's lag.

    Args:
        broker: with the service's subscribers.
        service: name in metrics.
        progress: by consumer group; learns how many events wait for it, for the watchdog.
    """
    reported: dict[str, set[str]] = defaultdict(set)
    while True:
        await asyncio.sleep(LAG_EVERY_SECONDS)
        for subscriber in broker.subscribers:
            consumer, group = getattr(subscriber, "consumer", None), getattr(subscriber, "group_id", None)
            if consumer is None or group is None:
                continue
            behind: dict[str, int] = defaultdict(int)
            paused = consumer.paused()
            waiting_events = 0
            for partition in consumer.assignment():
                newest = consumer.highwater(partition)  # as of the last fetch; None before the first
                if newest is not None:
                    with contextlib.suppress(KafkaError, TimeoutError):
                        async with asyncio.timeout(LAG_EVERY_SECONDS):
                            events = max(0, newest - await consumer.position(partition))
                        behind[partition.topic] += events
                        waiting_events += 0 if partition in paused else events
            reported[group] |= behind.keys()
            for topic in reported[group]:  # one that went to another replica is no longer ours to tell
                CONSUMER_LAG.labels(service, topic, group).set(behind[topic])
            if group in progress:
                # While Kafka is away nobody can go on, and a fresh process could not either.
                progress[group].waiting_events = waiting_events if waiting_events and await _answers(broker) else 0


async def _answers(broker: KafkaBroker) -> bool:
    try:
        return await broker.ping(timeout=LAG_EVERY_SECONDS)
    except (KafkaError, OSError):
        return False


def _letter(record: Record, reason: str, error: BaseException) -> DeadLetter:
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        headers=tuple(record.headers),
        value=record.value or b"",
        reason=reason,
        error=_in_words(error),
    )


def _in_words(error: BaseException) -> str:
    """What went wrong and where, without the event's content, which may be personal."""
    words = f"{type(error).__name__}: {_without_input(error)}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_ours(frame.filename)]
    if not frames or isinstance(error, ValidationError | HubError):
        return words
    return f"{words} at {Path(frames[-1].filename).relative_to(_ROOT)}:{frames[-1].lineno}"


def _is_ours(filename: str) -> bool:
    path = Path(filename)
    return path.is_relative_to(_ROOT) and "site-packages" not in path.parts


def _without_input(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in error.errors(include_input=False))
    return str(error) if isinstance(error, HubError) else ""


def _root(error: BaseException) -> BaseException:
    """The error inside a group of one; of several the one that a retry can help, since it decides what follows."""
    while isinstance(error, BaseExceptionGroup):
        error = next((inner for inner in error.exceptions if _is_passing(inner)), error.exceptions[0])
    return error


async def _read(
    records: Sequence[Record], topic: Topic, service: str, dead_letters: DeadLetters
) -> list[Received[Any]]:
    received = []
    for record in records:
        try:
            event = topic.event.model_validate_json(record.value or b"")
        except ValidationError as error:
            letter_id = await dead_letters.park(_letter(record, "event.unreadable", error))
            DEAD_LETTERS.labels(service, "event.unreadable").inc()
            log.warning("event.parked", dead_letter=letter_id, topic=topic.name, reason="event.unreadable")
        else:
            traceparent = (dict(record.headers).get(TRACEPARENT) or b"").decode("ascii", "replace")
            received.append(Received(event, record.partition, record.offset, traceparent or None))
    return received


async def _handle(
    received: Sequence[Received[Any]],
    topic: Topic,
    service: str,
    handle: Handler[Any],
    dead_letters: DeadLetters,
    records: Sequence[Record],
) -> None:
    if not received:
        return
    try:
        await handle(received)
    except Exception as error:
        if _is_passing(error):
            raise
        log.exception("batch.taken_apart", topic=topic.name, error=type(error).__name__)
    else:
        EVENTS_HANDLED.labels(service, topic.name, "handled").inc(len(received))
        return
    at = {(record.partition, record.offset): record for record in records}
    for one in received:
        try:
            await handle([one])
        except Exception as error:
            if _is_passing(error):
                raise
            cause = _root(error)
            reason = cause.code if isinstance(cause, HubError) else "handler.failed"
            letter_id = await dead_letters.park(_letter(at[one.partition, one.offset], reason, cause))
            DEAD_LETTERS.labels(service, reason).inc()
            log.exception("event.parked", dead_letter=letter_id, topic=topic.name, event_id=one.event.event_id)
        else:
            EVENTS_HANDLED.labels(service, topic.name, "handled").inc()


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_is_passing(inner) for inner in error.exceptions)
    return isinstance(error, HubError) and error.retryable


def by_key(received: Sequence[Received[E]]) -> dict[str, list[Received[E]]]:
    """Group events by partition key, each key's events in their order."""
    groups: dict[str, list[Received[E]]] = defaultdict(list)
    for one in received:
        groups[one.event.partition_key].append(one)
    return dict(groups)
