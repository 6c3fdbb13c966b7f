"""Both languages say the same things, and everything the pages ask for is there."""

import re
from pathlib import Path
from string import Formatter

import pytest
import yaml

from services.console.domain import CATEGORIES, SUBTOPICS, URGENCIES
from services.console.texts import TEXTS_DIR, Texts, load_texts
from shared.events import LANGUAGES

CONSOLE = Path("services/console")
TEXTS = load_texts()


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_both_languages_have_the_same_keys() -> None:
    assert TEXTS["vi"].keys() == TEXTS["en"].keys()


def test_both_languages_put_the_same_values_into_each_text() -> None:
    vietnamese, english = (TEXTS[language].starting_with("") for language in LANGUAGES)
    differing = [key for key, text in vietnamese.items() if placeholders(text) != placeholders(english[key])]
    assert differing == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_key_became_something_else_in_yaml(language: str) -> None:
    def keys(tree: object) -> list[object]:
        if not isinstance(tree, dict):
            return []
        return [*tree, *(inner for branch in tree.values() for inner in keys(branch))]

    everything = keys(yaml.safe_load((TEXTS_DIR / f"{language}.yaml").read_text("utf-8")))
    assert [key for key in everything if not isinstance(key, str)] == []  # `on:` would be True


def test_every_text_a_page_names_exists() -> None:
    named = set()
    for file in (CONSOLE / "templates").glob("*.html"):
        named |= set(re.findall(r'\bt\("([a-z_.]+)"[,)]', file.read_text("utf-8")))
    assert sorted(named - TEXTS["vi"].keys()) == []
    assert len(named) > 80


def test_every_fault_a_rule_names_has_a_text() -> None:
    domain = (CONSOLE / "domain.py").read_text("utf-8")
    faults = set(re.findall(r'"((?:reply|hand_over|close|reopen|correct|note)\.[a-z_]+)"', domain))
    assert sorted(faults - TEXTS["vi"].keys()) == []


def test_every_category_and_urgency_has_a_name() -> None:
    wanted = {f"category.{name}" for name in CATEGORIES} | {f"subtopic.{name}" for name in SUBTOPICS}
    assert wanted | {f"urgency.{name}" for name in URGENCIES} <= TEXTS["vi"].keys()


def test_every_reason_of_the_router_and_of_zalo_has_words_or_its_area_has() -> None:
    rules = yaml.safe_load(Path("data/rules/understanding.yaml").read_text("utf-8"))["rules"]
    errors = Path("data/delivery/zalo_errors.yaml").read_text("utf-8")
    codes = [rule["key"] for rule in rules] + re.findall(r"reason: ([a-z_]+\.[a-z_]+)", errors)
    areas = {code.partition(".")[0] for code in codes}
    assert sorted(area for area in areas if not TEXTS["vi"].has(f"reason.{area}.other")) == []
    named = sum(1 for code in codes if TEXTS["vi"].has(f"reason.{code}"))
    assert named > len(codes) / 2, "give the new reasons words under `reason` in services/console/texts/{vi,en}.yaml"


def test_a_code_without_words_is_shown_as_it_is() -> None:
    texts = Texts("vi", {"reason.known": "Biết {n}"})
    assert texts.words("reason.unknown", "unknown") == "unknown"
    assert texts.words("reason.known", "known") == "known"
    assert texts.words("reason.known", "known", {"n": 1}) == "Biết 1"


def test_a_text_that_does_not_exist_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        TEXTS["vi"]("no.such.text")


def test_every_reason_that_the_router_gives_is_put_into_words() -> None:
    areas = r'"((?:model|safety|unit|reading)\.(?!json")[a-z_]*[a-z])"'
    codes = {
        code for file in Path("services/router").rglob("*.py") for code in re.findall(areas, file.read_text("utf-8"))
    }
    assert codes
    assert [code for code in sorted(codes) if not TEXTS["vi"].has(f"reason.{code}")] == []
