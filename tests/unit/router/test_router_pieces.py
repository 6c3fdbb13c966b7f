"""One thought in several bubbles is one case; and the one question about the ward."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import StoreUnavailable
from shared.events import CitizenMessageReceived, Coordinates
from tests.factories import NOW, a_message
from tests.properties import examples
from tests.unit.router.fakes import Office

BUBBLES = (
    "anh ơi",
    "công an ơi cho em hỏi",
    "nhà kế bên",
    "tụi nó đang cầm dao chém nhau",
    "ở phường Thới An",
    "HT 13 nha",
    "lẹ lên giùm em",
    "làm căn cước cần giấy tờ gì vậy",
    "cảm ơn",
    "nhà em bị trộm đêm qua",
    "cái đó tính sao",
)


def after(seconds: float) -> dict[str, datetime]:
    at = NOW + timedelta(seconds=seconds)
    return {"sent_at": at, "received_at": at, "occurred_at": at}


async def write_all(office: Office, *texts: str, every: float = 8) -> list[CitizenMessageReceived]:
    return [await office.write(text, **after(n * every)) for n, text in enumerate(texts)]


async def test_a_report_in_three_bubbles_is_one_case_with_the_ward_of_the_last_one() -> None:
    office = Office()
    await write_all(office, "nhà em bị trộm đêm qua", "mất 2 chiếc xe máy", "phường Thới An nha")

    case = office.only_case
    assert (case.category, case.unit, case.unit_basis) == ("crime_report", "thoi-an", "place")
    assert office.templates == ["crime_report.received"]


async def test_an_unclear_beginning_becomes_the_emergency_it_turns_out_to_be() -> None:
    office = Office()
    await write_all(office, "ở cái nhà kế bên kìa", "tụi nó đang cầm dao chém nhau")

    case = office.only_case
    assert (case.matter, case.category, case.urgency, case.priority) == ("incident", "emergency", "emergency", 0)
    assert office.templates[-1] == "emergency.violence"
    assert "case.matter_understood" in case.reasons


async def test_the_same_answer_is_not_repeated_for_the_next_bubble() -> None:
    office = Office()
    await write_all(office, "làm căn cước cần giấy tờ gì vậy", "cần giấy tờ gì cho con của tôi để làm căn cước")

    assert len(office.templates) == len(set(office.templates))
    assert len(office.store.cases) == 1


async def test_two_questions_within_a_minute_are_both_answered() -> None:
    office = Office()
    await write_all(office, "làm căn cước cần giấy tờ gì vậy", "đăng ký tạm trú cần những gì")

    assert office.templates == ["procedure.citizen_id_issue", "procedure.temporary_residence"]


async def test_what_comes_a_minute_later_is_read_alone() -> None:
    office = Office()
    await write_all(office, "nhà em bị trộm đêm qua", "ở phường Thới An", every=61)

    assert "reading.in_pieces" not in {r for m in office.store.messages.values() for r in m.decision.reasons}


async def test_a_place_shared_before_the_words_counts_for_them() -> None:
    office = Office()
    await office.write("", kind="location", location=Coordinates(latitude=10.8552, longitude=106.6927), **after(0))
    await office.write("nhà em bị trộm đêm qua", **after(10))

    assert office.only_case.unit == "an-phu-dong"


@given(
    bubbles=st.lists(st.sampled_from(BUBBLES), min_size=1, max_size=6, unique=True),
    cuts=st.sets(st.integers(1, 5)),
    crash=st.integers(0, 12),
)
@settings(max_examples=examples(60))
async def test_pieces_lead_to_the_same_cases_however_they_are_delivered(
    bubbles: list[str], cuts: set[int], crash: int
) -> None:
    messages = [a_message(text=text, **after(n * 7)) for n, text in enumerate(bubbles)]
    smooth, rough = Office(), Office()
    await smooth.receive(*messages)
    for batch in _cut(messages, cuts):
        rough.store.fails_after = crash
        try:
            await rough.receive(*batch)
        except StoreUnavailable:
            rough.store.fails_after = None
            await rough.receive(*batch)
        rough.store.fails_after = None

    assert _outcome(rough) == _outcome(smooth)
    assert rough.templates == smooth.templates
    if "tụi nó đang cầm dao chém nhau" in bubbles:
        assert any(case.urgency == "emergency" and case.needs_person for case in rough.store.cases.values())


def _cut(messages: Sequence[CitizenMessageReceived], cuts: set[int]) -> list[Sequence[CitizenMessageReceived]]:
    edges = [0, *sorted(cut for cut in cuts if cut < len(messages)), len(messages)]
    return [messages[start:end] for start, end in pairwise(edges)]


def _outcome(office: Office) -> list[tuple[Any, ...]]:
    return sorted(
        (case.case_id, case.matter, case.category, case.urgency, case.unit, case.state, case.needs_person)
        for case in office.store.cases.values()
    )


# -- the question ---------------------------------------------------------------------


async def test_a_doubtful_ward_is_asked_for_once_with_buttons_and_the_answer_moves_the_case() -> None:
    office = Office()
    await office.write("nhà em ở Hà Huy Giáp bị trộm đêm qua", page="district", **after(0))
    (reply,) = office.replies

    assert [button.payload for button in reply.content.buttons] == ["Phường Thạnh Lộc", "Phường Thạnh Xuân"]
    assert "phường nào" in reply.content.text
    assert office.only_case.unit == "district"

    answer = await office.write("Phường Thạnh Xuân", page="district", **after(200))

    case = office.only_case
    assert (case.unit, case.unit_basis, case.category) == ("thanh-xuan", "told", "crime_report")
    assert office.templates == ["crime_report.received", "question.thanks"]
    assert "unit.told" in office.reasons_of(answer)


async def test_the_question_is_not_asked_twice_and_never_in_an_emergency() -> None:
    office = Office()
    await office.write("nhà em ở Hà Huy Giáp bị trộm đêm qua", page="district", **after(0))
    await office.write("Hà Huy Giáp hay bị trộm lắm", page="district", **after(1_500))
    await office.write("cháy nhà ở Hà Huy Giáp", page="district", user_id="2", **after(0))

    assert [len(reply.content.buttons) for reply in office.replies] == [2, 0, 0]


@pytest.mark.parametrize("text", ["thạnh xuân", "PHUONG THANH XUAN"])
async def test_an_answer_may_be_typed_as_the_button_says_it(text: str) -> None:
    office = Office()
    await office.write("nhà em ở Hà Huy Giáp bị trộm đêm qua", page="district", **after(0))
    await office.write(text, page="district", **after(200))

    assert office.only_case.unit == "thanh-xuan"
