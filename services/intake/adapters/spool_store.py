"""The spool in MongoDB: accepted events that Kafka could not take yet, in the order of their arrival."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from services.intake.domain import Outgoing, SpooledRow, SpoolState
from shared.dead_letter import DeadLetter, DeadLetters
from shared.kafka import cloud_event_headers
from shared.mongo import Binary, Document, Store, insert_new, store_errors
from shared.tracing import TRACEPARENT, traceparent_of

SOURCE = "/intake"
COUNTED_AT_MOST = 100_000


class SpoolStore:
    """The `webhook_spool` collection. Rows are relayed by `order`: nanoseconds of arrival, growing in a process.

    Between replicas the order is as good as their clocks, which is enough: one citizen's messages are seconds apart,
    and Zalo promises no order within a second.
    """

    def __init__(self, store: Store) -> None:
        self._collection = store["webhook_spool"]
        self._last_order = 0

    async def add(self, outgoing: Sequence[Outgoing], received_at: datetime) -> None:
        """Keep events durably; those that are there already stay as they are.

        Raises:
            StoreUnavailable: perhaps not kept; may be repeated.
        """
        await insert_new(self._collection, [self._row(one, received_at) for one in outgoing])

    def _row(self, one: Outgoing, received_at: datetime) -> Document:
        self._last_order = max(self._last_order + 1, time.time_ns())
        return {
            "_id": one.event.event_id,
            "order": self._last_order,
            "topic": one.topic.name,
            "key": one.event.partition_key,
            "headers": _headers(one),
            "value": Binary(_value(one)),
            "received_at": received_at,
        }

    async def state(self) -> SpoolState:
        """Look how much is waiting.

        Raises:
            StoreUnavailable: cannot tell.
        """
        with store_errors():
            depth = await self._collection.count_documents({}, limit=COUNTED_AT_MOST)
            oldest = await self._collection.find({}, {"received_at": 1}).sort([("order", 1)]).limit(1).to_list(1)
        age_seconds = (datetime.now(UTC) - oldest[0]["received_at"]).total_seconds() if oldest else 0.0
        return SpoolState(depth if oldest else 0, max(0.0, age_seconds))

    async def is_empty(self) -> bool:
        """Whether nothing waits.

        Raises:
            StoreUnavailable: cannot tell.
        """
        with store_errors():
            return await self._collection.find_one({}, {"_id": 1}) is None

    async def next_rows(self, limit: int) -> list[SpooledRow]:
        """The oldest rows.

        Raises:
            StoreUnavailable: cannot tell.
        """
        with store_errors():
            documents = await self._collection.find({}).sort([("order", 1)]).limit(limit).to_list(limit)
        return [
            SpooledRow(
                event_id=document["_id"],
                order=document["order"],
                topic=document["topic"],
                key=document["key"],
                headers=document["headers"],
                value=bytes(document["value"]),
            )
            for document in documents
        ]

    async def remove(self, event_ids: Sequence[str]) -> None:
        """Forget rows that have been published.

        Raises:
            StoreUnavailable: perhaps still there; they will be published again under the same ids.
        """
        if event_ids:
            with store_errors():
                await self._collection.delete_many({"_id": {"$in": list(event_ids)}})


class ParkedEvents:
    """Dead letters of intake: events that Kafka will never take. They never had a place in Kafka."""

    def __init__(self, dead_letters: DeadLetters) -> None:
        self._dead_letters = dead_letters

    async def park(self, one: Outgoing, reason: str) -> None:
        """Keep an event for a person.

        Raises:
            StoreUnavailable: not kept.
        """
        event = one.event
        await self._park(event.event_id, one.topic.name, event.partition_key, _headers(one), _value(one), reason)

    async def park_row(self, row: SpooledRow, reason: str) -> None:
        """Keep a spooled event for a person.

        Raises:
            StoreUnavailable: not kept.
        """
        await self._park(row.event_id, row.topic, row.key, row.headers, row.value, reason)

    async def _park(
        self, event_id: str, topic: str, key: str, headers: dict[str, str], value: bytes, reason: str
    ) -> None:
        await self._dead_letters.park(
            DeadLetter(
                topic=topic,
                partition=-1,
                offset=int(event_id[:15], 16),  # stands in for the offset, so that parking twice is one letter
                key=key.encode(),
                headers=tuple((name, content.encode()) for name, content in headers.items()),
                value=value,
                reason=reason,
                error="could not be published",
            )
        )


def _headers(one: Outgoing) -> dict[str, str]:
    headers = cloud_event_headers(one.event, source=SOURCE)
    if traceparent := traceparent_of(one.event.correlation_id):
        headers[TRACEPARENT] = traceparent
    return headers


def _value(one: Outgoing) -> bytes:
    return one.event.model_dump_json(exclude_none=True).encode()
