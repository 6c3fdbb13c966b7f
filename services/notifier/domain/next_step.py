"""What follows an attempt: the one place that decides whether a reply may ever be sent again."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from services.notifier.domain.outcomes import Accepted, NotSent, Refused, SendOutcome, Unknown
from services.notifier.domain.rules import RetrySchedule


class Attempted(Protocol):
    """A reply or a copy of a broadcast, as far as trying again goes."""

    @property
    def failures(self) -> int:
        """Proven failures before this attempt."""
        ...

    @property
    def requested_at(self) -> datetime:
        """When it was asked for, or first tried."""
        ...


@dataclass(frozen=True)
class Sent:
    """Zalo took it."""

    message_id: str | None
    quota_type: str | None


@dataclass(frozen=True)
class TryAgain:
    """It was provably not taken, and a later try may work."""

    at: datetime
    reason: str
    failures: int


@dataclass(frozen=True)
class Fail:
    """It was provably not taken, and no further try is made."""

    reason: str


@dataclass(frozen=True)
class Park:
    """Nobody knows. It waits for a proof or for a person, and is never sent again by itself."""

    reason: str
    why: str


Step: TypeAlias = Sent | TryAgain | Fail | Park


def next_step(
    outcome: SendOutcome,
    reply: Attempted,
    *,
    schedules: dict[str, RetrySchedule],
    now: datetime,
    not_before: datetime | None = None,
) -> Step:
    """Decide what follows a send attempt.

    Args:
        outcome: what the call came to.
        reply: what was attempted, as it was claimed.
        schedules: the retry schedules.
        now: when the attempt ended, by the database's clock.
        not_before: end of a shared block of the page or the app.

    Source: docs/architecture/notifier.md; `data/delivery/retries.yaml`.
    """
    match outcome:
        case Accepted(message_id, quota_type):
            return Sent(message_id, quota_type)
        case Unknown(reason, why):
            return Park(reason, why)
        case NotSent():
            return _again(reply, schedules["not_sent"], "zalo.unreachable", now, not_before)
        case Refused(rule=rule):
            if rule.schedule is None:
                return Fail(rule.reason)
            return _again(reply, schedules[rule.schedule], rule.reason, now, not_before)


def without_token(
    reply: Attempted, reason: str, *, schedules: dict[str, RetrySchedule], now: datetime
) -> TryAgain | Fail:
    """Decide what follows when the page had no access token, so that no call was made."""
    return _again(reply, schedules["no_token"], reason, now, None)


def _again(
    reply: Attempted, schedule: RetrySchedule, reason: str, now: datetime, not_before: datetime | None
) -> TryAgain | Fail:
    failures = reply.failures + 1
    at = schedule.next_at(failures=failures, now=now, requested_at=reply.requested_at)
    if at is None:
        return Fail(reason)
    return TryAgain(max(at, not_before) if not_before else at, reason, failures)
