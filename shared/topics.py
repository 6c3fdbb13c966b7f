"""Every topic, as data: its key, size, retention, owner and readers.

`hub init` creates them and the AsyncAPI documents are made from them. `tests/unit/shared/test_topics.py` holds every
service's subscriptions against this list.
"""

from dataclasses import dataclass
from datetime import timedelta

from shared.events import (
    CitizenChanged,
    CitizenChose,
    CitizenMessageReceived,
    DeliveryReported,
    Event,
    OfficerActed,
    ReplyRequested,
    TemplateDelivered,
    WebhookRecorded,
)


@dataclass(frozen=True)
class Topic:
    """One topic.

    Attributes:
        key: what the partition key is made of; events of one key stay in order.
        partitions: the most replicas of one reader that can share the work.
        retention: how long Kafka keeps it; must be longer than the longest outage of a reader.
        owner: the service that publishes it; `officers` are the console and the command line.
        readers: consumer groups by service.
    """

    name: str
    event: type[Event]
    key: str
    partitions: int
    retention: timedelta
    owner: str
    readers: dict[str, tuple[str, ...]]
    about: str


CITIZEN_MESSAGES = Topic(
    name="citizen.messages.v1",
    event=CitizenMessageReceived,
    key="citizen (oa_id:user_id)",
    partitions=12,
    retention=timedelta(days=14),
    owner="intake",
    readers={"router": ("router",), "notifier": ("notifier-contacts",), "intake": ("intake-attachments",)},
    about="Normalised messages of citizens.",
)
DELIVERY_REPORTS = Topic(
    name="delivery.reports.v1",
    event=DeliveryReported,
    key="citizen (oa_id:user_id)",
    partitions=12,
    retention=timedelta(days=14),
    owner="intake",
    readers={"notifier": ("notifier-reports",)},
    about="Echoes and receipts of what the pages sent.",
)
TEMPLATES_DELIVERED = Topic(
    name="templates.delivered.v1",
    event=TemplateDelivered,
    key="event",
    partitions=6,
    retention=timedelta(days=14),
    owner="intake",
    readers={"notifier": ("notifier-deliveries",)},
    about="Receipts of templates that were sent by phone number.",
)
CITIZEN_CHANGES = Topic(
    name="citizen.changes.v1",
    event=CitizenChanged,
    key="citizen (oa_id:user_id)",
    partitions=12,
    retention=timedelta(days=14),
    owner="intake",
    readers={"notifier": ("notifier-changes",), "router": ("router-withdrawals",)},
    about="Followers, profiles, tags, calls, feedback and withdrawals.",
)
CITIZEN_CHOICES = Topic(
    name="citizen.choices.v2",
    event=CitizenChose,
    key="citizen (oa_id:user_id)",
    partitions=12,
    retention=timedelta(days=14),
    owner="router",
    readers={"notifier": ("notifier-choices",)},
    about="What citizens chose to receive: broadcasts, topics, areas, language.",
)
WEBHOOK_RECORDS = Topic(
    name="webhook.records.v1",
    event=WebhookRecorded,
    key="event",
    partitions=6,
    retention=timedelta(days=14),
    owner="intake",
    readers={"intake": ("intake-records",)},
    about="Accepted webhooks that lead to nothing else, with the reason.",
)
REPLIES_REQUESTED = Topic(
    name="replies.requested.v1",
    event=ReplyRequested,
    key="citizen (oa_id:user_id)",
    partitions=12,
    retention=timedelta(days=14),
    owner="router",
    readers={"notifier": ("notifier-replies",)},
    about="Answers that are to be sent.",
)
OFFICER_ACTIONS = Topic(
    name="officer.actions.v1",
    event=OfficerActed,
    key="citizen (oa_id:user_id)",
    partitions=12,
    retention=timedelta(days=14),
    owner="officers",
    readers={"router": ("router-actions",)},
    about="What officers decided about a case.",
)

ALL_TOPICS: tuple[Topic, ...] = (
    CITIZEN_MESSAGES,
    DELIVERY_REPORTS,
    TEMPLATES_DELIVERED,
    CITIZEN_CHANGES,
    CITIZEN_CHOICES,
    WEBHOOK_RECORDS,
    REPLIES_REQUESTED,
    OFFICER_ACTIONS,
)
