"""Keeps the webhooks that led to nothing else."""

from collections.abc import Sequence
from typing import Protocol

from shared.events import WebhookRecorded
from shared.kafka import Received
from shared.telemetry import get_logger

log = get_logger()


class Records(Protocol):
    """Where records are kept."""

    async def add(self, records: Sequence[WebhookRecorded]) -> int:
        """Keep new ones and say how many. Raises: StoreUnavailable."""


async def keep_records(received: Sequence[Received[WebhookRecorded]], records: Records) -> None:
    """Keep a batch of records; a redelivery changes nothing.

    Raises:
        StoreUnavailable: passing; Kafka redelivers the batch.
    """
    new = await records.add([one.event for one in received])
    log.info("records.kept", records=len(received), new=new)
