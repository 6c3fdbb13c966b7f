"""Decisions against a real database: undone or published exactly once, through kills and with two replicas."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.console.adapters.action_store import ActionStore
from services.console.adapters.case_store import CaseRepository
from services.console.domain import Decision, Officer, Scope
from services.console.handlers import keep_publishing, publish_due
from services.console.settings import ConsoleSettings
from shared.collections import create_indexes
from shared.events import Event
from shared.ids import deterministic_id
from shared.mongo import Store, open_store
from shared.topics import Topic
from tests.unit.console.house import LEAD, House, Remembered, open_house, refuse, scratch_name, settings_for, until
from tests.unit.console.visitor import Visitor, a_program, a_visitor
from tests.unit.console.world import OTHER_UNIT, PAGE, a_busy_night, a_case, a_code, a_message, a_reply, an_entry, put

OFFICER = Officer(PAGE, "Trực ban", PAGE, "officer")


@pytest.fixture(params=["motor", "pymongo"])
async def store(mongo_uri: str, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    settings = ConsoleSettings(mongo_uri=mongo_uri, mongo_database=scratch_name(), mongo_driver=request.param)
    store = open_store(settings)
    await create_indexes(store)
    for number in range(3):
        case = a_case(number)
        await put(store, cases=[case], messages=[a_message(case, "tin")])
    yield store
    await store.drop()
    await store.close()


async def put_action(store: Store, number: int = 0, *, key: str = "a", wait_seconds: float = 0.0) -> str:
    case = await CaseRepository(store, Scope(None)).case(a_code(number))
    kept = await ActionStore(store).put(
        deterministic_id(str(number), key),
        Decision("reply", f"trả lời {key}"),
        case,
        OFFICER,
        wait_seconds=wait_seconds,
    )
    return str(kept["_id"])


class DiesAfterPublishing(Remembered):
    """Kafka has the event, and the process is killed before it can say so."""

    async def publish(self, topic: Topic, event: Event) -> None:
        await super().publish(topic, event)
        raise SystemExit


async def expire_leases(store: Store) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    await store["pending_actions"].update_many({"state": "publishing"}, {"$set": {"lease_until": past}})


async def test_a_decision_is_not_published_before_its_time(store: Store) -> None:
    actions, published = ActionStore(store), Remembered()
    await put_action(store, wait_seconds=60)
    assert await publish_due(actions, published) == 0
    assert published.events == []


async def test_what_was_undone_in_time_is_never_published(store: Store) -> None:
    actions, published = ActionStore(store), Remembered()
    action_id = await put_action(store, wait_seconds=60)
    assert await actions.undo(action_id, account=PAGE)
    assert not await actions.send_now(action_id, account=PAGE)
    assert await publish_due(actions, published) == 0
    assert not await actions.undo(action_id, account=PAGE)


async def test_undoing_and_publishing_at_once_ends_in_exactly_one_of_the_two(store: Store) -> None:
    actions = ActionStore(store)
    for number in range(15):
        published = Remembered()
        action_id = await put_action(store, key=f"race{number}")
        undone, _ = await asyncio.gather(actions.undo(action_id, account=PAGE), publish_due(actions, published))
        assert (undone is not None) != (len(published.events) == 1)


async def test_two_replicas_publish_each_decision_once(store: Store) -> None:
    ids = {await put_action(store, number, key=f"{key:02}") for key in range(6) for number in range(3)}
    published = Remembered()
    replicas = [asyncio.create_task(keep_publishing(ActionStore(store), published)) for _ in range(2)]
    await until(lambda: len(published.events) >= len(ids))
    for replica in replicas:
        replica.cancel()
    await asyncio.gather(*replicas, return_exceptions=True)
    assert sorted(event.event_id for event in published.events) == sorted(ids)


async def test_decisions_about_one_case_leave_in_the_order_they_were_taken(store: Store) -> None:
    first = await put_action(store, key="first", wait_seconds=60)
    second = await put_action(store, key="second")
    actions, published = ActionStore(store), Remembered()
    assert await publish_due(actions, published) == 0
    assert await actions.send_now(first, account=PAGE)
    await publish_due(actions, published)
    await publish_due(actions, published)
    assert [event.event_id for event in published.events] == [first, second]


async def test_a_publisher_killed_before_its_mark_leads_to_the_same_event_again_and_to_no_other(store: Store) -> None:
    action_id = await put_action(store)
    dying = DiesAfterPublishing()
    with pytest.raises(SystemExit):
        await publish_due(ActionStore(store), dying)
    heir = Remembered()
    assert await publish_due(ActionStore(store), heir) == 0  # its lease still runs
    assert not await ActionStore(store).undo(action_id, account=PAGE)
    await expire_leases(store)
    assert await publish_due(ActionStore(store), heir) == 1
    assert dying.events == heir.events  # the same id and content: the router takes it for a redelivery


async def test_a_publisher_that_comes_back_too_late_marks_nothing(store: Store) -> None:
    action_id = await put_action(store)
    actions = ActionStore(store)
    (late,) = await actions.take_due()
    await expire_leases(store)
    (heir,) = await actions.take_due()
    await actions.published(late)
    document = await actions.find(action_id)
    assert document is not None
    assert document["state"] == "publishing"
    await actions.published(heir)
    assert (await actions.find(action_id) or {})["state"] == "published"


async def test_after_kafka_was_away_the_decision_goes_out_and_can_no_longer_be_undone(store: Store) -> None:
    action_id = await put_action(store)
    actions, published = ActionStore(store), Remembered(is_away=True)
    worker = asyncio.create_task(keep_publishing(actions, published))

    async def was_tried() -> bool:
        return bool((await actions.find(action_id) or {}).get("state") == "publishing")

    await until(was_tried)
    assert await actions.undo(action_id, account=PAGE) is None
    published.is_away = False
    await until(lambda: published.events)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


# -- the same through the page and the API ----------------------------------------------------------------------------


@pytest.fixture
async def house(mongo_uri: str) -> AsyncIterator[House]:
    async with open_house(settings_for(mongo_uri, scratch_name(), console_undo_seconds=30)) as house:
        await a_busy_night(house.store)
        yield house


async def test_a_form_sent_twice_and_reloaded_is_one_decision(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        for _ in range(3):
            status, where = await officer.post(f"/cases/{a_code(40)}/reply", {"text": "có", "key": "one-form"})
            assert (status, where) == (303, f"/cases/{a_code(40)}")
    assert len(await house.store["pending_actions"].find({}).to_list(None)) == 1


async def test_undoing_a_reply_gives_its_text_back_to_its_writer_only(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer, a_visitor(house.url, "lanh-dao") as other:
        await officer.post(f"/cases/{a_code(40)}/reply", {"text": "gõ nhầm chữ này", "key": "form"})
        (action,) = await house.store["pending_actions"].find({}).to_list(None)
        assert (await other.post(f"/actions/{action['_id']}/undo"))[0] == 404
        status, where = await officer.post(f"/actions/{action['_id']}/undo")
        assert status == 303
        assert "gõ nhầm chữ này</textarea>" in (await officer.get(where))[1]
        assert "gõ nhầm chữ này</textarea>" not in (await other.get(where))[1]
    assert house.published.events == []


async def test_undoing_a_hand_over_gives_its_form_back_as_it_was_filled_in(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        filled = {"to_unit": OTHER_UNIT, "text": "đối tượng chạy về đó", "key": "form"}
        await officer.post(f"/cases/{a_code(40)}/hand-over", filled)
        (action,) = await house.store["pending_actions"].find({}).to_list(None)
        _, where = await officer.post(f"/actions/{action['_id']}/undo")
        _, page = await officer.get(where)
    assert 'id="act-hand_over" open' in page
    assert f'<option value="{OTHER_UNIT}" selected' in page
    assert "đối tượng chạy về đó</textarea>" in page
    assert page.count("đối tượng chạy về đó") == 1, "a note for colleagues is no draft of a reply"


def rows(page: str) -> dict[str, str]:
    """What stands in the queue, by case code."""
    return {
        found[1]: row
        for row in page.split("<li ")
        if (found := re.search(r'href="/cases/(Q12-\d+-\d+)[^"]*" id=', row))
    }


async def row(visitor: Visitor, number: int = 40, view: str = "open") -> str:
    return rows((await visitor.get(f"/queue?view={view}"))[1]).get(a_code(number), "")


MOVES = {"to_unit": OTHER_UNIT, "text": "biết hẻm", "key": "form"}


async def hand_over(officer: Visitor, house: House) -> str:
    """Decide it; the id of the decision, which can still be undone."""
    await officer.post(f"/cases/{a_code(40)}/hand-over", MOVES)
    (action,) = await house.store["pending_actions"].find({}).to_list(None)
    return str(action["_id"])


async def send_now(officer: Visitor, house: House, action_id: str) -> None:
    await officer.post(f"/actions/{action_id}/send-now")
    await until(lambda: house.published.events)


@pytest.mark.parametrize(
    ("path", "fields", "words"),
    [
        ("hand-over", MOVES, "Đang chuyển sang Công an phường Thới An"),
        ("correct", {"category": "crime_report", **MOVES}, "Đang chuyển sang Công an phường Thới An"),
        ("close", {"key": "form"}, "Đang đóng"),
        ("reply", {"text": "xong", "closes_case": "on", "key": "form"}, "Đang đóng"),
        ("reply", {"text": "chờ chút", "key": "form"}, None),
        ("correct", {"category": "emergency", "key": "form"}, None),
    ],
)
async def test_what_takes_a_case_off_the_queue_is_seen_there_at_once_by_the_whole_unit(
    house: House, path: str, fields: dict[str, str], words: str | None
) -> None:
    async with a_visitor(house.url, PAGE) as officer, a_visitor(house.url, LEAD) as colleague:
        before = await row(officer)
        await officer.post(f"/cases/{a_code(40)}/{path}", fields)
        for visitor in (officer, colleague):
            for part in (await row(visitor), (await visitor.get(f"/cases/{a_code(40)}"))[1]):
                assert re.findall(r'class="tag leaves">([^<]*)<', part) == ([words] if words else [])
        (action,) = await house.store["pending_actions"].find({}).to_list(None)
        await officer.post(f"/actions/{action['_id']}/undo")
        assert await row(officer) == before


async def test_a_case_is_on_its_way_until_the_router_has_carried_it_out_and_not_when_it_comes_back(
    house: House,
) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        action_id = await hand_over(officer, house)
        await send_now(officer, house, action_id)
        assert "Đang chuyển sang" in await row(officer), "Kafka has it, the router not yet"
        # What the router then writes, and a unit that hands it back:
        carried_out = {"$set": {"unit": OTHER_UNIT}, "$addToSet": {"officer_event_ids": action_id}}
        await house.store["cases"].update_one({"code": a_code(40)}, carried_out)
        assert await row(officer) == ""
        await house.store["cases"].update_one({"code": a_code(40)}, {"$set": {"unit": PAGE}})
        assert "Đang chuyển" not in await row(officer)


async def test_who_undoes_a_hand_over_too_late_reads_so_and_not_that_the_case_is_not_theirs(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        action_id = await hand_over(officer, house)
        await send_now(officer, house, action_id)
        await house.store["cases"].update_one({"code": a_code(40)}, {"$set": {"unit": OTHER_UNIT}})
        status, page = await officer.post(f"/actions/{action_id}/undo")
        assert (status, "Quyết định đã được chuyển đi" in page) == (409, True)


async def test_a_hand_over_that_the_router_refuses_comes_back_with_its_form_and_can_be_tried_again(
    house: House,
) -> None:
    async with a_visitor(house.url, PAGE) as officer, a_visitor(house.url, LEAD) as colleague:
        before = await row(officer)
        action_id = await hand_over(officer, house)
        on_its_way = await house.deps.live.fingerprints(Scope(frozenset({PAGE})), account=PAGE, code=a_code(40))
        await send_now(officer, house, action_id)
        await refuse(house, house.published.events[0])
        refused = await house.deps.live.fingerprints(Scope(frozenset({PAGE})), account=PAGE, code=a_code(40))
        assert on_its_way["queue"] != refused["queue"], "open queues hear of it"
        assert on_its_way["case"] != refused["case"], "open pages of the case too"
        shown = await row(officer)
        where = f"/cases/{a_code(40)}?draft={action_id}"
        tag = '<span class="tag stays">Chưa chuyển được</span>'
        assert tag in shown
        assert where in shown
        stripped = re.sub(r"\s+", "", shown.replace(tag, "").replace(where, f"/cases/{a_code(40)}"))
        assert stripped == re.sub(r"\s+", "", before), "as it was"
        _, page = await officer.get(where)
        assert 'id="act-hand_over" open' in page
        assert "không thực hiện được quyết định này" in page
        assert "biết hẻm</textarea>" in page
        assert "biết hẻm" not in (await colleague.get(where))[1]
        await officer.post(f"/cases/{a_code(40)}/hand-over", {**MOVES, "key": "again"})
        assert "Đang chuyển sang" in await row(officer)
        assert "không thực hiện được" not in (await officer.get(where))[1], "the newest decision is what counts"


async def test_a_refused_hand_over_that_an_operator_replays_is_on_its_way_again(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        action_id = await hand_over(officer, house)
        await send_now(officer, house, action_id)
        await refuse(house, house.published.events[0])
        assert "Chưa chuyển được" in await row(officer)
        await house.store["dead_letters"].update_many({}, {"$set": {"state": "replayed"}})
        assert "Đang chuyển sang" in await row(officer)


async def test_a_refused_reply_is_shown_again_with_what_was_written(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        status, page = await officer.post(f"/cases/{a_code(33)}/reply", {"text": "bản nháp dài", "key": "form"})
        assert status == 422
        assert "bản nháp dài</textarea>" in page
        assert "Zalo không cho gửi" in page


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"action": "reply", "text": "có", "closes_case": True}, {"text": "có", "closes_case": True}),
        (
            {"action": "hand_over", "to_unit": OTHER_UNIT, "text": "biết hẻm"},
            {"to_unit": OTHER_UNIT, "text": "biết hẻm"},
        ),
        ({"action": "close"}, {}),
        ({"action": "correct", "category": "emergency"}, {"category": "emergency", "urgency": "emergency"}),
    ],
)
async def test_a_program_decides_and_the_event_says_the_same(
    house: House, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    async with a_program(house.url, PAGE) as program:
        status, action = await program.call(
            "POST", f"/api/cases/{a_code(40)}/actions", body | {"wait_seconds": 0}, **{"Idempotency-Key": "a-program-1"}
        )
        assert status == 202
        await until(lambda: house.published.events)
        (event,) = house.published.events
        assert event.event_id == action["action_id"]
        assert (event.action, event.case_code, event.officer, event.unit) == (body["action"], a_code(40), PAGE, PAGE)
        assert {name: getattr(event, name) for name in expected} == expected

        async def is_published() -> bool:
            _, now = await program.call("GET", f"/api/actions/{action['action_id']}")
            return bool(now["state"] == "published")

        await until(is_published)
        assert (await program.call("DELETE", f"/api/actions/{action['action_id']}"))[0] == 409
    labels = await house.store["labels"].find({}).to_list(None)
    assert [label["right"] for label in labels] == (
        [{"category": "emergency", "urgency": "emergency"}] if body["action"] == "correct" else []
    )


async def test_a_program_is_told_why_a_decision_makes_no_sense(house: House) -> None:
    async with a_program(house.url, PAGE) as program:
        for body, code in (
            ({"action": "hand_over", "to_unit": PAGE}, "hand_over.same_unit"),
            ({"action": "reply", "text": ""}, "reply.empty"),
            ({"action": "fly"}, "request.invalid"),
        ):
            status, problem = await program.call(
                "POST", f"/api/cases/{a_code(40)}/actions", body, **{"Idempotency-Key": "a-program-1"}
            )
            assert (status, problem["code"]) == (422, code)


async def test_a_published_reply_stays_in_the_conversation_until_the_ledger_has_it(house: House) -> None:
    async with a_program(house.url, PAGE) as program:
        await program.call(
            "POST", f"/api/cases/{a_code(40)}/actions", {"action": "reply", "text": "đang đến", "wait_seconds": 0},
            **{"Idempotency-Key": "a-program-1"},
        )  # fmt: skip
        await until(lambda: house.published.events)
        (event,) = house.published.events

        async def said() -> list[tuple[str, str | None]]:
            _, lines = await program.call("GET", f"/api/cases/{a_code(40)}/conversation")
            return [(line["text"], line["mark"]) for line in lines if line["side"] == "officer"]

        assert await said() == [("đang đến", "waiting")]
        case = await house.store["cases"].find_one({"code": a_code(40)})
        assert case is not None
        entry = an_entry(case, "officer_reply", by=PAGE, event_id=event.event_id, reply_id=event.event_id)
        reply = a_reply(case, "đang đến", origin="officer") | {"_id": event.event_id}
        await put(house.store, case_entries=[entry], reply_ledger=[reply])
        assert await said() == [("đang đến", "sent")]
