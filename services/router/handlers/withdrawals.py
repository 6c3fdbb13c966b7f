"""A citizen asks for the end of their data: the ward they let us remember is forgotten.

The moment is kept, so that an older consent that comes later or again is not remembered either. Their messages and
cases are the record of what the police were told and stay with the cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.router.domain.memory import person_key
from shared.events import CitizenChanged
from shared.kafka import Received
from shared.telemetry import get_logger

log = get_logger()


class WithdrawalStore(Protocol):
    """What this handler needs of the database."""

    async def forget(self, persons: Sequence[str], *, until: datetime) -> None:
        """Erase what these persons let us remember up to a moment, also what of it arrives later."""
        ...


@dataclass(frozen=True)
class WithdrawalDeps:
    """What the handler works with."""

    store: WithdrawalStore


async def forget_withdrawn(received: Sequence[Received[CitizenChanged]], deps: WithdrawalDeps) -> None:
    """Forget the wards of those who withdrew; repeating it changes nothing.

    Raises:
        StoreUnavailable: Kafka redelivers the batch.
    """
    for change in (one.event for one in received):
        if change.change == "withdrawn":
            persons = {person_key(change.user_id_by_app, change.citizen_key), person_key(None, change.citizen_key)}
            await deps.store.forget(sorted(persons), until=change.changed_at)
            log.info("citizen.forgotten", citizen=change.citizen_key)
