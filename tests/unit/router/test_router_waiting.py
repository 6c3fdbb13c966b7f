"""The numbers of what waits for a person."""

from datetime import timedelta

from prometheus_client import REGISTRY

from services.router.domain.waiting import WaitingCase
from services.router.handlers.waiting_cases import report
from tests.factories import NOW

LATER, BEFORE = NOW + timedelta(minutes=5), NOW - timedelta(minutes=5)


def told(unit: str) -> list[float | None]:
    names = ("hub_cases_waiting", "hub_cases_overdue", "hub_emergencies_waiting")
    return [REGISTRY.get_sample_value(name, {"unit": unit}) for name in names]


def test_waiting_overdue_and_emergencies_are_told_by_unit_and_end() -> None:
    cases = [
        WaitingCase("thoi-an", is_emergency=True, due_at=LATER),
        WaitingCase("thoi-an", is_emergency=False, due_at=BEFORE),
        WaitingCase("gone", is_emergency=False, due_at=LATER),
    ]

    report(cases, ["thoi-an", "district"], NOW)
    assert [told("thoi-an"), told("district"), told("gone")] == [[2, 1, 1], [0, 0, 0], [1, 0, 0]]

    report([], ["thoi-an", "district"], NOW)
    assert [told("thoi-an"), told("gone")] == [[0, 0, 0], [None, None, None]]
