"""Dead letters: events that cannot be handled are kept byte for byte, with the reason, and can be replayed."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client import Gauge

from shared.errors import StoreUnavailable
from shared.ids import deterministic_id
from shared.mongo import Binary, Document, Store, patiently, store_errors


@dataclass(frozen=True)
class DeadLetter:
    """What is known of an event that could not be handled."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes
    reason: str
    error: str


PARKED = Gauge("hub_dead_letters_parked", "Dead letters that nobody has replayed or discarded yet", ["service"])
COUNT_EVERY_SECONDS = 10.0
MAX_COUNTED = 10_000


async def count_parked(store: Store, service: str) -> None:
    """Report how many dead letters of a service wait for a person, up to a bound, until cancelled."""
    mine = {"service": service, "state": "parked"}
    while True:
        with suppress(StoreUnavailable), store_errors():
            PARKED.labels(service).set(await store["dead_letters"].count_documents(mine, limit=MAX_COUNTED))
        await asyncio.sleep(COUNT_EVERY_SECONDS)


class DeadLetters:
    """The `dead_letters` collection, as one service writes it."""

    def __init__(self, store: Store, service: str) -> None:
        self._collection = store["dead_letters"]
        self._service = service

    async def park(self, letter: DeadLetter) -> str:
        """Keep an event that cannot be handled; parking it again counts up and changes nothing else.

        Returns:
            The id by which it is shown and replayed.

        Raises:
            StoreUnavailable: not kept; the caller must let Kafka redeliver.
        """
        letter_id = deterministic_id(
            "dead_letter", self._service, letter.topic, str(letter.partition), str(letter.offset)
        )
        now = datetime.now(UTC)
        document: Document = {
            "service": self._service,
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
            "key": Binary(letter.key) if letter.key is not None else None,
            "headers": [[name, None if value is None else Binary(value)] for name, value in letter.headers],
            "value": Binary(letter.value),
            "reason": letter.reason,
            "error": letter.error[:2_000],
            "first_at": now,
        }
        await patiently(
            lambda: self._collection.update_one(
                {"_id": letter_id},
                {"$setOnInsert": document, "$set": {"last_at": now, "state": "parked"}, "$inc": {"seen": 1}},
                upsert=True,
            )
        )
        return letter_id


def as_record(document: Document) -> tuple[str, bytes | None, list[tuple[str, bytes | None]], bytes]:
    """What to publish to replay a dead letter: topic, key, headers and value exactly as they were."""
    key: Any = document["key"]
    headers = [(name, None if value is None else bytes(value)) for name, value in document["headers"]]
    return document["topic"], None if key is None else bytes(key), headers, bytes(document["value"])
