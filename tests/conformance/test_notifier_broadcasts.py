"""What the broadcast's handlers rely on in its store: one suite for the stand-in of the unit tests and the real one."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest

from services.notifier.adapters.broadcast_store import BroadcastStore
from services.notifier.domain.audience import Audience
from services.notifier.domain.broadcast import (
    ArticleContent,
    Broadcast,
    Content,
    Draft,
    Forecast,
    Snapshot,
    TemplateContent,
    act,
)
from shared.events import ReplyContent
from tests.factories import NOW
from tests.unit.notifier.fake_broadcasts import FakeBroadcastStore
from tests.unit.notifier.stores import fresh_store

DRAFT = Draft(
    title="Nhắc hạn căn cước",
    unit="tan-chanh-hiep",
    content=Content(
        message=ReplyContent(text="Mời bà con kiểm tra hạn căn cước."),
        template=TemplateContent(template_id="332233", data={"Ten_1": "$literal.{x}"}, text="Mời bà con."),
    ),
    audience=Audience(
        units=("tan-chanh-hiep",), interacted_within_hours=24, followed_before=NOW.replace(microsecond=123_456)
    ),
)
ARTICLE = Draft.model_validate(
    {
        "title": "Bài viết",
        "unit": "hiep-thanh",
        "content": {
            "article": {
                "title": "Phòng cháy",
                "description": "Mùa khô",
                "author": "Công an phường",
                "cover_url": "https://example.org/a.jpg",
                "body": [{"type": "text", "content": "Kiểm tra bình gas."}],
                "target": {"cities": [4]},
            }
        },
    }
)
Broadcasts = FakeBroadcastStore | BroadcastStore


def a_broadcast(broadcast_id: str = "bc-1", **changes: Any) -> Broadcast:
    return replace(Broadcast(broadcast_id, DRAFT, "an", created_at=NOW), **changes)


def acted(broadcast: Broadcast, action: Any, *, by: str = "an", **more: Any) -> Broadcast:
    changed = act(broadcast, action, by=by, at=NOW, **more)
    assert isinstance(changed, Broadcast), changed
    return changed


@pytest.fixture(params=["fake", "motor", "pymongo"])
async def store(request: pytest.FixtureRequest, mongo_uri: str) -> AsyncIterator[Broadcasts]:
    if request.param == "fake":
        yield FakeBroadcastStore()
        return
    async with fresh_store(mongo_uri, request.param) as real:
        yield BroadcastStore(real)


@pytest.mark.parametrize("draft", [DRAFT, ARTICLE])
async def test_a_broadcast_comes_back_as_it_was_with_the_same_digest(store: Broadcasts, draft: Draft) -> None:
    broadcast = a_broadcast(draft=draft)
    assert await store.create(broadcast)

    read = await store.read("bc-1")

    assert read == broadcast
    assert read.draft.digest == draft.digest
    assert read.draft.content.article is None or isinstance(read.draft.content.article, ArticleContent)


async def test_of_an_unknown_broadcast_nothing_is_said(store: Broadcasts) -> None:
    assert await store.read("bc-0") is None
    assert await store.state_of("bc-0") is None
    assert not await store.keep_snapshot("bc-0", Snapshot())
    assert not await store.save(replace(a_broadcast("bc-0"), version=1))


async def test_an_id_is_given_once(store: Broadcasts) -> None:
    assert await store.create(a_broadcast())

    assert not await store.create(a_broadcast(author="binh"))

    read = await store.read("bc-1")
    assert read is not None
    assert read.author == "an"


async def test_a_whole_life_is_kept_with_its_counts_and_history(store: Broadcasts) -> None:
    broadcast = a_broadcast()
    await store.create(broadcast)
    forecast = Forecast(
        people=3,
        lanes={"answer": 1},
        costs={"free": 1},
        refused={"window.closed": 1, "contact.opted_out": 1},
        pages={"tan-chanh-hiep": 1},
        quiet_until=NOW + timedelta(hours=9),
    )

    for changed in (
        broadcast := acted(broadcast, "preview", forecast=forecast),
        broadcast := acted(broadcast, "approve", by="binh", note="đã đọc"),
        broadcast := acted(broadcast, "schedule", starts_at=NOW + timedelta(hours=1)),
    ):
        assert await store.save(changed)

    assert await store.read("bc-1") == broadcast
    assert await store.state_of("bc-1") == "scheduled"


async def test_of_two_changes_of_one_version_one_is_kept(store: Broadcasts) -> None:
    broadcast = a_broadcast()
    await store.create(broadcast)
    ours, theirs = acted(broadcast, "preview"), acted(broadcast, "cancel", by="binh")

    kept = await asyncio.gather(store.save(ours), store.save(theirs))

    assert sorted(kept) == [False, True]
    assert await store.read("bc-1") == (ours if kept[0] else theirs)


async def test_a_change_may_be_kept_twice_but_an_old_one_is_refused(store: Broadcasts) -> None:
    broadcast = a_broadcast()
    await store.create(broadcast)
    first = acted(broadcast, "preview")
    second = acted(first, "cancel")

    assert [await store.save(first), await store.save(first)] == [True, True]
    assert await store.save(second)
    assert not await store.save(first)
    assert await store.state_of("bc-1") == "cancelled"


async def test_the_snapshot_and_the_life_are_kept_side_by_side(store: Broadcasts) -> None:
    broadcast = a_broadcast()
    await store.create(broadcast)
    previewed = acted(broadcast, "preview")

    assert await store.keep_snapshot("bc-1", Snapshot(500, 1, "d1"))
    assert await store.save(previewed)
    assert await store.keep_snapshot("bc-1", Snapshot(812, 2, "d2", is_complete=True))

    assert await store.read("bc-1") == replace(previewed, snapshot=Snapshot(812, 2, "d2", is_complete=True))


async def test_a_complete_snapshot_stays(store: Broadcasts) -> None:
    await store.create(a_broadcast())
    complete = Snapshot(812, 2, "d2", is_complete=True)
    await store.keep_snapshot("bc-1", complete)

    assert await store.keep_snapshot("bc-1", complete)
    assert not await store.keep_snapshot("bc-1", Snapshot(1, 1, "late"))

    read = await store.read("bc-1")
    assert read is not None
    assert read.snapshot == complete


async def test_the_newest_are_found_first_by_state_and_unit(store: Broadcasts) -> None:
    for number, (state, draft) in enumerate([("draft", DRAFT), ("running", ARTICLE), ("running", DRAFT)]):
        await store.create(
            a_broadcast(f"bc-{number}", state=state, draft=draft, created_at=NOW + timedelta(hours=number))
        )

    assert [one.id for one in await store.find()] == ["bc-2", "bc-1", "bc-0"]
    assert [one.id for one in await store.find(states={"running"})] == ["bc-2", "bc-1"]
    assert [one.id for one in await store.find(states={"running"}, unit="hiep-thanh")] == ["bc-1"]
    assert [one.id for one in await store.find(limit=1)] == ["bc-2"]
    assert [one.id for one in await store.find(limit=1, skip=1)] == ["bc-1"]
    assert await store.find(skip=3) == []
    with patch("services.notifier.adapters.broadcast_store.MAX_FOUND", 1):  # read in as many parts as it takes
        assert {one.id for one in await store.every({"running"})} == {"bc-1", "bc-2"}


async def test_due_are_the_scheduled_whose_start_has_come_the_oldest_first(store: Broadcasts) -> None:
    for broadcast_id, state, hours in [("a", "scheduled", 2), ("b", "scheduled", 1), ("c", "running", 1)]:
        await store.create(a_broadcast(broadcast_id, state=state, starts_at=NOW + timedelta(hours=hours)))

    assert await store.due(NOW) == []
    assert await store.due(NOW + timedelta(hours=1)) == ["b"]
    assert await store.due(NOW + timedelta(hours=3)) == ["b", "a"]
