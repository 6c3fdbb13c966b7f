"""Slices of an audience, and the caps over two broadcasts at once."""

import itertools

import pytest

from services.notifier.adapters.lane_rules import load_lane_book
from services.notifier.domain.audience import Had
from services.notifier.domain.copies import Recent, cap_verdict, copy_id, slice_count, slice_of
from services.notifier.domain.lanes import Policy
from shared.ids import deterministic_id
from tests.unit.notifier.fakes import DATA_DIR

POLICY: Policy = load_lane_book(DATA_DIR).policies[0]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 86, 1_000, 1_429])
def test_slices_hold_every_name_once(count: int) -> None:
    parts = [slice_of(number, count) for number in range(count)]

    assert parts[0].first == "0" * 32
    assert all(one.end == other.first for one, other in itertools.pairwise(parts))
    assert parts[-1].end > "f" * 32
    for name in ["0" * 32, "f" * 32, *(deterministic_id("person", str(number)) for number in range(300))]:
        assert sum(part.first <= name < part.end for part in parts) == 1


@pytest.mark.parametrize(
    ("contacts", "expected", "slices"),
    [
        (0, 0, 1),
        (0, 700, 1),
        (59_881, 0, 86),
        (59_881, 59_881, 86),
        (1_000_000, 0, 1_429),
        (1_000_000, 50, 125),  # few of many: a slice must still be small enough to read at once
    ],
)
def test_there_are_as_many_slices_as_the_people_need(contacts: int, expected: int, slices: int) -> None:
    assert slice_count(contacts=contacts, expected=expected, persons=700) == slices


def test_a_copy_has_one_id() -> None:
    assert copy_id("b1", "p") == copy_id("b1", "p")
    assert len({copy_id("b1", "p"), copy_id("b2", "p"), copy_id("b1", "q")}) == 3


@pytest.mark.parametrize(
    ("recent", "verdict"),
    [
        (Recent(), ("send", "")),
        (Recent(Had(1, 1)), ("capped", "cap.day")),
        (Recent(Had(0, 2)), ("send", "")),
        (Recent(Had(0, 3)), ("capped", "cap.week")),
        (Recent(Had(0, 0), pending=1), ("wait", "cap.pending")),
        (Recent(Had(1, 1), pending=1), ("capped", "cap.day")),
        (Recent(Had(0, 2), pending=1), ("wait", "cap.pending")),
    ],
)
def test_caps_count_what_is_certain_and_wait_for_what_is_under_way(recent: Recent, verdict: tuple[str, str]) -> None:
    assert cap_verdict(recent, POLICY) == verdict
