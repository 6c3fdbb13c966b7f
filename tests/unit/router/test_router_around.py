"""What is put around messages: the same each time, nothing that is a matter, and not what is measured with."""

from pathlib import Path
from typing import get_args

import pytest

from services.router.domain.understanding import INCIDENTS, Category
from services.router.learning.around import ASKS_TO_ACT, Phrases, load_around
from services.router.learning.corpus import personal_data
from services.router.learning.variants import for_training
from shared.errors import ConfigurationError
from tests.unit.router.fakes import DATA, RULES

AROUND = load_around(DATA)
COPIES = [str(number) for number in range(300)]
TEXT = "mất cái xe đạp để trước nhà"


def phrases_of(phrases: Phrases) -> set[str]:
    return {*phrases.openings, *phrases.closings, *phrases.places, *phrases.requests}


def test_a_copy_gets_the_same_each_time_and_not_every_copy_gets_something() -> None:
    first, second = ([AROUND.for_training(TEXT, "crime_report", c, is_english=False) for c in COPIES] for _ in range(2))

    assert first == second
    assert all(TEXT in text for text in first)
    assert 0.5 < sum(text != TEXT for text in first) / len(first) < 0.7
    assert len(set(first)) > len(COPIES) / 3


@pytest.mark.parametrize("category", get_args(Category))
def test_only_what_somebody_must_act_on_is_asked_to_be_acted_on(category: Category) -> None:
    texts = [AROUND.for_training(TEXT, category, copy, is_english=False) for copy in COPIES]

    asks = any(text.endswith(request) for text in texts for request in AROUND.requests)
    assert asks == (category in ASKS_TO_ACT)


def test_english_texts_get_english_words() -> None:
    texts = {AROUND.for_training("my bike is gone", "crime_report", copy, is_english=True) for copy in COPIES}

    assert any(text.endswith("thanks in advance") for text in texts)
    assert not any(opening in text for text in texts for opening in ("chào", "ơi", "cảm ơn"))


def test_what_is_measured_with_is_unknown_to_the_training() -> None:
    trained = {phrase.casefold() for phrase in phrases_of(AROUND) | phrases_of(AROUND.english)}
    measured = phrases_of(AROUND.measured)

    assert measured
    assert trained.isdisjoint(phrase.casefold() for phrase in measured)
    assert AROUND.for_measuring(TEXT) == AROUND.for_measuring(TEXT) != TEXT


def test_nothing_around_is_an_incident_calls_off_or_leads_to_a_person() -> None:
    for phrase in phrases_of(AROUND) | phrases_of(AROUND.english) | phrases_of(AROUND.measured):
        findings = RULES.examine(phrase)
        assert not RULES.calls_off(findings), phrase
        assert INCIDENTS.isdisjoint(match.rule.category for match in findings.matches), phrase
        assert not list(personal_data(phrase)), phrase


@pytest.mark.parametrize("content", ["openings: [1, {}]", "hellos: [xin chào]", "openings: ["])
def test_a_wrong_file_is_named(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "understanding"
    folder.mkdir()
    (folder / "around.yaml").write_text(content, "utf-8")

    with pytest.raises(ConfigurationError, match=r"around\.yaml"):
        load_around(tmp_path)


def test_a_message_is_trained_as_it_is_too() -> None:
    texts = for_training(TEXT, lambda copy: f"{copy} {TEXT}")

    assert texts[0][0] == TEXT
    assert [text.split()[0] == "noisy" for text, _ in texts[:3]] == [False, False, True]
