"""The domain page's categories, urgencies and units, as a table of messages that citizens write."""

from typing import Any

import pytest
import yaml

from services.router.domain.understanding import MessageContext, Reading
from tests.factories import NOW, a_message
from tests.unit.router.fakes import HERE, RULES, UNITS, VIEW

SAID: dict[str, list[Any]] = yaml.safe_load((HERE / "messages.yaml").read_text("utf-8"))
CASES: list[dict[str, Any]] = SAID["messages"]
RULED: list[dict[str, Any]] = SAID["rules"]
USUAL_URGENCY = {"emergency": "emergency", "crime_report": "high"}


def read(case: dict[str, Any], text: str | None = None) -> Reading:
    return RULES.read(case["text"] if text is None else text, MessageContext("text", NOW))


@pytest.mark.parametrize("case", CASES, ids=[case["text"][:40] for case in CASES])
def test_a_message_gets_its_category_urgency_and_unit(case: dict[str, Any]) -> None:
    category, _, subtopic = case["is"].partition("/")
    reading = read(case)
    page = case.get("page", "tan-chanh-hiep")
    assignment = UNITS(a_message(text=case["text"], page=page), reading, VIEW)

    assert (reading.category, reading.subtopic) == (category, subtopic or None), reading
    assert reading.urgency == case.get("urgency", USUAL_URGENCY.get(category, "normal")), reading
    assert assignment.unit == case.get("unit", page), assignment


@pytest.mark.parametrize("text", SAID["emergencies"])
def test_words_of_danger_are_an_emergency_by_the_rules_alone(text: str) -> None:
    assert "emergency" in {match.rule.category for match in RULES.examine(text).matches}


@pytest.mark.parametrize("text", SAID["no_emergencies"])
def test_words_that_only_look_like_danger_are_none(text: str) -> None:
    assert "emergency" not in {match.rule.category for match in RULES.examine(text).matches}


@pytest.mark.parametrize("case", RULED, ids=[case["text"][:40] for case in RULED])
def test_a_rule_matches_what_it_is_about(case: dict[str, Any]) -> None:
    keys = {match.rule.key for match in RULES.examine(case["text"]).matches}

    assert keys >= {*case["has"]}
    assert keys.isdisjoint(case["has_not"])
