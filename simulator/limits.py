"""What a package allows in a month, and the arithmetic of days and months. Pure: no clock, no state but counters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path

import yaml

from simulator.clock import VIETNAM

_DATA = Path(__file__).parent / "data"
PROMOTIONS_A_DAY = 1
BROADCASTS_A_DAY = 1


@dataclass(frozen=True, slots=True)
class Package:
    """What an Official Account has paid for; the months of its message quota begin on a day of its own."""

    slug: str
    name: str
    messages_a_month: int
    broadcasts_a_month: int
    promotions_a_month: int
    articles_a_month: int


@dataclass(slots=True)
class Tally:
    """How often something happened today and this month, counted in Vietnamese days."""

    day: int = 0
    today: int = 0
    month: int = 0
    this_month: int = 0

    def read(self, day: date) -> tuple[int, int]:
        """How often on this day, and in its month."""
        return (
            self.today if self.day == day.toordinal() else 0,
            self.this_month if self.month == _month(day) else 0,
        )

    def count(self, day: date) -> None:
        """Count once more."""
        today, this_month = self.read(day)
        self.day, self.month = day.toordinal(), _month(day)
        self.today, self.this_month = today + 1, this_month + 1


@cache
def packages() -> dict[str, Package]:
    """All packages by their short name."""
    rows = yaml.safe_load((_DATA / "packages.yaml").read_text(encoding="utf-8"))
    return {slug: Package(slug, **row) for slug, row in rows.items()}


def local_day(now: datetime) -> date:
    """The day in Vietnam."""
    return now.astimezone(VIETNAM).date()


def last_renewal(day: date, renews_on_day: int) -> date:
    """The day on which the current month of a package began."""
    if day.day >= renews_on_day:
        return day.replace(day=renews_on_day)
    first = day.replace(day=1)
    return date(first.year - (first.month == 1), (first.month - 2) % 12 + 1, renews_on_day)


def next_renewal(day: date, renews_on_day: int) -> date:
    """The day on which a package's message quota is full again."""
    last = last_renewal(day, renews_on_day)
    return date(last.year + last.month // 12, last.month % 12 + 1, renews_on_day)


def _month(day: date) -> int:
    return day.year * 12 + day.month
