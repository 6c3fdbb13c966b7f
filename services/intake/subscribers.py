"""Kafka edge: what intake reads back of its own topics, to keep it in MongoDB."""

from collections.abc import Sequence

from faststream.kafka import KafkaRouter

from services.intake.handlers.attachments import AttachmentDeps, note_attachments
from services.intake.handlers.records import Records, keep_records
from shared import topics
from shared.dead_letter import DeadLetters
from shared.events import CitizenMessageReceived, WebhookRecorded
from shared.kafka import Progress, Received, on_batch


def subscribe(
    router: KafkaRouter, *, attachments: AttachmentDeps, records: Records, dead_letters: DeadLetters
) -> dict[str, Progress]:
    """Connect topics and handlers: at least once, every effect repeatable.

    Returns:
        The progress of each consumer group.
    """

    async def on_citizen_messages(received: Sequence[Received[CitizenMessageReceived]]) -> None:
        await note_attachments(received, attachments)

    async def on_webhook_records(received: Sequence[Received[WebhookRecorded]]) -> None:
        await keep_records(received, records)

    return {
        "intake-attachments": on_batch(
            router,
            topics.CITIZEN_MESSAGES,
            service="intake",
            group_id="intake-attachments",
            handle=on_citizen_messages,
            dead_letters=dead_letters,
        ),
        "intake-records": on_batch(
            router,
            topics.WEBHOOK_RECORDS,
            service="intake",
            group_id="intake-records",
            handle=on_webhook_records,
            dead_letters=dead_letters,
            max_records=20,  # a record may have a megabyte, and one bulk write has a limit of 48
        ),
    }
