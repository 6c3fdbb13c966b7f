"""The router's queries on a real server: they use the indexes they were made for, and their number is constant."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from services.router.adapters.case_store import MongoCaseStore
from services.router.handlers.citizen_messages import MessageDeps, assign_messages
from shared.events import ReplyRequested
from shared.mongo import Store
from tests.conformance.test_router_case_store import real_store
from tests.factories import NOW, a_message
from tests.unit.router.fakes import DEMO_DESK, DIRECTORY, RULES, UNITS, as_received

TEXTS = ("làm căn cước cần giấy tờ gì vậy", "nhà em bị trộm đêm qua", "xin chào", "cháy nhà TCH 10")


@pytest.fixture(params=["motor", "pymongo"])
async def store(request: pytest.FixtureRequest, mongo_uri: str) -> AsyncIterator[Store]:
    opened = await real_store(mongo_uri, request.param)
    yield opened
    await opened.drop()
    await opened.close()


def deps_on(store: Store, replies: list[ReplyRequested]) -> MessageDeps:
    async def publish(asked: Any) -> None:
        replies.extend(asked)

    return MessageDeps(
        store=MongoCaseStore(store),
        understanding=RULES,
        responsible_unit=UNITS,
        directory=DIRECTORY,
        desk=DEMO_DESK,
        publish_replies=publish,
        publish_choices=publish,
        now=lambda: NOW,
    )


async def test_a_batch_of_many_citizens_becomes_cases_messages_and_history(store: Store) -> None:
    replies: list[ReplyRequested] = []
    batch = [
        a_message(text=TEXTS[n % 4], user_id=str(n // 2), sent_at=NOW + timedelta(seconds=n), received_at=NOW)
        for n in range(200)
    ]
    await assign_messages(as_received(batch), deps_on(store, replies))
    asked = {reply.event_id for reply in replies}
    await assign_messages(as_received(batch), deps_on(store, replies))

    assert {reply.event_id for reply in replies} == asked
    assert len(asked) == 200
    assert await store["messages"].count_documents({}) == 200
    cases = await store["cases"].find({}).to_list(None)
    assert len({case["code"] for case in cases}) == len(cases)
    assert await store["case_entries"].count_documents({}) == await store["messages"].count_documents(
        {"case_id": {"$ne": None}}
    )


def stages(plan: Any) -> set[str]:
    found: set[str] = set()
    if isinstance(plan, dict):
        if isinstance(plan.get("stage"), str):
            found.add(plan["stage"])
        for value in plan.values():
            found |= stages(value)
    elif isinstance(plan, list):
        for value in plan:
            found |= stages(value)
    return found


@pytest.mark.parametrize(
    ("collection", "query"),
    [
        ("messages", {"_id": {"$in": ["a", "b"]}}),
        ("cases", {"open_key": {"$in": ["a:1", "a:2"]}}),
        (
            "cases",
            {
                "citizen_key": "a:1",
                "last_message_at": {"$gt": NOW - timedelta(days=7), "$lt": NOW},
            },
        ),
        ("cases", {"_id": {"$in": ["a", "b"]}}),
        ("cases", {"code": {"$in": ["Q12-261124-0001"]}}),
        ("cases", {"state": "waiting_officer", "due_at": {"$gt": NOW - timedelta(days=9_000)}}),
        ("messages", {"small_talk_key": {"$in": ["a:1|2026-11-24", "a:1|2026-11-23"]}}),
    ],
)
async def test_every_query_of_the_router_uses_an_index(store: Store, collection: str, query: dict[str, Any]) -> None:
    await assign_messages(
        as_received([a_message(text=TEXTS[n % 4], user_id=str(n)) for n in range(40)]), deps_on(store, [])
    )
    plan = await store[collection].find(query).explain()
    found = stages(plan["queryPlanner"]["winningPlan"])

    assert "COLLSCAN" not in found, plan["queryPlanner"]["winningPlan"]
    assert found & {"IXSCAN", "IDHACK", "EXPRESS_IXSCAN"}, plan["queryPlanner"]["winningPlan"]
