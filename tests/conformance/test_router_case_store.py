"""What the router's handlers rely on in their store: the fake and the real one, on both drivers, behave the same."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from services.router.adapters.case_store import MongoCaseStore
from services.router.domain.cases import Citizen
from services.router.domain.memory import Remembered, person_of
from services.router.domain.officers import officer_effect
from services.router.domain.plans import PlannedMessage, to_plan
from services.router.domain.understanding import MessageContext
from services.router.errors import CaseMoved
from shared.collections import create_indexes
from shared.mongo import Store, open_store
from shared.settings import HubSettings
from tests.factories import NOW, a_message, an_officer_reply
from tests.unit.router.fakes import DEMO_DESK, LEVELS, RULES, UNITS, VIEW, FakeCaseStore

THEFT, QUESTION = "nhà em bị trộm đêm qua", "làm căn cước cần giấy tờ gì vậy"


async def real_store(uri: str, driver: str) -> Store:
    settings = HubSettings.model_validate(
        {"mongo_uri": SecretStr(uri), "mongo_database": f"test_{uuid.uuid4().hex[:12]}", "mongo_driver": driver}
    )
    store = open_store(settings)
    await create_indexes(store)
    return store


@pytest.fixture(params=["fake", "motor", "pymongo"])
async def store(request: pytest.FixtureRequest, mongo_uri: str) -> AsyncIterator[Any]:
    if request.param == "fake":
        yield FakeCaseStore()
        return
    opened = await real_store(mongo_uri, request.param)
    yield MongoCaseStore(opened)
    await opened.drop()
    await opened.close()


def planned(text: str, citizen: Citizen | None = None, *, code: str = "", **changes: Any) -> PlannedMessage:
    message = a_message(text=text, **changes)
    reading = RULES.read(text, MessageContext(message.kind, message.sent_at))
    known = citizen or Citizen()
    decision = DEMO_DESK.decide(message, reading, UNITS(message, reading, VIEW), known, VIEW)
    codes = {i: case.code or code or f"C-{message.user_id}-{i[:6]}" for i, case in known.cases.items()}
    known.cases = {i: replace(case, code=codes[i]) for i, case in known.cases.items()}
    return to_plan(decision, DEMO_DESK, codes, NOW)


async def test_a_plan_comes_back_as_it_was_recorded(store: Any) -> None:
    one = planned(THEFT, user_id_by_app="app-1")
    await store.record([one])

    assert await store.plans_of([one.plan.event_id, "missing"]) == {one.plan.event_id: one.plan}


async def test_recording_a_message_twice_is_refused_and_what_came_before_it_is_kept(store: Any) -> None:
    first, known, last = (planned(THEFT, user_id=user) for user in ("1", "2", "3"))
    await store.record([known])

    with pytest.raises(CaseMoved):
        await store.record([first, known, last])

    assert set(await store.plans_of([p.plan.event_id for p in (first, known, last)])) == {
        first.plan.event_id,
        known.plan.event_id,
    }


async def test_a_carried_out_plan_opens_its_case(store: Any) -> None:
    one = planned(THEFT)
    await store.carry_out([one.plan], {})

    (case,) = await store.open_cases([one.plan.citizen_key, "somebody:else"])
    assert (case.case_id, case.code, case.unit, case.priority) == (
        one.plan.case_id,
        one.plan.case_code,
        "tan-chanh-hiep",
        1,
    )
    assert case.due_at == NOW + timedelta(minutes=15)
    assert [given.template for given in case.given] == ["crime_report.received"]
    assert await store.cases_with_codes([case.code]) == {case.code: case}
    assert await store.cases_with_ids([case.case_id]) == [case]


async def test_carrying_a_plan_out_again_changes_nothing(store: Any) -> None:
    one = planned(THEFT)
    await store.carry_out([one.plan], {})
    before = await store.open_cases([one.plan.citizen_key])
    await store.carry_out([one.plan], {})
    await store.carry_out([one.plan], {one.plan.case_id: 1})

    assert await store.open_cases([one.plan.citizen_key]) == before


async def test_a_change_is_written_on_the_version_it_was_decided_on_and_on_no_other(store: Any) -> None:
    citizen = Citizen()
    first = planned(THEFT, citizen)
    await store.carry_out([first.plan], {})
    second = planned("chúng đang cầm dao chém nhau", citizen)
    assert second.plan.case_id == first.plan.case_id
    await store.carry_out([second.plan], {first.plan.case_id: 1})

    (case,) = await store.open_cases([first.plan.citizen_key])
    assert (case.category, case.citizen_version) == ("emergency", 2)
    third = planned("thêm một xe nữa bị mất trộm", citizen)
    with pytest.raises(CaseMoved):
        await store.carry_out([second.plan, third.plan], {first.plan.case_id: 1})


@pytest.mark.parametrize("store", ["motor", "pymongo"], indirect=True)  # the fake asserts it at every write
async def test_two_open_cases_of_one_matter_are_refused(store: Any) -> None:
    one, other = planned(THEFT), planned(THEFT, message_id="other")
    await store.carry_out([one.plan], {})

    with pytest.raises(CaseMoved):
        await store.carry_out([other.plan], {})


async def test_closing_a_case_and_opening_the_next_of_its_matter_is_one_step(store: Any) -> None:
    citizen = Citizen()
    old = planned(QUESTION, citizen)
    await store.carry_out([old.plan], {})
    at = NOW + timedelta(hours=80)
    new = planned(QUESTION, citizen, sent_at=at, received_at=at)
    await store.carry_out([new.plan], {old.plan.case_id: 1})

    (case,) = await store.open_cases([old.plan.citizen_key])
    assert case.case_id == new.plan.case_id != old.plan.case_id
    since, until = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
    (closed,) = await store.closed_cases([old.plan.citizen_key], since=since, until=until)
    assert closed.case_id == old.plan.case_id
    assert not await store.closed_cases([old.plan.citizen_key], since=until, until=until + timedelta(hours=1))


async def test_replies_outside_of_cases_are_remembered(store: Any) -> None:
    hello, question = planned("xin chào"), planned(QUESTION)
    await store.record([hello, question])
    key = hello.plan.citizen_key
    since, until = NOW - timedelta(hours=1), NOW + timedelta(hours=1)

    assert await store.recent_replies([key], since=since, until=until) == {key: {"greeting.hello": NOW}}
    assert await store.recent_replies([key], since=until, until=until + timedelta(hours=1)) == {}


async def test_numbers_are_given_once(store: Any) -> None:
    day = date(2026, 11, 24)
    drawn = [*await store.take_numbers(day, 3), *await store.take_numbers(day, 2)]
    drawn += list(await store.take_numbers(date(2026, 11, 25), 1))

    assert drawn == [1, 2, 3, 4, 5, 1]


async def test_an_officers_effects_are_applied_once(store: Any) -> None:
    one = planned(THEFT)
    await store.carry_out([one.plan], {})
    (case,) = await store.open_cases([one.plan.citizen_key])
    at = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
    action = an_officer_reply(case_code=case.code, text="Mời bác đến.", closes_case=True, occurred_at=at)
    effect = officer_effect(action, case, LEVELS, NOW)
    await store.apply_officer_effects([effect])
    await store.apply_officer_effects([effect])

    (after,) = await store.cases_with_ids([case.case_id])
    assert (after.state, after.is_open, after.closed_at, after.first_response_at) == ("closed", False, at, at)
    assert await store.open_cases([one.plan.citizen_key]) == []


async def test_what_a_citizen_just_sent_comes_back_with_its_category_and_case(store: Any) -> None:
    one = planned(THEFT, user_id="9")
    other = planned(QUESTION, user_id="8")
    await store.record([one, other])
    at = one.message.sent_at

    (piece,) = await store.recent_texts(
        [one.message.citizen_key], since=at - timedelta(seconds=60), until=at + timedelta(seconds=1)
    )

    assert (piece.event_id, piece.text, piece.category) == (one.plan.event_id, THEFT, "crime_report")
    assert (piece.case_id, piece.sent_at, piece.location) == (one.plan.case_id, at, None)
    assert not await store.recent_texts([one.message.citizen_key], since=at, until=at + timedelta(seconds=1))


async def test_what_a_person_lets_us_remember_is_found_on_every_page_until_it_is_forgotten(store: Any) -> None:
    person: dict[str, Any] = {"user_id_by_app": "app-1"}
    later = timedelta(minutes=1)
    texts = ["lưu phường Thới An", "lưu phường Hiệp Thành", THEFT, "quên phường"]
    plans = [
        planned(text, user_id=str(n), event_id=f"{n:032d}", sent_at=NOW + n * later, code=f"C-{n}", **person)
        for n, text in enumerate(texts)
    ]
    name = person_of(plans[0].message)
    await store.record(plans[1:3])
    await store.record(plans[:1])

    assert await store.remembered([name, "nobody"]) == {name: Remembered("hiep-thanh", was_asked=True)}
    await store.record(plans[3:])
    assert await store.remembered([name]) == {name: Remembered(None, was_asked=True)}
    await store.forget([name], until=NOW + 2 * later)
    assert await store.remembered([name]) == {name: Remembered(None, was_asked=True)}
    await store.forget([name], until=NOW + 3 * later)
    assert await store.remembered([name]) == {name: Remembered()}


async def test_what_was_said_before_a_withdrawal_is_not_remembered_when_it_arrives_after_it(store: Any) -> None:
    person: dict[str, Any] = {"user_id_by_app": "app-2"}
    later = timedelta(minutes=1)
    old, new = (
        planned(text, user_id="1", event_id=f"{n:032d}", sent_at=NOW + n * later, code=f"C-{n}", **person)
        for n, text in enumerate(["lưu phường Thới An", "lưu phường Hiệp Thành"])
    )
    name = person_of(old.message)
    await store.forget([name], until=NOW)
    await store.forget([name], until=NOW - later)

    await store.record([old])  # decided before the withdrawal, stored after it
    (known,) = (await store.remembered([name])).values()
    assert (known, known.withdrawn_at) == (Remembered(), NOW)
    await store.record([new])
    assert await store.remembered([name]) == {name: Remembered("hiep-thanh", was_asked=True)}


async def test_what_waits_for_a_person_is_found_the_first_to_be_due_first(store: Any) -> None:
    texts = {"1": THEFT, "2": QUESTION, "3": "cháy nhà TCH 10", "4": THEFT}
    plans = [planned(text, user_id=user).plan for user, text in texts.items()]
    for plan in plans:
        await store.carry_out([plan], {})

    found = await store.waiting_cases(10)

    assert [case.is_emergency for case in found] == [True, False, False]
    assert found == sorted(found, key=lambda case: case.due_at)
    assert await store.waiting_cases(1) == found[:1]
