from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.directory import Directory, load_directory
from shared.errors import ConfigurationError

UNITS: list[dict[str, Any]] = [
    {"slug": "district", "name": "Công an Quận 12", "name_en": "District 12", "role": "district"},
    {
        "slug": "tan-chanh-hiep",
        "name": "Công an phường Tân Chánh Hiệp",
        "name_en": "Tan Chanh Hiep",
        "role": "ward",
        "valid_to": "2025-07-01",
        "succeeded_by": "trung-my-tay-2025",
        "codes": [{"code": "26791"}],
    },
    {
        "slug": "trung-my-tay-2025",
        "name": "Công an phường Trung Mỹ Tây",
        "name_en": "Trung My Tay",
        "role": "ward",
        "valid_from": "2025-07-01",
    },
]
PAGES: list[dict[str, Any]] = [
    {"page": "tan-chanh-hiep", "unit": "tan-chanh-hiep", "valid_to": "2025-07-01"},
    {"page": "tan-chanh-hiep", "unit": "trung-my-tay-2025", "valid_from": "2025-07-01"},
]


def loaded(folder: Path, units: Any = UNITS, pages: Any = PAGES) -> Directory:
    (folder / "directory").mkdir(exist_ok=True)
    for name, rows in (("units", units), ("pages", pages)):
        (folder / "directory" / f"{name}.yaml").write_text(yaml.safe_dump({name: rows}, allow_unicode=True), "utf-8")
    return load_directory(folder)


def test_a_page_belongs_to_the_unit_that_owned_it_on_that_day(tmp_path: Path) -> None:
    directory = loaded(tmp_path)

    last_day = directory.as_of(date(2025, 6, 30)).unit_of_page("tan-chanh-hiep")
    first_day = directory.as_of(date(2025, 7, 1)).unit_of_page("tan-chanh-hiep")

    assert last_day is not None
    assert first_day is not None
    assert (last_day.slug, first_day.slug) == ("tan-chanh-hiep", "trung-my-tay-2025")


def test_only_units_that_exist_on_the_day_are_seen(tmp_path: Path) -> None:
    directory = loaded(tmp_path)

    assert [unit.slug for unit in directory.as_of(date(2024, 1, 1)).wards()] == ["tan-chanh-hiep"]
    assert [unit.slug for unit in directory.as_of(date(2026, 1, 1)).wards()] == ["trung-my-tay-2025"]
    assert directory.as_of(date(2026, 1, 1)).district().slug == "district"


def test_a_page_that_nobody_owns_has_no_unit(tmp_path: Path) -> None:
    assert loaded(tmp_path).as_of(date(2026, 1, 1)).unit_of_page("elsewhere") is None


@pytest.mark.parametrize(
    ("units", "pages", "said"),
    [
        (UNITS, [{"page": "a", "unit": "nowhere"}], "units that do not exist: nowhere"),
        (UNITS[1:], [], "no unit with role district"),
        ([{**UNITS[0], "colour": "red"}], [], "colour"),
        ([{**UNITS[0], "slug": "Quận 12"}], [], "slug"),
        ([{**UNITS[0], "role": "village"}], [], "role"),
        (None, [], "units.yaml"),
    ],
)
def test_a_wrong_directory_is_refused_with_the_place_of_the_fault(
    tmp_path: Path, units: Any, pages: Any, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        loaded(tmp_path, units, pages)


def test_a_missing_directory_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"units\.yaml"):
        load_directory(tmp_path)
