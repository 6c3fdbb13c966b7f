"""Webhooks that led to nothing else, in MongoDB, with their reason."""

import base64
from collections.abc import Sequence

from shared.events import WebhookRecorded
from shared.mongo import Binary, Store, insert_new, patiently


class RecordStore:
    """The `webhook_records` collection."""

    def __init__(self, store: Store) -> None:
        self._collection = store["webhook_records"]

    async def add(self, records: Sequence[WebhookRecorded]) -> int:
        """Keep records; those that are there already stay as they are.

        The body goes in as bytes, never as a document: whatever a stranger wrote must not become part of a query.

        Returns:
            How many are new.

        Raises:
            StoreUnavailable: perhaps some are kept; may be repeated.
        """
        documents = {
            record.event_id: {
                "_id": record.event_id,
                "reason": record.reason,
                "event_name": record.event_name,
                "oa_id": record.oa_id,
                "user_id": record.user_id,
                "correlation_id": record.correlation_id,
                "raw": Binary(base64.b64decode(record.raw_base64)),
                "received_at": record.received_at,
            }
            for record in records
        }
        inserted = await patiently(lambda: insert_new(self._collection, list(documents.values())))
        return len(inserted)
