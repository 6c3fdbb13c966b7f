"""Slices of the names of persons."""

import pytest

from services.notifier.adapters.audience_store import slices
from services.notifier.adapters.contact_store import person_of


@pytest.mark.parametrize("count", [1, 2, 7, 1_000])
def test_every_name_lies_in_exactly_one_slice(count: int) -> None:
    bounds = list(slices(count))

    assert len(bounds) == count
    for name in ["0" * 32, "f" * 32, *(person_of(str(number)) for number in range(300))]:
        assert sum(lower <= name < upper for lower, upper in bounds) == 1
