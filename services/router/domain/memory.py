"""What a citizen asked us to remember: the ward they live in, and the language they chose.

The ward is kept only with their consent, asked for once.

What is known is read from the citizen's own messages (`messages.memory`), the newest by Zalo's clock: a redelivery or
another order changes nothing, and an older "keep" never comes back after a "forget". A withdrawal of all consent holds
for what was said before it, also where that arrives later.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from shared.events import CitizenEvent, Language
from shared.ids import deterministic_id

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
Rank = tuple[datetime, str]


@dataclass(frozen=True, slots=True)
class Memory:
    """What one message says about it; `asked` is our question about the ward, the next three are answers to it.

    Attributes:
        ward: for `kept`.
        language: for `speaks`.
    """

    what: Literal["asked", "kept", "refused", "forgotten", "speaks"]
    ward: str | None = None
    language: Language | None = None


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is known of a person, on whatever page they write.

    Attributes:
        was_asked: about the ward; nobody is asked twice.
        language: the one they chose; None of who never did.
        withdrawn_at: what they said until then is not known any more.
        ward_rank: moment and event of the newest word about the ward; likewise `language_rank`.
    """

    home_ward: str | None = None
    was_asked: bool = False
    language: Language | None = None
    withdrawn_at: datetime = field(default=NEVER, compare=False)
    ward_rank: Rank = field(default=(NEVER, ""), compare=False)
    language_rank: Rank = field(default=(NEVER, ""), compare=False)

    def may_keep(self, at: datetime) -> bool:
        """Whether what was said at this moment, by Zalo's clock, may be remembered."""
        return at > self.withdrawn_at

    def after(self, memory: Memory, *, at: datetime, event_id: str) -> "Remembered":
        """What is known after one more message, in whatever order messages come."""
        if not self.may_keep(at):
            return self
        rank = (at, event_id)
        if memory.what == "speaks":
            is_newer = rank > self.language_rank
            return replace(self, language=memory.language, language_rank=rank) if is_newer else self
        if memory.what == "asked" or rank < self.ward_rank:
            return replace(self, was_asked=True)
        return replace(self, home_ward=memory.ward, was_asked=True, ward_rank=rank)


def person_key(user_id_by_app: str | None, citizen_key: str) -> str:
    """The same person on all pages where Zalo tells so, else the citizen of one page."""
    return deterministic_id("remembers", user_id_by_app or citizen_key)


def person_of(event: CitizenEvent) -> str:
    """The person an event is about."""
    return person_key(event.user_id_by_app, event.citizen_key)


def remembered(memories: Iterable[tuple[datetime, str, Memory]], *, withdrawn_at: datetime = NEVER) -> Remembered:
    """What is known by all messages of a person: moment, event and what it says."""
    result = Remembered(withdrawn_at=withdrawn_at)
    for at, event_id, memory in memories:
        result = result.after(memory, at=at, event_id=event_id)
    return result
