"""The language of answers: guessed from a message, offered by a button, and settled by the citizen's choice."""

from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from services.router.domain.memory import Memory, Remembered, remembered
from shared.events import Language
from tests.factories import NOW, OA_ID
from tests.unit.router.fakes import DEMO_ANSWERS, Office

MINUTE = timedelta(minutes=1)
BY_APP = "3000000000000000001"
THEFT = "mất xe máy ở đường Tô Ký"
ENGLISH_TALK = "how can I report my landlord to the police"


async def written(office: Office, text: str, minute: int, **changes: Any) -> str:
    """Returns the text of the answer."""
    at = NOW + minute * MINUTE
    filled = {"user_id_by_app": BY_APP, "event_id": f"{minute:032d}", **changes}
    await office.write(text, sent_at=at, received_at=at, **filled)
    return office.replies[-1].content.text


def titles(office: Office) -> list[str]:
    return [button.title for button in office.replies[-1].content.buttons]


async def test_a_chosen_language_is_confirmed_in_it_told_to_the_others_and_wins_over_what_is_guessed() -> None:
    office = Office()

    assert "come in English" in await written(office, "English please", 0)
    (choice,) = office.choices
    assert (choice.subject, choice.value, choice.is_on) == ("language", "en", True)
    assert office.store.cases == {}

    assert "We have received your report." in await written(office, THEFT, 1)
    assert "tiếng Việt" in await written(office, "Tiếng Việt", 2)
    assert "Mã:" in await written(office, ENGLISH_TALK, 200, user_id="7", oa_id="4000000000000000099")


async def test_choices_and_their_buttons_speak_the_chosen_language() -> None:
    office = Office()
    await written(office, "english", 0)
    assert titles(office) == ["Tiếng Việt", "Choose topics", "Choose areas"]

    await written(office, "chọn loại tin", 1)
    assert titles(office) == [
        f"Get news on {x}" for x in ("security", "papers", "fire safety", "traffic", "emergencies")
    ]

    await written(office, "get news on traffic", 2)
    assert "you get news about traffic" in office.replies[-1].content.text
    assert (office.choices[-1].subject, office.choices[-1].value) == ("topic", "giao-thong")


async def test_a_procedure_that_has_no_english_text_is_answered_in_vietnamese_to_who_writes_it() -> None:
    office = Office()
    await written(office, "english", 0)

    answer = await written(office, "khai báo tạm vắng cần giấy tờ gì", 1)

    assert office.templates[-1].startswith("procedure.")
    assert "Nguồn" in answer, "whole in one language"


def test_a_procedure_with_an_english_text_has_an_english_title() -> None:
    procedures = [p for p in DEMO_ANSWERS._procedures.values() if p.text_en]
    assert procedures
    assert all(p.title_en for p in procedures)


@pytest.mark.parametrize(
    ("chosen", "text", "offers"),
    [
        (None, "xin chào", "English"),
        ("en", "xin chào", "Tiếng Việt"),
        ("vi", "hello, good morning officer", "English"),
        (None, ENGLISH_TALK, "English"),
        ("en", ENGLISH_TALK, None),
        (None, THEFT, None),
        (None, "help, there is a fire in my house", None),  # an emergency has nothing beside it
    ],
)
async def test_the_language_is_offered_under_a_greeting_and_where_english_was_guessed(
    chosen: Language | None, text: str, offers: str | None
) -> None:
    office = Office()
    if chosen:
        await written(office, {"en": "English", "vi": "Tiếng Việt"}[chosen], 0)

    await written(office, text, 1)

    assert [title for title in titles(office) if title in {"English", "Tiếng Việt"}] == ([offers] if offers else [])


def test_the_newest_choice_counts_in_every_order_and_is_no_answer_about_the_ward() -> None:
    said = [
        (NOW, "a", Memory("speaks", language="en")),
        (NOW + MINUTE, "b", Memory("speaks", language="vi")),
        (NOW + MINUTE, "c", Memory("speaks", language="en")),
    ]

    assert {remembered(order) for order in permutations(said)} == {Remembered(language="en")}
    assert remembered(said, withdrawn_at=NOW + MINUTE) == Remembered()


async def test_a_choice_that_arrives_late_does_not_win_over_a_newer_one() -> None:
    office = Office()
    await written(office, "tiếng việt", 5)
    await written(office, "english", 3)

    assert "Mã:" in await written(office, THEFT, 6, oa_id=OA_ID)
