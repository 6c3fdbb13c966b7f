"""The ward that a citizen lets us remember: asked once, used where no place is named, forgotten when they say so."""

import asyncio
import random
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.router.domain.choices import WardMemory, Wish
from services.router.domain.memory import Memory, Remembered, person_of, remembered
from services.router.handlers.withdrawals import WithdrawalDeps, forget_withdrawn
from shared.kafka import Received
from tests.factories import NOW, a_change, a_message
from tests.properties import examples
from tests.unit.router.fakes import CHOICES, VIEW, Office
from tests.unit.router.test_router_choices import all_buttons

DOUBTFUL = "Mất xe máy ở đường Lê Văn Khương"
BY_APP = "3000000000000000001"
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("lưu phường Thới An", WardMemory(Memory("kept", "thoi-an"))),
        ("luu phuong thoi an ạ", WardMemory(Memory("kept", "thoi-an"))),
        ("không lưu phường", WardMemory(Memory("refused"))),
        ("quên phường", WardMemory(Memory("forgotten"))),
        ("Quen phuong!", WardMemory(Memory("forgotten"))),
        ("quên phường nào rồi", None),
        ("lưu phường Bến Nghé", None),
        ("tôi quên phường mình ở", None),
    ],
)
def test_what_is_said_about_the_ward(text: str, wish: Wish | None) -> None:
    assert CHOICES.of(text, VIEW) == wish


async def written(office: Office, text: str, minute: int, **changes: Any) -> None:
    at = NOW + minute * 10 * MINUTE
    filled = {"page": "district", "user_id_by_app": BY_APP, "event_id": f"{minute:032d}", **changes}
    await office.write(text, sent_at=at, received_at=at, **filled)


async def withdrawn(office: Office, minute: int) -> None:
    change = a_change(change="withdrawn", changed_at=NOW + minute * 10 * MINUTE, user_id_by_app=BY_APP)
    await forget_withdrawn([Received(change, 0, 0)], WithdrawalDeps(office.store))


async def with_question(office: Office) -> list[str]:
    """A message of doubtful place; returns the buttons of the question."""
    await written(office, DOUBTFUL, 0)
    buttons = [button.payload for button in office.replies[-1].content.buttons]
    assert buttons, "this test needs a doubtful place"
    return buttons


async def test_after_an_answered_ward_question_consent_is_asked_once_and_the_ward_is_used_on_every_page() -> None:
    office = Office()
    ward, *_ = await with_question(office)
    await written(office, ward, 1)

    thanks = office.replies[-1].content
    assert f"Lưu {ward} cho lần sau?" in thanks.text
    keep, refuse = (button.payload for button in thanks.buttons)
    assert (keep, refuse) == (f"lưu {ward}", "không lưu phường")
    await written(office, keep, 2)
    assert office.templates[-1] == "home.kept"

    await written(office, "nhà bên cạnh đánh nhau", 3, user_id="2000000000000000077", oa_id="4000000000000000099")
    last = office.store.messages[f"{3:032d}"].decision.assignment
    assert (last.basis, f"home:{last.unit}" in last.evidence) == ("home", True)


async def test_nobody_is_asked_twice_and_without_consent_nothing_is_remembered() -> None:
    office = Office()
    ward, *_ = await with_question(office)
    await written(office, ward, 1)
    await written(office, "không lưu phường", 2)
    await written(office, "Quán karaoke ồn ào quá ở đường Lê Văn Khương", 3)
    await written(office, ward, 4)

    assert sum("cho lần sau?" in reply.content.text for reply in office.replies) == 1
    await written(office, "nhà bên cạnh đánh nhau", 5)
    assert office.store.messages[f"{5:032d}"].decision.assignment.basis != "home"


@pytest.mark.parametrize("ends", ["quên phường", "withdrawn"])
async def test_a_ward_is_forgotten_when_the_citizen_says_so_or_withdraws(ends: str) -> None:
    office = Office()
    await written(office, "lưu phường Thới An", 0)
    if ends == "withdrawn":
        for _ in range(2):
            await withdrawn(office, 1)
    else:
        await written(office, ends, 1)

    await written(office, "nhà bên cạnh đánh nhau", 3)

    assert office.store.messages[f"{3:032d}"].decision.assignment.basis != "home"


def test_the_newest_word_counts_whatever_the_order() -> None:
    said = [
        (NOW, "a", Memory("asked")),
        (NOW + MINUTE, "b", Memory("kept", "thoi-an")),
        (NOW + 2 * MINUTE, "c", Memory("forgotten")),
        (NOW + 3 * MINUTE, "d", Memory("kept", "hiep-thanh")),
        (NOW + 3 * MINUTE, "e", Memory("asked")),
    ]

    assert {remembered(order) for order in permutations(said)} == {Remembered("hiep-thanh", was_asked=True)}
    before = {remembered(order, withdrawn_at=NOW + 2 * MINUTE) for order in permutations(said[:3])}
    assert before == {Remembered()}
    assert remembered([*said, (NOW + 4 * MINUTE, "f", Memory("refused"))]) == Remembered(None, was_asked=True)


@given(
    words=st.lists(
        st.sampled_from(["lưu phường Thới An", "lưu phường Hiệp Thành", "quên phường", "không lưu phường"]),
        max_size=4,
    ),
    withdrawals=st.sets(st.integers(0, 4), min_size=1, max_size=2),
    chance=st.randoms(use_true_random=False),
)
@settings(max_examples=examples(40))
def test_what_was_said_before_a_withdrawal_comes_back_in_no_order_and_by_no_repetition(
    words: list[str], withdrawals: set[int], chance: random.Random
) -> None:
    """Message n is of minute n, a withdrawal n of the same minute: it covers that message and all before it."""
    events = [*((text, minute) for minute, text in enumerate(words)), *((None, minute) for minute in withdrawals)]
    order = [*events, *chance.choices(events, k=3)]
    chance.shuffle(order)

    async def handled() -> Office:
        office = Office()
        for text, minute in order:
            if text is None:
                await withdrawn(office, minute)
            else:
                await written(office, text, minute)
        return office

    office = asyncio.run(handled())

    valid = [text for minute, text in enumerate(words) if minute > max(withdrawals)]
    last = valid[-1] if valid else ""
    ward = {"lưu phường Thới An": "thoi-an", "lưu phường Hiệp Thành": "hiep-thanh"}.get(last)
    person = person_of(a_message(user_id_by_app=BY_APP))
    assert asyncio.run(office.store.remembered([person])) == {person: Remembered(ward, was_asked=bool(valid))}
    kept = [
        one.decision.memory
        for one in office.store.messages.values()
        if one.message.sent_at <= NOW + max(withdrawals) * 10 * MINUTE
    ]
    assert not any(kept), "what is not used is not stored either"


def test_a_person_is_the_same_on_all_pages_and_a_stranger_is_not() -> None:
    here = a_message(user_id="1", user_id_by_app=BY_APP)
    there = a_message(user_id="2", user_id_by_app=BY_APP, oa_id="4000000000000000099")

    assert person_of(here) == person_of(there) != person_of(a_message(user_id="1", user_id_by_app=None))


def test_no_button_about_broadcasts_speaks_of_the_remembered_ward() -> None:
    assert not [payload for payload in all_buttons() if isinstance(CHOICES.of(payload, VIEW), WardMemory)]
