"""What waits for a person, counted for the alerts; nothing is decided by it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class WaitingCase:
    """A case that waits for an officer.

    Attributes:
        due_at: when it has waited too long.
    """

    unit: str
    is_emergency: bool
    due_at: datetime


@dataclass(frozen=True, slots=True)
class WaitingCounts:
    """Cases by unit: all that wait, those that have waited too long, and the emergencies among them."""

    waiting: Counter[str]
    overdue: Counter[str]
    emergencies: Counter[str]


def count_waiting(cases: Sequence[WaitingCase], now: datetime) -> WaitingCounts:
    """Count what waits at this moment."""
    return WaitingCounts(
        waiting=Counter(case.unit for case in cases),
        overdue=Counter(case.unit for case in cases if case.due_at < now),
        emergencies=Counter(case.unit for case in cases if case.is_emergency),
    )
