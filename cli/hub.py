"""The hub's servers as the commands use them: the database, the topics, the services' HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from cli.errors import CommandError, ExitCode
from cli.settings import CliSettings
from shared.errors import BrokerUnavailable
from shared.mongo import Store, open_store

if TYPE_CHECKING:
    from shared.kafka import EventPublisher

_producer: Any = AIOKafkaProducer  # its constructor has no hints
READ_TIMEOUT_SECONDS = 10.0


@asynccontextmanager
async def opened_store(settings: CliSettings) -> AsyncIterator[Store]:
    """The database, asked once whether it answers.

    Raises:
        StoreUnavailable: it does not.
    """
    store = open_store(settings)
    try:
        await store.ping()
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def opened_publisher(settings: CliSettings) -> "AsyncIterator[EventPublisher]":
    """The one way to publish an event of ours.

    Raises:
        BrokerUnavailable: Kafka does not answer.
    """
    from shared.kafka import EventPublisher, build_broker  # noqa: PLC0415 - a second of start-up for one command

    broker = build_broker(settings, service="officers")
    try:
        await broker.connect()
    except (KafkaError, OSError) as error:
        raise BrokerUnavailable(type(error).__name__) from error
    try:
        yield EventPublisher(broker, service="officers", timeout_seconds=settings.publish_timeout_seconds)
    finally:
        await broker.stop()


@asynccontextmanager
async def opened_producer(settings: CliSettings) -> AsyncIterator[Any]:
    """A plain producer, for records that must stay as they were, down to a header that is no text.

    Raises:
        BrokerUnavailable: Kafka does not answer.
    """
    producer = _producer(
        bootstrap_servers=settings.kafka_bootstrap_servers.split(","),
        client_id="hub-cli",
        enable_idempotence=True,
        request_timeout_ms=10_000,
    )
    try:
        await producer.start()
    except (KafkaError, OSError) as error:
        await producer.stop()
        raise BrokerUnavailable(type(error).__name__) from error
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def opened_http(timeout_seconds: float = READ_TIMEOUT_SECONDS) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client for our own services and the simulator."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_seconds)) as session:
        yield session


def http_unreachable(what: str, url: str, error: Exception) -> CommandError:
    """Say that an address does not answer."""
    return CommandError(
        f"{what}_unreachable",
        f"The {what} does not answer at {url} ({type(error).__name__}).",
        f"`hub status` shows what runs. `make up` starts everything; {what.upper()}_URL names another address.",
        exit_code=ExitCode.UNREACHABLE,
    )
