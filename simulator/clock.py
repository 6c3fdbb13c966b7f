"""A clock that tests can move, so that 48 hours and 7 days pass at once."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

VIETNAM = timezone(timedelta(hours=7))
DAY_STARTS_HOUR, NIGHT_STARTS_HOUR = 6, 22


class Clock:
    """Wall-clock time plus a movable offset; all Zalo rules read this one, timeouts and retry waits do not."""

    def __init__(self) -> None:
        self.offset_seconds = 0.0

    def now_ms(self) -> int:
        """Milliseconds since the epoch, as Zalo counts them."""
        return int((time.time() + self.offset_seconds) * 1000)

    def now(self) -> datetime:
        """The simulated instant, timezone-aware UTC."""
        return datetime.fromtimestamp(time.time() + self.offset_seconds, tz=UTC)

    def shift(self, seconds: float) -> None:
        """Move the clock forwards (or backwards) from where it is."""
        self.offset_seconds += seconds

    def set_to(self, instant: datetime) -> None:
        """Let the clock show this instant now and go on from there."""
        self.offset_seconds = instant.timestamp() - time.time()


def is_night(now: datetime) -> bool:
    """Whether broadcasts, promotions and templates by phone have to wait for the morning."""
    return not DAY_STARTS_HOUR <= now.astimezone(VIETNAM).hour < NIGHT_STARTS_HOUR


def iso(at_ms: int) -> str:
    """A readable UTC instant for logs and the control API."""
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
