"""Whatever dies at whatever point: what must hold is that a redelivery leads to the same end state, each effect once.

How we break it: the store or the broker fails after every single effect in turn, the batch is delivered again; and
hypothesis draws histories of messages, cut into batches, delivered twice and broken at drawn points.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.router.handlers.officer_actions import take_officer_actions
from shared.errors import StoreUnavailable
from shared.events import CitizenMessageReceived, OfficerActed
from shared.kafka import Received
from tests.factories import NOW, a_message, an_officer_reply
from tests.properties import examples
from tests.unit.router.fakes import Office

TEXTS = (
    "làm căn cước cần giấy tờ gì vậy",
    "nhà em bị trộm đêm qua ở HT13",
    "cháy nhà TCH 10",
    "quán nhậu kế bên ồn ào quá",
    "xin chào",
    "dạ em cảm ơn",
    "Gặp cán bộ",
    "em báo nhầm, không cần xuống nữa",
    "đăng ký tạm trú cần những gì",
    "hôm bữa em có gửi cái đó lên rồi mà giờ tính sao đây",
    "công an khu vực đòi tiền mới làm giấy cho",
    "👍",
    "làm giấy khai sinh cho con ở đâu",
)


def history(*steps: tuple[int, int, int]) -> list[CitizenMessageReceived]:
    """Messages of (text, citizen, minutes since the one before)."""
    messages, at = [], NOW
    for number, (text, citizen, minutes) in enumerate(steps):
        at += timedelta(minutes=minutes)
        messages.append(
            a_message(text=TEXTS[text], user_id=str(citizen), message_id=f"m{number}", sent_at=at, received_at=at)
        )
    return messages


def end_state(office: Office) -> dict[str, Any]:
    """All that lasts, without the numbers of codes, which may have gaps."""
    names = {case.code: case_id for case_id, case in office.store.cases.items()}

    def renamed(value: Any) -> Any:
        text = repr(value)
        for code, case_id in names.items():
            text = text.replace(code, case_id)
        return text

    replies = {reply.event_id: renamed(reply) for reply in office.replies}
    return {
        "cases": {i: renamed(asdict(case)) for i, case in office.store.cases.items()},
        "entries": {i: renamed(asdict(entry)) for i, entry in office.store.entries.items()},
        "replies": replies,
        "messages": {i: one.decision.reasons for i, one in office.store.messages.items()},
    }


async def undisturbed(messages: Sequence[CitizenMessageReceived]) -> Office:
    office = Office()
    for message in messages:
        await office.receive(message)
    return office


BATCH = history((0, 1, 0), (1, 2, 1), (1, 2, 1), (2, 2, 3), (4, 3, 1), (9, 1, 2), (6, 1, 1), (0, 1, 80 * 60), (5, 1, 1))


async def test_a_batch_ends_like_the_same_messages_one_by_one() -> None:
    office = Office()
    await office.receive(*BATCH)

    assert end_state(office) == end_state(await undisturbed(BATCH))


async def test_a_failure_after_any_effect_and_a_redelivery_end_in_the_same_state() -> None:
    expected = end_state(await undisturbed(BATCH))
    for effects in range(1_000):
        office = Office()
        office.store.fails_after = effects
        try:
            await office.receive(*BATCH)
        except StoreUnavailable:
            office.store.fails_after = None
            await office.receive(*BATCH)
            assert end_state(office) == expected, f"broken after {effects} effects"
        else:
            assert effects > 25, "there are that many effects to break"
            return
    pytest.fail("never got through")


async def test_a_failure_after_any_effect_and_a_redelivery_in_other_batches_end_in_the_same_state() -> None:
    expected = end_state(await undisturbed(BATCH))
    for effects in range(0, 60, 3):
        office = Office()
        office.store.fails_after = effects
        with contextlib.suppress(StoreUnavailable):
            await office.receive(*BATCH)
        office.store.fails_after = None
        for start in range(0, len(BATCH), 2):
            await office.receive(*BATCH[start : start + 2])
        assert end_state(office) == expected, f"broken after {effects} effects"


steps = st.lists(
    st.tuples(st.integers(0, len(TEXTS) - 1), st.integers(1, 3), st.sampled_from((0, 1, 20, 600, 5_000))),
    min_size=1,
    max_size=12,
)


@settings(max_examples=examples(60))
@given(steps, st.lists(st.integers(1, 5), min_size=1, max_size=12), st.lists(st.integers(0, 40), max_size=6))
async def test_any_history_in_any_batches_with_any_failures_ends_in_the_same_state(
    drawn: list[tuple[int, int, int]], sizes: list[int], failures: list[int]
) -> None:
    messages = history(*drawn)
    office, position, turn = Office(), 0, 0
    while position < len(messages):
        batch = messages[position : position + sizes[turn % len(sizes)]]
        turn += 1
        for effects in failures:
            office.store.fails_after = effects
            with contextlib.suppress(StoreUnavailable):
                await office.receive(*batch)
        office.store.fails_after = None
        await office.receive(*batch)
        await office.receive(*batch)  # the commit was lost
        position += len(batch)

    assert end_state(office) == end_state(await undisturbed(messages))
    codes = [case.code for case in office.store.cases.values()]
    assert len(codes) == len(set(codes))


def as_actions(*actions: OfficerActed) -> list[Received[OfficerActed]]:
    return [Received(action, partition=0, offset=offset) for offset, action in enumerate(actions)]


async def test_an_officers_answer_broken_after_any_effect_is_taken_once() -> None:
    for effects in range(10):
        office = Office()
        await office.write("nhà em bị trộm đêm qua")
        action = an_officer_reply(case_code=office.only_case.code, text="Mời bác đến trụ sở.")
        office.store.fails_after = effects
        try:
            await take_officer_actions(as_actions(action), office.officer_deps)
        except StoreUnavailable:
            office.store.fails_after = None
            await take_officer_actions(as_actions(action), office.officer_deps)
        else:
            assert effects >= 3
        assert office.only_case.state == "answered_by_officer"
        assert [r.event_id for r in office.replies if r.origin == "officer"] == [action.event_id]
        assert sum(entry.kind == "officer_reply" for entry in office.store.entries.values()) == 1


async def test_a_redelivered_officers_answer_does_not_take_a_case_from_the_queue_again() -> None:
    office = Office()
    await office.write("nhà em bị trộm đêm qua")
    action = an_officer_reply(case_code=office.only_case.code)
    await take_officer_actions(as_actions(action), office.officer_deps)
    at = NOW + timedelta(hours=1)
    await office.write("chúng lại tới lấy mất xe đạp rồi", sent_at=at, received_at=at)
    assert office.only_case.state == "waiting_officer"
    await take_officer_actions(as_actions(action), office.officer_deps)

    assert office.only_case.state == "waiting_officer"
    assert office.only_case.first_response_at == action.occurred_at
