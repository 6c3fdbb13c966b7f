"""Intake's stores on both drivers and on the server that the run has."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from services.intake.adapters.attachment_store import AttachmentStore
from services.intake.adapters.lease_store import Lease
from services.intake.adapters.record_store import RecordStore
from services.intake.adapters.spool_store import ParkedEvents, SpoolStore
from services.intake.domain import AttachmentJob, Captured, Outgoing, plan_attachments
from shared import topics
from shared.collections import create_indexes
from shared.dead_letter import DeadLetters, as_record
from shared.errors import StoreUnavailable
from shared.events import Attachment, CitizenMessageReceived
from shared.mongo import Store, open_store
from shared.settings import HubSettings
from tests.factories import a_message, a_record

DRIVERS = ("motor", "pymongo")


def opened(uri: str, driver: str, database: str | None = None) -> Store:
    return open_store(
        HubSettings.model_validate(
            {
                "mongo_uri": SecretStr(uri),
                "mongo_database": database or f"test_{uuid.uuid4().hex[:12]}",
                "mongo_driver": driver,
            }
        )
    )


@pytest.fixture(params=DRIVERS)
async def store(request: pytest.FixtureRequest, mongo_uri: str) -> AsyncIterator[Store]:
    store = opened(mongo_uri, request.param)
    await create_indexes(store)
    yield store
    await store.drop()
    await store.close()


@pytest.fixture(params=DRIVERS)
async def unreachable(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    store = opened("mongodb://127.0.0.1:1/", request.param)
    yield store
    await store.close()


def outgoing(text: str, user_id: str = "2000000000000000001") -> Outgoing:
    return Outgoing(topics.CITIZEN_MESSAGES, a_message(text=text, user_id=user_id))


# -- spool ------------------------------------------------------------------------------------------------------------


async def test_spooled_events_come_back_in_order_and_ready_to_publish(store: Store) -> None:
    spool = SpoolStore(store)
    events = [outgoing(f"tin {n}") for n in range(12)]
    for one in events:
        await spool.add([one], datetime.now(UTC))

    rows = await spool.next_rows(10)

    assert [row.event_id for row in rows] == [one.event.event_id for one in events[:10]]
    assert rows[0].topic == "citizen.messages.v1"
    assert rows[0].key == events[0].event.partition_key
    assert rows[0].headers["ce_id"] == events[0].event.event_id
    assert CitizenMessageReceived.model_validate_json(rows[0].value) == events[0].event


async def test_an_event_that_is_spooled_twice_keeps_its_first_place(store: Store) -> None:
    spool = SpoolStore(store)
    first, second = outgoing("một"), outgoing("hai")

    for one in (first, second, first):
        await spool.add([one], datetime.now(UTC))

    assert [row.event_id for row in await spool.next_rows(10)] == [first.event.event_id, second.event.event_id]


async def test_removed_rows_are_gone_and_the_state_tells_what_is_left(store: Store) -> None:
    spool = SpoolStore(store)
    arrived_at = datetime.now(UTC) - timedelta(seconds=90)
    events = [outgoing(f"tin {n}") for n in range(3)]
    await spool.add(events, arrived_at)
    assert (await spool.state()).depth == 3

    await spool.remove([one.event.event_id for one in events[:2]])

    state = await spool.state()
    assert state.depth == 1
    assert 90 <= state.oldest_seconds < 200
    assert not await spool.is_empty()
    await spool.remove([events[2].event.event_id])
    assert await spool.is_empty()
    assert (await spool.state()).oldest_seconds == 0


async def test_a_store_that_is_away_is_a_passing_failure(unreachable: Store) -> None:
    spool = SpoolStore(unreachable)
    outcomes = await asyncio.gather(
        spool.add([outgoing("x")], datetime.now(UTC)),
        spool.is_empty(),
        spool.next_rows(1),
        spool.remove(["x"]),
        spool.state(),
        Lease(unreachable, "x", seconds=5).acquire(),
        AttachmentStore(unreachable, claim_seconds=5).claim_due(1),
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 7


async def test_a_parked_event_can_be_replayed_as_it_was_and_parking_twice_is_one_letter(store: Store) -> None:
    parking = ParkedEvents(DeadLetters(store, "intake"))
    one = outgoing("quá dài")

    await parking.park(one, "event.too_large")
    await parking.park(one, "event.too_large")

    (letter,) = await store["dead_letters"].find({}).to_list(10)
    topic, key, headers, value = as_record(letter)
    assert (topic, key) == ("citizen.messages.v1", one.event.partition_key.encode())
    assert dict(headers)["ce_id"] == one.event.event_id.encode()
    assert CitizenMessageReceived.model_validate_json(value) == one.event
    assert letter["reason"] == "event.too_large"


# -- lease ------------------------------------------------------------------------------------------------------------


async def test_of_many_replicas_one_has_the_lease(store: Store) -> None:
    leases = [Lease(store, "relay", seconds=60) for _ in range(8)]

    outcomes = await asyncio.gather(*(lease.acquire() for lease in leases))

    assert sum(outcomes) == 1
    holder = leases[outcomes.index(True)]
    assert await holder.acquire()


async def test_a_lease_passes_on_when_it_is_given_back_and_when_its_time_is_over(store: Store) -> None:
    first, second = Lease(store, "relay", seconds=60), Lease(store, "relay", seconds=0.05)
    assert await first.acquire()
    assert not await second.acquire()

    await second.release()
    assert not await second.acquire()
    await first.release()
    assert await second.acquire()
    async with asyncio.timeout(60):
        while not await first.acquire():
            pass  # the second one's time runs out by the server's clock
    assert not await second.acquire()


async def test_a_lease_whose_document_is_deleted_comes_back(store: Store) -> None:
    lease = Lease(store, "relay", seconds=60)
    assert await lease.acquire()
    await store["leases"].delete_many({})

    assert not await lease.acquire()
    assert await lease.acquire()


# -- records ----------------------------------------------------------------------------------------------------------


async def test_records_keep_the_body_byte_for_byte_and_once(store: Store) -> None:
    records = RecordStore(store)
    one = a_record(reason="body.not_json", raw_base64="/wD+eyIkbmUiOm51bGx9", oa_id="$where", user_id="a\x00b")
    other = a_record(reason="event.unknown")

    assert await records.add([one, other, one]) == 2
    assert await records.add([one]) == 0

    document = await store["webhook_records"].find_one({"_id": one.event_id})
    assert document is not None
    assert bytes(document["raw"]) == b'\xff\x00\xfe{"$ne":null}'
    assert document["reason"] == "body.not_json"
    assert (document["oa_id"], document["user_id"]) == ("$where", "a\x00b")


async def test_no_records_are_no_work(store: Store) -> None:
    assert await RecordStore(store).add([]) == 0


# -- attachments ------------------------------------------------------------------------------------------------------

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 2_000


def a_message_with(*kinds: Any) -> CitizenMessageReceived:
    return a_message(
        received_at=datetime.now(UTC) - timedelta(seconds=5),
        attachments=tuple(
            Attachment(index=n, kind=kind, url=f"https://x.example/{n}", name=f"{n}.png")
            for n, kind in enumerate(kinds)
        ),
    )


async def planned(store: AttachmentStore, message: CitizenMessageReceived) -> int:
    return await store.plan([(message, plan) for plan in plan_attachments(message)])


def captured(content: bytes = PNG) -> Captured:
    return Captured(content, "image/png", hashlib.sha256(content).hexdigest(), datetime.now(UTC))


async def content_of(store: Store, file_id: str) -> bytes:
    stream = await store.files("attachments").open_download_stream(file_id)
    return bytes(await stream.read())


async def test_jobs_are_planned_once_and_skipped_kinds_have_their_reason(store: Store) -> None:
    attachments = AttachmentStore(store, claim_seconds=60)
    message = a_message_with("image", "sticker", "file")

    assert await planned(attachments, message) == 2
    assert await planned(attachments, message) == 0

    documents = await store["attachments"].find({"message_event_id": message.event_id}).sort([("index", 1)]).to_list(9)
    assert [document["state"] for document in documents] == ["pending", "skipped", "pending"]
    assert documents[1]["reason"] == "attachment.sticker_not_fetched"


async def test_a_job_is_claimed_by_one_worker_only(store: Store) -> None:
    attachments = AttachmentStore(store, claim_seconds=60)
    await planned(attachments, a_message_with(*["image"] * 10))

    claims = await asyncio.gather(*(AttachmentStore(store, claim_seconds=60).claim_due(10) for _ in range(4)))

    claimed = [job.attachment_id for jobs in claims for job in jobs]
    assert len(claimed) == len(set(claimed)) == 10
    assert await attachments.claim_due(10) == []


async def test_a_captured_attachment_has_its_bytes_digest_and_time(store: Store) -> None:
    attachments = AttachmentStore(store, claim_seconds=60)
    await planned(attachments, a_message_with("image"))
    (job,) = await attachments.claim_due(5)
    taken = captured()

    assert await attachments.keep(job, taken)

    document = await store["attachments"].find_one({"_id": job.attachment_id})
    assert document is not None
    assert (document["state"], document["sha256"], document["size_bytes"]) == ("stored", taken.sha256, len(PNG))
    assert abs(document["captured_at"] - taken.captured_at) < timedelta(milliseconds=1)
    assert await content_of(store, document["file_id"]) == PNG
    assert await attachments.claim_due(5) == []


async def test_a_worker_whose_claim_was_taken_over_changes_nothing_and_leaves_no_bytes(store: Store) -> None:
    attachments = AttachmentStore(store, claim_seconds=0.01)
    await planned(attachments, a_message_with("image"))
    (slow,) = await attachments.claim_due(5)
    jobs: list[AttachmentJob] = []
    async with asyncio.timeout(60):
        while not jobs:
            jobs = await attachments.claim_due(5)
    (quick,) = jobs
    assert (slow.attempt, quick.attempt) == (1, 2)

    assert await attachments.keep(quick, captured())
    assert not await attachments.keep(slow, captured(b"other bytes"))
    await attachments.give_up(slow, reason="attachment.gone")

    document = await store["attachments"].find_one({"_id": quick.attachment_id})
    assert document is not None
    assert document["state"] == "stored"
    assert await content_of(store, document["file_id"]) == PNG
    assert len(await store["attachments.files"].find({}).to_list(9)) == 1
    assert await store["attachments.chunks"].find({"files_id": {"$ne": document["file_id"]}}).to_list(9) == []


async def test_a_job_that_is_put_off_is_due_later_and_one_that_is_given_up_never(store: Store) -> None:
    attachments = AttachmentStore(store, claim_seconds=60)
    await planned(attachments, a_message_with("image", "video", "audio"))
    later, never, soon = await attachments.claim_due(3)

    await attachments.retry(later, at=datetime.now(UTC) + timedelta(hours=1), reason="attachment.unreachable")
    await attachments.give_up(never, reason="attachment.gone")
    await attachments.retry(soon, at=datetime.now(UTC) - timedelta(seconds=1), reason="attachment.server_busy")

    (again,) = await attachments.claim_due(3)
    assert (again.attachment_id, again.attempt) == (soon.attachment_id, 2)
    document = await store["attachments"].find_one({"_id": never.attachment_id})
    assert document is not None
    assert (document["state"], document["reason"]) == ("failed", "attachment.gone")
