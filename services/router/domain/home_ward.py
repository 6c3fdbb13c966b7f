"""The ward that a citizen asked us to remember. Kept only with their consent, asked for once.

What is known is read from the citizen's own messages (`messages.memory`), the newest by Zalo's clock: a redelivery or
another order changes nothing, and an older "keep" never comes back after a "forget".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shared.events import CitizenEvent
from shared.ids import deterministic_id


@dataclass(frozen=True, slots=True)
class Memory:
    """What one message says about it; `asked` is our question, the others are answers.

    Attributes:
        ward: for `kept`.
    """

    what: Literal["asked", "kept", "refused", "forgotten"]
    ward: str | None = None


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is known of a person, on whatever page they write.

    Attributes:
        was_asked: nobody is asked twice.
    """

    home_ward: str | None = None
    was_asked: bool = False

    def after(self, memory: Memory) -> "Remembered":
        """What is known after one more message."""
        home_ward = self.home_ward if memory.what == "asked" else memory.ward
        return Remembered(home_ward, was_asked=True)


def person_key(user_id_by_app: str | None, citizen_key: str) -> str:
    """The same person on all pages where Zalo tells so, else the citizen of one page."""
    return deterministic_id("remembers", user_id_by_app or citizen_key)


def person_of(event: CitizenEvent) -> str:
    """The person an event is about."""
    return person_key(event.user_id_by_app, event.citizen_key)


def remembered(memories: Iterable[tuple[datetime, str, Memory]]) -> Remembered:
    """What is known by all messages of a person: moment, event and what it says."""
    result = Remembered()
    for _, _, memory in sorted(memories, key=lambda one: one[:2]):
        result = result.after(memory)
    return result
