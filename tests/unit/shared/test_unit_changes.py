"""A change of units leaves nothing without a unit, whatever it is."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.adapters.data_files import load_unit_resolver
from services.router.domain.understanding import Reading
from shared.directory import ChangeRefused, Unit, UnitChange, load_change, load_directory, with_change
from tests.factories import a_message

DATA = Path(__file__).resolve().parents[3] / "data"
DIRECTORY = load_directory(DATA, changes=())
WARDS = sorted(unit.slug for unit in DIRECTORY.units if unit.role == "ward")
MERGER = load_change(DATA / "directory" / "plans" / "merger-2025.yaml")
DAY = date(2027, 1, 1)


@pytest.mark.parametrize(
    ("day", "text", "unit"),
    [
        (30, "có trộm ở Thạnh Lộc", "thanh-loc"),
        (31, "có trộm ở Thạnh Lộc", "an-phu-dong"),
        (31, "có trộm ở HT 13", "tan-thoi-hiep"),
        (31, "có trộm ở Nguyễn Văn Quá", "dong-hung-thuan"),
        (31, "có trộm ở phường Thới An", "thoi-an"),
    ],
)
def test_a_message_is_answered_by_the_unit_of_the_day_it_was_sent(day: int, text: str, unit: str) -> None:
    merged = with_change(DIRECTORY, MERGER)
    sent_on = date(2025, 6, 30) if day == 30 else date(2025, 7, 1)
    message = a_message(text=text, page="district", sent_at=datetime(2025, 7, 1, 5, tzinfo=UTC))
    found = load_unit_resolver(DATA, merged)(message, Reading("crime_report"), merged.as_of(sent_on))

    assert (found.unit, found.doubts) == (unit, ())


@given(st.data())
def test_random_changes_leave_every_page_and_every_case_with_a_unit(data: st.DataObject) -> None:
    directory, day = DIRECTORY, DAY
    cases = set(WARDS)
    for n in range(data.draw(st.integers(1, 4))):
        day = date(2027 + n, 1, 1)
        change = UnitChange(
            name=f"c{n}",
            day=day,
            opens=tuple(a_unit(slug) for slug in data.draw(st.sets(st.sampled_from([*WARDS, "new-a", "new-b"])))),
            closes=data.draw(st.dictionaries(st.sampled_from(WARDS), st.sampled_from([*WARDS, "new-a", "district"]))),
            pages=data.draw(st.dictionaries(st.sampled_from(WARDS), st.sampled_from([*WARDS, "new-b"]), max_size=2)),
        )
        old = directory.as_of(date(2026, 1, 1))
        try:
            directory = with_change(directory, change)
        except ChangeRefused:
            continue
        cases = {change.closes.get(unit, unit) for unit in cases}
        assert directory.as_of(date(2026, 1, 1)).unit_by_page == old.unit_by_page
    view = directory.as_of(day)

    assert cases <= set(view.units)
    assert set(view.unit_by_page) == set(DIRECTORY.as_of(DAY).unit_by_page)
    assert set(view.unit_by_page.values()) <= set(view.units)


def a_unit(slug: str) -> Unit:
    return Unit(slug=slug, name=f"Công an {slug}", name_en=slug, role="ward")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"closes": {"nowhere": "thoi-an"}}, "change.unit_unknown"),
        ({"closes": {"district": "thoi-an"}}, "change.district_closed"),
        ({"closes": {"thoi-an": "nowhere"}}, "change.successor_unknown"),
        ({"closes": {"thoi-an": "thanh-loc", "thanh-loc": "thoi-an"}}, "change.successor_unknown"),
        ({"pages": {"nowhere": "thoi-an"}}, "change.page_unknown"),
        ({"pages": {"thoi-an": "nowhere"}}, "change.owner_unknown"),
    ],
)
def test_what_would_orphan_somebody_is_refused_with_its_code(changes: dict[str, dict[str, str]], code: str) -> None:
    with pytest.raises(ChangeRefused, match=code):
        with_change(DIRECTORY, UnitChange(name="x", day=DAY, **changes))
