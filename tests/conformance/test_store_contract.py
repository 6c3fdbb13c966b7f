"""What the services rely on in the store, on both drivers and on the server that the run has."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from shared import collections, mongo
from shared.collections import ALL_COLLECTIONS, create_indexes, verify_indexes
from shared.errors import NotReady, StoreUnavailable
from shared.mongo import Binary, DuplicateKeyError, InsertOne, Store, UpdateOne, insert_new, open_store, patiently
from shared.settings import HubSettings
from tests.servers import RunningHub, running_hub

DRIVERS = ("motor", "pymongo")


def settings_for(uri: str, driver: str) -> HubSettings:
    return HubSettings.model_validate(
        {"mongo_uri": SecretStr(uri), "mongo_database": f"test_{uuid.uuid4().hex[:12]}", "mongo_driver": driver}
    )


@pytest.fixture(params=DRIVERS)
async def store(request: pytest.FixtureRequest, mongo_uri: str) -> AsyncIterator[Store]:
    opened = open_store(settings_for(mongo_uri, request.param))
    yield opened
    await opened.drop()
    await opened.close()


async def test_a_document_comes_back_as_it_was_written(store: Store) -> None:
    moment = datetime(2026, 11, 24, 8, 30, 15, 123_000, tzinfo=UTC)
    document = {
        "_id": "a",
        "text": "Đường Tô Ký",
        "raw": Binary(b"\x00\xff"),
        "at": moment,
        "n": 2**62,
        "nothing": None,
    }

    await store["things"].insert_one(dict(document))

    assert await store["things"].find_one({"_id": "a"}) == {**document, "raw": b"\x00\xff"}


async def test_the_same_id_cannot_be_inserted_twice(store: Store) -> None:
    await store["things"].insert_one({"_id": "a"})

    with pytest.raises(DuplicateKeyError):
        await store["things"].insert_one({"_id": "a"})


async def test_only_new_documents_are_reported_as_inserted(store: Store) -> None:
    await store["things"].insert_one({"_id": "old", "kept": True})

    inserted = await insert_new(store["things"], [{"_id": "old"}, {"_id": "new"}, {"_id": "newer"}])

    assert inserted == {"new", "newer"}
    assert await store["things"].find_one({"_id": "old"}) == {"_id": "old", "kept": True}


async def test_a_document_given_twice_in_one_call_counts_as_inserted(store: Store) -> None:
    inserted = await insert_new(store["things"], [{"_id": "twin", "n": 1}, {"_id": "twin", "n": 2}])

    assert inserted == {"twin"}
    assert await store["things"].find_one({"_id": "twin"}) == {"_id": "twin", "n": 1}


async def test_inserting_nothing_is_fine(store: Store) -> None:
    assert await insert_new(store["things"], []) == set()


async def test_an_upsert_creates_and_then_changes_the_same_document(store: Store) -> None:
    for _ in range(2):
        await store["things"].update_one(
            {"_id": "a"}, {"$setOnInsert": {"first": 1}, "$set": {"last": 2}, "$inc": {"seen": 1}}, upsert=True
        )

    assert await store["things"].find_one({"_id": "a"}) == {"_id": "a", "first": 1, "last": 2, "seen": 2}


async def test_many_writes_travel_in_one_call(store: Store) -> None:
    await store["things"].bulk_write(
        [InsertOne({"_id": "a", "n": 1}), UpdateOne({"_id": "a"}, {"$set": {"n": 5}}), InsertOne({"_id": "b", "n": 2})]
    )

    assert await store["things"].find({}, {"n": 1}).sort([("n", -1)]).to_list() == [
        {"_id": "a", "n": 5},
        {"_id": "b", "n": 2},
    ]


async def test_a_query_is_sorted_limited_and_skipped_by_the_server(store: Store) -> None:
    await store["things"].insert_many([{"_id": n} for n in range(10)])

    found = [document["_id"] async for document in store["things"].find({}).sort([("_id", -1)]).skip(2).limit(3)]

    assert found == [7, 6, 5]


async def test_find_and_update_answers_the_document_as_it_is_now(store: Store) -> None:
    await store["things"].insert_one({"_id": "a", "n": 1})

    now = await store["things"].find_one_and_update({"_id": "a"}, {"$inc": {"n": 1}}, return_document=True)

    assert now == {"_id": "a", "n": 2}
    assert await store["things"].find_one_and_update({"_id": "b"}, {"$inc": {"n": 1}}) is None


async def test_concurrent_numbers_of_a_series_are_all_different(store: Store) -> None:
    await store["counters"].insert_one({"_id": "Q12-261124", "last": 0})

    async def next_number() -> int:
        answer = await store["counters"].find_one_and_update(
            {"_id": "Q12-261124"}, {"$inc": {"last": 1}}, return_document=True
        )
        assert answer is not None
        number: int = answer["last"]
        return number

    assert sorted(await asyncio.gather(*(next_number() for _ in range(40)))) == list(range(1, 41))


async def test_aggregation_answers_a_list(store: Store) -> None:
    await store["things"].insert_many([{"state": "sent"}, {"state": "sent"}, {"state": "failed"}])

    rows = await store.aggregate("things", [{"$group": {"_id": "$state", "count": {"$sum": 1}}}, {"$sort": {"_id": 1}}])

    assert rows == [{"_id": "failed", "count": 1}, {"_id": "sent", "count": 2}]


async def test_a_partial_unique_index_binds_only_what_it_covers(store: Store) -> None:
    await store["cases"].create_index([("citizen_key", 1)], unique=True, partialFilterExpression={"is_open": True})
    await store["cases"].insert_many([{"citizen_key": "1", "is_open": False}, {"citizen_key": "1", "is_open": False}])
    await store["cases"].insert_one({"citizen_key": "1", "is_open": True})

    with pytest.raises(DuplicateKeyError):
        await store["cases"].insert_one({"citizen_key": "1", "is_open": True})


async def test_a_pipeline_update_reads_the_servers_clock(store: Store) -> None:
    await store["leases"].insert_one({"_id": "relay", "until": datetime(2000, 1, 1, tzinfo=UTC)})
    # Both sides as numbers: the stand-in's PyPI build never finds a stored date smaller than $$NOW itself.
    free = {"_id": "relay", "$expr": {"$lt": [{"$toLong": "$until"}, {"$toLong": "$$NOW"}]}}
    take = [{"$set": {"until": {"$add": ["$$NOW", 30_000]}, "owner": "me"}}]

    first = await store["leases"].update_one(free, take)
    second = await store["leases"].update_one(free, take)

    assert (first.modified_count, second.modified_count) == (1, 0)
    lease = await store["leases"].find_one({"_id": "relay"})
    assert lease is not None
    assert abs(lease["until"] - timedelta(seconds=30) - await store.server_now()) < timedelta(seconds=20)


async def test_a_value_is_never_an_operator_when_it_is_compared_explicitly(store: Store) -> None:
    await store["things"].insert_one({"_id": "a", "message_id": "m1"})

    assert await store["things"].find_one({"message_id": {"$eq": {"$ne": None}}}) is None


async def test_a_file_larger_than_a_document_comes_back_whole(store: Store) -> None:
    content = bytes(range(256)) * 80_000  # 20 MB, above the 16 MB of a document
    bucket = store.files("attachments")
    await bucket.upload_from_stream_with_id("f1", "picture.jpg", content, metadata={"sha256": "00"})

    stream = await bucket.open_download_stream("f1")

    assert await stream.read() == content
    assert stream.metadata == {"sha256": "00"}
    await bucket.delete("f1")
    with pytest.raises(Exception, match="no file"):
        await bucket.open_download_stream("f1")


async def test_the_init_job_creates_every_declared_index_and_may_run_again(store: Store) -> None:
    first = await create_indexes(store)
    second = await create_indexes(store)

    assert first == second
    assert len(first) == sum(len(spec.indexes) for spec in ALL_COLLECTIONS)
    for service in ("intake", "router", "notifier"):
        await verify_indexes(store, service)


async def test_a_service_refuses_to_start_where_an_index_is_missing(store: Store) -> None:
    with pytest.raises(NotReady, match="run `hub init` first"):
        await verify_indexes(store, "router")


async def test_an_index_that_exists_with_other_options_is_named(store: Store) -> None:
    spec = next(spec for spec in ALL_COLLECTIONS if spec.name == "cases")
    index = next(index for index in spec.indexes if index.unique and index.only is None)
    await store["cases"].create_index(list(index.keys), name=index.name)

    with pytest.raises(collections.IndexMismatch, match=f"cases.*{index.name}"):
        await create_indexes(store)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_an_unreachable_server_is_store_unavailable(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongo, "SERVER_SELECTION_TIMEOUT_MS", 200)
    store = open_store(settings_for("mongodb://127.0.0.1:1/", driver))

    with pytest.raises(StoreUnavailable):
        await store.ping()
    with pytest.raises(StoreUnavailable):
        await insert_new(store["things"], [{"_id": "a"}])
    await store.close()


@pytest.fixture(scope="module")
def mortal_server() -> "object":
    with running_hub(only=["mongo"]) as servers:
        yield servers


@pytest.mark.chaos
@pytest.mark.parametrize("driver", DRIVERS)
async def test_acknowledged_writes_survive_a_killed_server_and_patience_bridges_the_outage(
    driver: str, mortal_server: RunningHub
) -> None:
    """What must hold: every acknowledged insert is there afterwards, and no caller sees the short outage.

    How we break it: kill -9 of the server in the middle of the writes; the supervisor brings it back.
    """
    uri = mortal_server.state.mongo
    assert uri is not None
    store = open_store(settings_for(uri, driver))
    acknowledged = []
    killed = asyncio.Event()

    async def write() -> None:
        number = 0
        while number < 300 or not killed.is_set():
            identity = f"{driver}-{number}"
            await patiently(
                lambda identity=identity: insert_new(store["things"], [{"_id": identity}]),  # type: ignore[misc]
                waits_seconds=(0.2, 0.5, 1, 2, 4, 8),
            )
            acknowledged.append(identity)
            number += 1
            if number == 100:
                await asyncio.to_thread(mortal_server.kill, "mongo")
                killed.set()

    await write()

    present = {document["_id"] async for document in store["things"].find({}, {"_id": 1})}
    assert set(acknowledged) <= present
    assert len(acknowledged) >= 300
    await store.drop()
    await store.close()
