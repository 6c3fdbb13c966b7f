"""Case codes as people type them, and where their first part comes from."""

from datetime import date
from pathlib import Path

import pytest

from services.router.adapters.data_files import load_service_levels
from shared.case_codes import CodeSearch, case_code, code_search, load_case_code_prefix
from shared.errors import ConfigurationError

TODAY = date(2026, 11, 24)
THE_CODE = CodeSearch(("Q12-261124-0042",))
TODAY_OR_YESTERDAY = CodeSearch(("Q12-261124-0042", "Q12-261123-0042"))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Q12-261124-0042", THE_CODE),
        (" q12-261124-0042 ", THE_CODE),
        ("q12–261124–0042", THE_CODE),
        ("261124-0042", THE_CODE),
        ("Q12-261124-12345", CodeSearch(("Q12-261124-12345",))),
        ("42", TODAY_OR_YESTERDAY),
        ("0042", TODAY_OR_YESTERDAY),
        ("０042", TODAY_OR_YESTERDAY),
        ("Q12-2611", CodeSearch(prefix="Q12-2611")),
        ("261124", CodeSearch(prefix="Q12-261124")),
        ("261124-00", CodeSearch(prefix="Q12-261124-00")),
        (".*", None),
        ("", None),
        ("q1", None),
        ("$where", CodeSearch(prefix="WHERE")),
        ("a" * 99, CodeSearch(prefix="A" * 32)),
    ],
)
def test_codes_are_taken_as_people_say_them(typed: str, meant: CodeSearch | None) -> None:
    assert code_search(typed, today=TODAY, prefix="Q12") == meant


def test_a_hub_with_another_first_part_is_searched_by_it() -> None:
    assert code_search("7", today=date(2027, 1, 1), prefix="X") == CodeSearch(("X-270101-0007", "X-261231-0007"))
    assert code_search(case_code("X", TODAY, 42), today=TODAY, prefix="X") == CodeSearch(("X-261124-0042",))


def test_the_first_part_is_the_one_that_the_router_gives_codes() -> None:
    assert load_service_levels(Path("data")).case_code(TODAY, 42) == case_code(
        load_case_code_prefix(Path("data")), TODAY, 42
    )


def test_a_missing_or_wrong_first_part_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="service_levels"):
        load_case_code_prefix(tmp_path)
    (tmp_path / "service_levels.yaml").write_text("case_code_prefix: q-12", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="case_code_prefix"):
        load_case_code_prefix(tmp_path)
