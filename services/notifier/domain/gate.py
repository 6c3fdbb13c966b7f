"""The gate of a citizen: nothing is sent past an older unfinished reply of the same citizen; other citizens go on."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from services.notifier.domain.reply import ReplyState


@dataclass(frozen=True)
class Unfinished:
    """An unfinished reply of a citizen, as the gate sees it.

    Attributes:
        order: place among the citizen's replies (the Kafka offset: one citizen is one partition).
        uncertain_at: when it became uncertain.
    """

    id: str
    citizen_key: str
    order: int
    state: ReplyState
    due_at: datetime
    is_emergency: bool
    uncertain_at: datetime | None = None


@dataclass(frozen=True)
class Free:
    """It may be claimed."""


@dataclass(frozen=True)
class Held:
    """An older reply stands before it.

    Attributes:
        by: the older reply.
        until: when to look again; None while the older one can finish any moment.
    """

    by: str
    until: datetime | None


@dataclass(frozen=True)
class Gone:
    """Another replica has it, it is finished, or its time has not come."""


Verdict: TypeAlias = Free | Held | Gone


def gate(candidate_id: str, of_citizen: Iterable[Unfinished], *, now: datetime, grace: timedelta) -> Verdict:
    """Decide whether a queued reply may be sent now.

    An emergency answer does not wait for an older reply that itself waits (for a retry, or for a proof of what
    happened): it tells a person in danger whom to call. It does wait for one that can go now, so that order is kept
    where it costs nothing.

    Args:
        candidate_id: the reply.
        of_citizen: all unfinished replies of the same citizen.
        now: by the database's clock.
        grace: how long an uncertain reply holds back later ones; then it is left to a person.
    """
    replies = {reply.id: reply for reply in of_citizen}
    candidate = replies.get(candidate_id)
    if candidate is None or candidate.state != "queued" or candidate.due_at > now:
        return Gone()
    older = sorted(
        (reply for reply in replies.values() if (reply.order, reply.id) < (candidate.order, candidate.id)),
        key=lambda reply: (reply.order, reply.id),
    )
    for reply in older:
        match reply.state:
            case "sending":
                return Held(reply.id, None)
            case "queued" if reply.due_at <= now:
                return Held(reply.id, None)
            case "queued" if not candidate.is_emergency:
                return Held(reply.id, reply.due_at)
            case "uncertain" if not candidate.is_emergency:
                ends_at = (reply.uncertain_at or now) + grace
                if ends_at > now:
                    return Held(reply.id, ends_at)
    return Free()
