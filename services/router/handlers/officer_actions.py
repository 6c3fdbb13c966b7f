"""What officers do becomes history, the case's state and a reply to the citizen."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.router.domain.cases import Case
from services.router.domain.deadlines import ServiceLevels
from services.router.domain.officers import OfficerEffect, officer_effect
from services.router.errors import CaseUnknown
from shared.crash import crash_point
from shared.events import OfficerActed, ReplyRequested
from shared.kafka import Received
from shared.telemetry import get_logger

log = get_logger()


class OfficerStore(Protocol):
    """What this handler needs of the database; every call is repeatable."""

    async def cases_with_codes(self, codes: Sequence[str]) -> dict[str, Case]:
        """Cases by the code people quote."""
        ...

    async def apply_officer_effects(self, effects: Sequence[OfficerEffect]) -> None:
        """Write history and state, each action once."""
        ...


@dataclass(frozen=True)
class OfficerDeps:
    """What the handler works with."""

    store: OfficerStore
    levels: ServiceLevels
    publish_replies: Callable[[Sequence[ReplyRequested]], Awaitable[None]]
    now: Callable[[], datetime]


async def take_officer_actions(received: Sequence[Received[OfficerActed]], deps: OfficerDeps) -> None:
    """Note each officer's decision in its case, and have an answer sent; a redelivery changes nothing.

    Raises:
        CaseUnknown: permanent; the action is parked.
        MatterIsOpen: permanent; likewise.
        StoreUnavailable: transient; Kafka redelivers the batch.
        BrokerUnavailable: transient; the replies are published again under the same ids.
    """
    actions = list({one.event.event_id: one.event for one in received}.values())
    cases = await deps.store.cases_with_codes(sorted({action.case_code for action in actions}))
    effects = []
    for action in actions:
        case = cases.get(action.case_code)
        if case is None or case.citizen_key != action.citizen_key:
            raise CaseUnknown(f"no case {action.case_code} of this citizen")
        effects.append(officer_effect(action, case, deps.levels, deps.now()))
    await deps.store.apply_officer_effects(effects)
    crash_point("router.after_officer_effects")
    await deps.publish_replies([effect.reply for effect in effects if effect.reply is not None])
    for effect in effects:
        log.info(
            "officer_action.taken",
            event_id=effect.event_id,
            case_code=effect.entry.case_code,
            action=effect.entry.kind,
            reply_id=effect.entry.reply_id,
            state=effect.values.get("state"),
        )
