"""The router's Kafka edge."""

from collections.abc import Sequence

from faststream.kafka import KafkaRouter

from services.router.handlers.citizen_messages import MessageDeps, assign_messages
from services.router.handlers.officer_actions import OfficerDeps, take_officer_actions
from services.router.handlers.withdrawals import WithdrawalDeps, forget_withdrawn
from shared import topics
from shared.dead_letter import DeadLetters
from shared.events import CitizenChanged, CitizenMessageReceived, OfficerActed
from shared.kafka import Progress, Received, on_batch

SERVICE = "router"


def subscribe(
    router: KafkaRouter,
    *,
    messages: MessageDeps,
    officers: OfficerDeps,
    withdrawals: WithdrawalDeps,
    dead_letters: DeadLetters,
    max_records: int,
) -> dict[str, Progress]:
    """Connect the topics to their handlers: at least once, in batches, in order of each citizen.

    Returns:
        The progress of each subscriber, by consumer group.
    """

    async def on_citizen_messages(received: Sequence[Received[CitizenMessageReceived]]) -> None:
        await assign_messages(received, messages)

    async def on_officer_actions(received: Sequence[Received[OfficerActed]]) -> None:
        await take_officer_actions(received, officers)

    async def on_citizen_changes(received: Sequence[Received[CitizenChanged]]) -> None:
        await forget_withdrawn(received, withdrawals)

    return {
        "router": on_batch(
            router,
            topics.CITIZEN_MESSAGES,
            service=SERVICE,
            group_id="router",
            handle=on_citizen_messages,
            dead_letters=dead_letters,
            max_records=max_records,
        ),
        "router-actions": on_batch(
            router,
            topics.OFFICER_ACTIONS,
            service=SERVICE,
            group_id="router-actions",
            handle=on_officer_actions,
            dead_letters=dead_letters,
            max_records=max_records,
        ),
        "router-withdrawals": on_batch(
            router,
            topics.CITIZEN_CHANGES,
            service=SERVICE,
            group_id="router-withdrawals",
            handle=on_citizen_changes,
            dead_letters=dead_letters,
            max_records=max_records,
        ),
    }
