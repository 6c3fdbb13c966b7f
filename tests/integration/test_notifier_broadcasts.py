"""Broadcasts on a real database: each person at most one copy, and counts that add up to the audience."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from services.notifier.adapters.contact_store import person_of
from services.notifier.adapters.zalo import MESSAGE_PATH
from services.notifier.adapters.zalo_copies import PHONE_PATH, TEMPLATE_PATH
from services.notifier.domain.broadcast import Content, TemplateContent
from services.notifier.domain.copies import Chunk, Row
from services.notifier.domain.lanes import Hours
from services.notifier.handlers.events import note_deliveries, note_reports
from shared.events import ReplyContent
from shared.ids import citizen_key, deterministic_id, text_digest
from shared.kafka import Received
from tests.factories import OA_ID, a_report, a_template_delivery
from tests.unit.notifier.broadcast_stage import (
    STOPPED,
    TEXT,
    Stage,
    a_contact,
    a_stage,
    open_rooms,
    settings_of,
    user_id,
)
from tests.unit.notifier.zalo_stub import Call, ZaloStub, accepts, loses_the_answer, refuses


@pytest.fixture(params=["motor", "pymongo"])
async def stage(request: pytest.FixtureRequest, mongo_uri: str, tmp_path: Path) -> AsyncIterator[Stage]:
    async with a_stage(mongo_uri, tmp_path, driver=request.param) as one:
        yield one


async def test_each_follower_gets_one_copy_and_the_counts_add_up(stage: Stage) -> None:
    await stage.followers(900)
    await stage.schedule("b1", people=900)

    await stage.work("b1")

    assert len(stage.copies) == 900
    assert set(stage.copies.values()) == {1}
    progress = await stage.rooms.copies.progress("b1")
    assert progress.people == 900
    assert progress.states["sent"] == 900
    assert progress.chunks == progress.chunks_done
    broadcast = await stage.rooms.broadcasts.read("b1")
    assert broadcast is not None
    assert (broadcast.snapshot.people, broadcast.snapshot.is_complete) == (900, True)
    assert await stage.states("b1") == {"sent": 900}


@pytest.fixture
async def small(mongo_uri: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """A stage with chunks of 20 people and waves of 10."""
    async with a_stage(mongo_uri, tmp_path, broadcast_chunk_persons=20, broadcast_wave=10) as one:
        yield one


async def test_a_paused_broadcast_goes_on_where_it_stopped(small: Stage) -> None:
    await small.followers(60)
    await small.schedule("b1", people=60)
    await small.rooms.runner.look()
    await small.rooms.runner.build_all()
    await small.rooms.runner.look()
    await small.rooms.runner.work_once()
    some = sum(small.copies.values())
    await small.do("b1", "pause")
    await small.rooms.runner.look()
    assert not await small.rooms.runner.work_once()
    assert sum(small.copies.values()) == some < 60

    await small.do("b1", "resume")
    await small.work("b1")

    assert set(small.copies.values()) == {1}
    assert len(small.copies) == 60


async def test_a_pause_takes_effect_within_one_wave(small: Stage) -> None:
    await small.followers(60)
    await small.schedule("b1", people=10)  # a forecast that was too low: one chunk of all
    paused = False

    async def pauses(stub: ZaloStub, call: Call) -> Any:
        nonlocal paused
        if not paused:
            paused = True
            await small.do("b1", "pause")
        return accepts(stub, call)

    small.stub.usual = pauses
    await small.rooms.runner.look()
    await small.rooms.runner.build_all()
    await small.rooms.runner.look()
    await small.rooms.runner.work_once()

    assert sum(small.copies.values()) == 10
    progress = await small.rooms.copies.progress("b1")
    assert (progress.states["sent"], progress.states["queued"], progress.in_flight) == (10, 50, 0)


async def test_two_schedulers_side_by_side_send_each_copy_once(small: Stage, mongo_uri: str, tmp_path: Path) -> None:
    await small.followers(200)
    await small.schedule("b1", people=200)
    settings = settings_of(mongo_uri, small.store, small.stub, tmp_path, broadcast_chunk_persons=25, broadcast_wave=10)
    async with open_rooms(settings) as other:
        loops = [asyncio.create_task(rooms.runner.run()) for rooms in (small.rooms, other)]
        await eventually_async(lambda: is_done(small, "b1"))
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)

    assert set(small.copies.values()) == {1}
    assert len(small.copies) == 200
    progress = await small.rooms.copies.progress("b1")
    assert (progress.people, progress.states["sent"]) == (200, 200)


async def test_a_lost_answer_is_uncertain_never_sent_again_and_settled_by_its_echo(small: Stage) -> None:
    await small.followers(30)
    small.stub.by_user[user_id(7)].append(loses_the_answer)
    await small.schedule("b1", people=30)
    await small.work("b1")
    progress = await small.rooms.copies.progress("b1")
    assert (progress.states["sent"], progress.states["uncertain"]) == (29, 1)
    (lost,) = [call for call in small.stub.applied if call.user_id == user_id(7)]

    echo = a_report(
        event_id=deterministic_id("echo"),
        user_id=user_id(7),
        message_ids=(lost.message_id,),
        text_sha256=text_digest(TEXT),
        reported_at=small.rooms.clock.now(),
    )
    await note_reports([Received(echo, 0, 0)], small.rooms.deps)

    progress = await small.rooms.copies.progress("b1")
    assert (progress.states["sent"], progress.states["uncertain"]) == (30, 0)
    assert set(small.copies.values()) == {1}


async def test_what_zalo_provably_refused_is_tried_again_and_then_fails_with_its_reason(small: Stage) -> None:
    await small.followers(20)
    small.stub.by_user[user_id(3)].append(refuses(-216, "Access token is invalid"))
    small.stub.by_user[user_id(4)].append(refuses(-213, "User has not followed OA"))
    await small.schedule("b1", people=20)
    await small.rooms.runner.look()
    await small.rooms.runner.build_all()
    await small.rooms.runner.look()
    while await small.rooms.runner.work_once():
        pass

    progress = await small.rooms.copies.progress("b1")
    assert (progress.states["sent"], progress.states["failed"], progress.states["queued"]) == (18, 1, 1)
    (failed,) = await small.store["recipients"].find({"state": "failed"}).to_list(None)
    assert progress.reasons["failed", failed["reason"]] == 1
    # Its time comes: a row is due when its schedule says so.
    await small.store["recipients"].update_one({"state": "queued"}, {"$set": {"due_at": small.rooms.clock.now()}})
    await small.store["broadcast_chunks"].update_many(
        {"state": "open"}, {"$set": {"due_at": small.rooms.clock.now() - timedelta(seconds=1)}}
    )
    await small.work("b1")
    assert await small.states("b1") == {"sent": 19, "failed": 1}
    assert small.copies[user_id(3)] == 1


async def test_who_opted_out_after_the_snapshot_gets_nothing_and_the_reason_is_kept(small: Stage) -> None:
    await small.followers(30)
    await small.schedule("b1", people=30)
    await small.rooms.runner.look()
    await small.rooms.runner.build_all()
    await small.store["contacts"].update_one({"_id": citizen_key(OA_ID, user_id(5))}, {"$set": {"choices": STOPPED}})

    await small.work("b1")

    assert small.copies[user_id(5)] == 0
    progress = await small.rooms.copies.progress("b1")
    assert progress.reasons["skipped", "contact.opted_out"] == 1
    (row,) = await small.rooms.copies.of_person(person_of(f"3{5:018d}"), ["b0", "b1"])
    assert (row["state"], row["reason"]) == ("skipped", "contact.opted_out")


async def test_a_cancelled_broadcast_ends_with_counts_that_add_up(small: Stage) -> None:
    await small.followers(60)
    await small.schedule("b1", people=60)
    await small.rooms.runner.look()
    await small.rooms.runner.build_all()
    await small.rooms.runner.look()
    await small.rooms.runner.work_once()
    sent = sum(small.copies.values())

    await small.do("b1", "cancel")
    await small.rooms.runner.see_open_chunks()

    progress = await small.rooms.copies.progress("b1")
    assert progress.states["sent"] == sent
    assert progress.reasons["skipped", "broadcast.cancelled"] == 60 - sent
    assert sum(small.copies.values()) == sent


async def test_the_cap_holds_over_two_broadcasts_and_two_pages_at_once(small: Stage) -> None:
    """An ordinary broadcast on the page one person uses, then another: one a day, whatever the page."""
    _no_quiet_hours(small)
    at = small.rooms.clock.now()
    await small.fill([a_contact(number, at=at) for number in range(20)])
    await small.schedule("b1", people=20, is_emergency=False)
    await small.work("b1")
    await small.schedule("b2", people=20, is_emergency=False)
    await small.work("b2")

    assert sum(small.copies.values()) == 20
    progress = await small.rooms.copies.progress("b2")
    assert progress.reasons == {("skipped", "cap.day"): 20}


async def test_two_ordinary_broadcasts_at_the_same_moment_come_to_one_copy_each(small: Stage) -> None:
    _no_quiet_hours(small)
    await small.followers(40)
    for name in ("b1", "b2"):
        await small.schedule(name, people=40, is_emergency=False)
    runner = small.rooms.runner
    await runner.look()
    await runner.build_all()
    await runner.look()
    # Both chunks at once: either sees the other's marks, or none is there yet.
    await asyncio.gather(*(runner.work_once() for _ in range(4)))

    assert max(small.copies.values(), default=0) <= 1
    both = [await small.rooms.copies.progress(name) for name in ("b1", "b2")]
    assert all(sum(progress.states.values()) == progress.people == 40 for progress in both)


async def test_a_template_by_phone_reaches_those_who_gave_a_number(small: Stage) -> None:
    lanes = small.rooms.runner.rulebook.lanes
    at_any_hour = tuple(replace(rule, hours=None) for rule in lanes.lanes)
    small.rooms.runner.rulebook.lanes = replace(lanes, lanes=at_any_hour)
    at = small.rooms.clock.now()
    phones: list[dict[str, Any]] = [{}, {"profile": {"phone": "0900000001"}}, {"profile": {"phone": "84900000002"}}]
    stopped = {"profile": {"phone": "0900000003"}, "choices": STOPPED}
    await small.fill([a_contact(number, at=at, **more) for number, more in enumerate([*phones, stopped])])
    template = TemplateContent(template_id="200003", data={"otp": "1"}, text="Mã", by_user_id=False, by_phone=True)
    small.stub.behaviours.append(refuses(-108, "Phone number is invalid"))

    await small.schedule("b1", people=4, content=Content(template=template), pays=True)
    await small.work("b1")

    assert {call.path for call in small.stub.calls if "template" in call.path} == {PHONE_PATH}
    (call,) = small.stub.applied
    assert call.body == {
        "tracking_id": call.body["tracking_id"],
        "phone": call.body["phone"],
        "template_id": "200003",
        "template_data": {"otp": "1"},
    }
    assert await small.store["recipients"].find_one({"_id": call.body["tracking_id"], "state": "sent"}) is not None
    assert {one.body["phone"] for one in small.stub.calls if one.path == PHONE_PATH} == {"84900000001", "84900000002"}
    progress = await small.rooms.copies.progress("b1")
    assert progress.reasons == {
        ("skipped", "contact.no_phone"): 1,
        ("skipped", "contact.opted_out"): 1,
        ("failed", "zalo.phone_invalid"): 1,
    }


async def test_the_receipt_of_a_template_by_phone_settles_the_copy_that_it_names(small: Stage) -> None:
    lanes = small.rooms.runner.rulebook.lanes
    small.rooms.runner.rulebook.lanes = replace(lanes, lanes=tuple(replace(rule, hours=None) for rule in lanes.lanes))
    at = small.rooms.clock.now()
    await small.fill([a_contact(number, at=at, profile={"phone": f"090000000{number}"}) for number in range(3)])
    template = TemplateContent(template_id="200003", data={"otp": "1"}, text="Mã", by_user_id=False, by_phone=True)
    small.stub.behaviours += [loses_the_answer, loses_the_answer]
    await small.schedule("b1", people=3, content=Content(template=template), pays=True)
    await small.work("b1")
    assert await small.states("b1") == {"sent": 1, "uncertain": 2}
    rows = small.store["recipients"]
    lost, other = await rows.find({"state": "uncertain"}).to_list(None)
    taken = await rows.find_one({"state": "sent"})
    assert taken is not None

    deliveries = [
        a_template_delivery(message_id="m9", tracking_id=lost["_id"], delivered_at=at),
        a_template_delivery(message_id=taken["message_key"], delivered_at=at),  # Zalo left our id out
        a_template_delivery(message_id="m8", tracking_id="of-another-program", delivered_at=at),
    ]
    for _ in range(2):  # Kafka redelivers
        await note_deliveries([Received(delivery, 0, 0) for delivery in deliveries], small.rooms.deps)

    settled = await rows.find_one({"_id": lost["_id"]})
    assert settled is not None
    assert (settled["state"], settled["settled_by"], settled["message_key"]) == ("sent", "received", "m9")
    received = await rows.find({"received_at": at}).to_list(None)
    assert {row["_id"] for row in received} == {lost["_id"], taken["_id"]}
    assert await small.states("b1") == {"sent": 2, "uncertain": 1}
    assert (await rows.find_one({"state": "uncertain"}))["_id"] == other["_id"]  # type: ignore[index]


async def test_a_template_reaches_those_whom_a_message_may_not(small: Stage) -> None:
    at = small.rooms.clock.now()
    long_ago = at - timedelta(days=30)
    await small.fill([a_contact(number, at=at) for number in range(6)])
    await small.fill([a_contact(number, at=at, last_interaction_at=long_ago) for number in range(6, 10)])
    template = TemplateContent(template_id="332233", data={"ten": "bà con"}, text="Nước lên nhanh.")
    content = Content(message=ReplyContent(text=TEXT), template=template)

    await small.schedule("b1", people=10, content=content, pays=True)
    await small.work("b1")

    by_path = {
        path: [call for call in small.stub.applied if call.path == path] for path in (MESSAGE_PATH, TEMPLATE_PATH)
    }
    assert [len(calls) for calls in by_path.values()] == [6, 4]
    assert by_path[TEMPLATE_PATH][0].body == {
        "user_id": by_path[TEMPLATE_PATH][0].user_id,
        "template_id": "332233",
        "template_data": {"ten": "bà con"},
    }
    await small.schedule("b2", people=10, content=Content(message=ReplyContent(text=TEXT)))
    await small.work("b2")
    progress = await small.rooms.copies.progress("b2")
    assert progress.reasons == {("skipped", "window.closed"): 4}


async def test_a_fault_of_ours_ends_neither_the_runner_nor_the_broadcast(small: Stage) -> None:
    await small.followers(20)
    await small.schedule("b1", people=20)
    real = small.rooms.copies.rows_of
    faults = 1

    async def faulty(chunk: Chunk) -> list[Row]:
        nonlocal faults
        if faults:
            faults -= 1
            await small.store["broadcast_chunks"].update_many({}, {"$set": {"due_at": chunk_is_free}})
            raise KeyError("ours")
        return await real(chunk)

    chunk_is_free = small.rooms.clock.now() - timedelta(minutes=1)
    with (
        patch.object(small.rooms.copies, "rows_of", faulty),
        patch("services.notifier.handlers.send_broadcasts.FAULT_PAUSE_SECONDS", 0.05),
    ):
        loop = asyncio.create_task(small.rooms.runner.run())
        await eventually_async(lambda: is_done(small, "b1"))
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)

    assert len(small.copies) == 20
    assert set(small.copies.values()) == {1}


def _no_quiet_hours(stage: Stage) -> None:
    """Ordinary broadcasts have quiet hours, and a test may run at any hour."""
    book = stage.rooms.runner.rulebook.lanes
    policies = tuple(replace(policy, quiet_hours=Hours(0, 0)) for policy in book.policies)
    stage.rooms.runner.rulebook.lanes = replace(book, policies=policies)


async def is_done(stage: Stage, broadcast_id: str) -> bool:
    return await stage.rooms.broadcasts.state_of(broadcast_id) == "done"


async def eventually_async(condition: Callable[[], Awaitable[bool]], *, seconds: float = 150) -> None:
    """Poll until it holds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - another process's database says when
            await asyncio.sleep(0.05)
