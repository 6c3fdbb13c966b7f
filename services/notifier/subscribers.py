"""The Kafka edge: which topic is read as which group, and the one line into its handler.

At least once, in batches, offsets committed after the effect (`shared/kafka.py`). Citizens are partition keys, so a
citizen's replies arrive in the order in which they were decided.
"""

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

SERVICE = "notifier"


def subscribe(router: KafkaRouter, deps: NotifierDeps, dead_letters: DeadLetters) -> dict[str, Progress]:
    """Connect the topics with their handlers.

    Returns:
        Progress by consumer group.
    """
    return {
        "notifier-replies": on_batch(
            router,
            topics.REPLIES_REQUESTED,
            service=SERVICE,
            group_id="notifier-replies",
            handle=partial(queue_replies, deps=deps),
            dead_letters=dead_letters,
        ),
        "notifier-reports": on_batch(
            router,
            topics.DELIVERY_REPORTS,
            service=SERVICE,
            group_id="notifier-reports",
            handle=partial(note_reports, deps=deps),
            dead_letters=dead_letters,
        ),
        "notifier-deliveries": on_batch(
            router,
            topics.TEMPLATES_DELIVERED,
            service=SERVICE,
            group_id="notifier-deliveries",
            handle=partial(note_deliveries, deps=deps),
            dead_letters=dead_letters,
        ),
        "notifier-changes": on_batch(
            router,
            topics.CITIZEN_CHANGES,
            service=SERVICE,
            group_id="notifier-changes",
            handle=partial(note_changes, deps=deps),
            dead_letters=dead_letters,
        ),
        "notifier-choices": on_batch(
            router,
            topics.CITIZEN_CHOICES,
            service=SERVICE,
            group_id="notifier-choices",
            handle=partial(note_choices, deps=deps),
            dead_letters=dead_letters,
        ),
        "notifier-contacts": on_batch(
            router,
            topics.CITIZEN_MESSAGES,
            service=SERVICE,
            group_id="notifier-contacts",
            handle=partial(note_interactions, deps=deps),
            dead_letters=dead_letters,
        ),
    }
