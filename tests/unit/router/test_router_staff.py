"""Who is accused: an officer who did something, not one who is called, thanked or attacked."""

import pytest
import yaml

from services.router.domain.understanding import MessageContext, Reading
from tests.factories import NOW, a_message
from tests.unit.router.fakes import HERE, RULES, UNITS, VIEW

SAID: dict[str, list[str]] = yaml.safe_load((HERE / "staff.yaml").read_text("utf-8"))


@pytest.mark.parametrize("text", SAID["accused"])
def test_an_officer_who_did_wrong_is_accused(text: str) -> None:
    assert RULES.examine(text).accuses_staff, RULES.examine(text).matches


@pytest.mark.parametrize("text", SAID["not_accused"])
def test_an_officer_who_is_only_named_is_not_accused(text: str) -> None:
    assert not RULES.examine(text).accuses_staff, RULES.examine(text).matches


@pytest.mark.parametrize("category", ["complaint", "crime_report"])
def test_an_accusation_never_goes_to_the_accused_unit(category: str) -> None:
    reading = Reading("complaint" if category == "complaint" else "crime_report", accuses_staff=True)

    assert UNITS(a_message(text="công an phường Thới An đánh tôi", page="thoi-an"), reading, VIEW).unit == "district"


@pytest.mark.parametrize("text", SAID["suffered_elsewhere"])
def test_a_crime_that_happened_is_one_though_the_citizen_asks_where_to_report_it(text: str) -> None:
    assert RULES.read(text, MessageContext("text", NOW)).category == "crime_report"
    assert not any(match.rule.category == "procedure" for match in RULES.examine(text).matches)


@pytest.mark.parametrize("text", SAID["only_asked"])
def test_a_crime_that_is_only_supposed_does_not_make_the_question_one(text: str) -> None:
    keys = {match.rule.key for match in RULES.examine(text).matches}

    assert "crime.where_to_report" not in keys
    assert any(key.startswith("procedure.") for key in keys)
