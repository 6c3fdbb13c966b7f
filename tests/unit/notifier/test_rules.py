"""Retry schedules."""

from datetime import datetime, timedelta

import pytest

from services.notifier.domain.rules import RetrySchedule
from tests.factories import NOW
from tests.unit.notifier.fakes import as_utc

LISTED = RetrySchedule((10, 60))
LONG = RetrySchedule((1, 5), give_up_after=timedelta(hours=1))
NIGHT = RetrySchedule(until_local_hour=6)


@pytest.mark.parametrize(("failures", "wait_seconds"), [(1, 10), (2, 60), (3, None)])
def test_a_list_of_waits_is_all_there_is(failures: int, wait_seconds: int | None) -> None:
    at = LISTED.next_at(failures=failures, now=NOW, requested_at=NOW)

    assert at == (None if wait_seconds is None else NOW + timedelta(seconds=wait_seconds))


def test_the_last_wait_repeats_until_the_reply_is_too_old() -> None:
    last_moment = NOW + timedelta(minutes=59, seconds=59)

    assert LONG.next_at(failures=40, now=last_moment, requested_at=NOW) == last_moment + timedelta(seconds=5)
    assert LONG.next_at(failures=41, now=NOW + timedelta(hours=1), requested_at=NOW) is None


@pytest.mark.parametrize(
    ("now", "at"),
    [
        ("2026-11-24T15:30", "2026-11-24T23:00"),  # 22:30 in Vietnam
        ("2026-11-24T22:00", "2026-11-24T23:00"),  # 05:00
        ("2026-11-24T23:00", "2026-11-25T23:00"),  # 06:00: it was refused all the same
    ],
)
def test_what_may_not_be_sent_at_night_waits_for_the_morning_in_vietnam(now: str, at: str) -> None:
    assert NIGHT.next_at(failures=1, now=as_utc(now), requested_at=NOW) == as_utc(at)


def test_a_moment_of_a_schedule_is_timezone_aware() -> None:
    at = NIGHT.next_at(failures=1, now=NOW, requested_at=NOW)

    assert isinstance(at, datetime)
    assert at.tzinfo is not None
