"""The Kafka edge: which topic is read as which group, and the one line into its handler.

At least once, in batches, offsets committed after the effect (`shared/kafka.py`). Citizens are partition keys, so a
citizen's replies arrive in the order in which they were decided.
"""

from collections.abc import Awaitable, Callable
from functools import partial

from faststream.kafka import KafkaRouter

from services.notifier.handlers.events import (
    NotifierDeps,
    note_changes,
    note_choices,
    note_deliveries,
    note_interactions,
    note_reports,
    queue_replies,
)
from shared import topics
from shared.dead_letter import DeadLetters
from shared.kafka import Progress, on_batch
from shared.topics import Topic

SERVICE = "notifier"


def subscribe(router: KafkaRouter, deps: NotifierDeps, dead_letters: DeadLetters) -> dict[str, Progress]:
    """Connect the topics with their handlers.

    Returns:
        Progress by consumer group.
    """

    def reads(topic: Topic, group_id: str, handle: Callable[..., Awaitable[None]]) -> tuple[str, Progress]:
        progress = on_batch(
            router,
            topic,
            service=SERVICE,
            group_id=group_id,
            handle=partial(handle, deps=deps),
            dead_letters=dead_letters,
        )
        return group_id, progress

    return dict(
        [
            reads(topics.REPLIES_REQUESTED, "notifier-replies", queue_replies),
            reads(topics.DELIVERY_REPORTS, "notifier-reports", note_reports),
            reads(topics.TEMPLATES_DELIVERED, "notifier-deliveries", note_deliveries),
            reads(topics.CITIZEN_CHANGES, "notifier-changes", note_changes),
            reads(topics.CITIZEN_CHOICES, "notifier-choices", note_choices),
            reads(topics.CITIZEN_MESSAGES, "notifier-contacts", note_interactions),
        ]
    )
