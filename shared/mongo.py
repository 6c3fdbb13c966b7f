"""The store: the only module that talks to a MongoDB driver.

motor is past its end of life, so the rest of the product sees the small common surface below, and the
conformance suites run every adapter on motor and on pymongo's own asynchronous client (`MONGO_DRIVER`).

Source: ADR 0004.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import gridfs
from bson.binary import Binary
from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from shared.errors import NotReady, StoreUnavailable
from shared.settings import HubSettings

__all__ = [
    "EPOCH",
    "NEVER",
    "Binary",
    "Collection",
    "DeleteOne",
    "Document",
    "DuplicateKeyError",
    "FileBucket",
    "IndexConflict",
    "InsertOne",
    "ReplaceOne",
    "Store",
    "UpdateMany",
    "UpdateOne",
    "bulk_update",
    "insert_in_order",
    "insert_new",
    "open_store",
    "patiently",
    "server_time_in",
    "store_errors",
    "value_of_each",
]

Document = dict[str, Any]
T = TypeVar("T")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEVER = datetime(9000, 1, 1, tzinfo=UTC)
"""The ends of time: a date that is always there keeps an index whole, and a range on it has two bounds."""
DUPLICATE_KEY = 11_000
_UNREACHABLE = (
    AutoReconnect,
    ConnectionFailure,
    ServerSelectionTimeoutError,
    NetworkTimeout,
    WTimeoutError,
    ExecutionTimeout,
)
# Not primary, shutting down, interrupted, write concern not met: the same call works again later.
_PASSING_CODES = frozenset({6, 7, 64, 89, 91, 112, 189, 262, 9001, 10107, 11600, 11602, 13388, 13435, 13436, 50, 251})
_INDEX_CONFLICTS = frozenset({85, 86, 67})  # options, key specification, cannot create
SERVER_SELECTION_TIMEOUT_MS = 3_000
DRIVER_THREADS = 16


class IndexConflict(Exception):
    """An index is there already, and different."""


class Cursor(Protocol):
    """What a query answers."""

    def sort(self, key: Sequence[tuple[str, int]]) -> "Cursor": ...
    def limit(self, limit: int) -> "Cursor": ...
    def skip(self, skip: int) -> "Cursor": ...
    def __aiter__(self) -> AsyncIterator[Document]: ...
    def to_list(self, length: int | None = None) -> Awaitable[list[Document]]: ...
    def explain(self) -> Awaitable[Document]: ...


class Collection(Protocol):
    """The calls that both drivers have in the same form. Every write here must be repeatable (see `patiently`)."""

    @property
    def name(self) -> str: ...

    async def insert_one(self, document: Document) -> Any: ...
    async def insert_many(self, documents: Sequence[Document], ordered: bool = True) -> Any: ...
    async def find_one(
        self, filter: Mapping[str, Any], projection: Mapping[str, Any] | None = None, **options: Any
    ) -> Document | None: ...
    def find(self, filter: Mapping[str, Any], projection: Mapping[str, Any] | None = None) -> Cursor: ...
    async def update_one(
        self, filter: Mapping[str, Any], update: Mapping[str, Any] | Sequence[Mapping[str, Any]], upsert: bool = False
    ) -> Any: ...
    async def update_many(
        self, filter: Mapping[str, Any], update: Mapping[str, Any] | Sequence[Mapping[str, Any]], upsert: bool = False
    ) -> Any: ...
    async def find_one_and_update(
        self, filter: Mapping[str, Any], update: Mapping[str, Any] | Sequence[Mapping[str, Any]], **options: Any
    ) -> Document | None: ...
    async def replace_one(self, filter: Mapping[str, Any], replacement: Document, upsert: bool = False) -> Any: ...
    async def delete_one(self, filter: Mapping[str, Any]) -> Any: ...
    async def delete_many(self, filter: Mapping[str, Any]) -> Any: ...
    async def bulk_write(self, requests: Sequence[Any], ordered: bool = True) -> Any: ...
    async def count_documents(self, filter: Mapping[str, Any], **options: Any) -> int: ...
    async def create_index(self, keys: Sequence[tuple[str, Any]], **options: Any) -> str: ...
    async def index_information(self) -> Mapping[str, Any]: ...


class FileBucket(Protocol):
    """GridFS: files larger than a document."""

    async def upload_from_stream_with_id(
        self, file_id: Any, filename: str, source: bytes, metadata: Mapping[str, Any] | None = None
    ) -> None: ...
    async def open_download_stream(self, file_id: Any) -> Any: ...
    async def delete(self, file_id: Any) -> None: ...


class Store:
    """One database through one client; one a process and event loop."""

    def __init__(self, client: Any, database_name: str, driver: str) -> None:
        self._client = client
        self.driver = driver
        self._database = client.get_database(
            database_name,
            write_concern=WriteConcern(w="majority", j=True),
            read_concern=ReadConcern("majority"),
        )

    def __getitem__(self, name: str) -> Collection:
        return cast("Collection", self._database[name])

    async def aggregate(self, collection: str, pipeline: Sequence[Mapping[str, Any]]) -> list[Document]:
        """Run an aggregation; for results that are known to be small."""
        cursor = self._database[collection].aggregate(list(pipeline))
        if self.driver == "pymongo":
            cursor = await cursor
        return cast("list[Document]", await cursor.to_list(None))

    def files(self, bucket: str) -> FileBucket:
        """The GridFS bucket of this name."""
        if self.driver == "pymongo":
            return cast("FileBucket", gridfs.AsyncGridFSBucket(self._database, bucket_name=bucket))
        from motor.motor_asyncio import AsyncIOMotorGridFSBucket

        return cast("FileBucket", AsyncIOMotorGridFSBucket(self._database, bucket_name=bucket))

    async def server_now(self) -> datetime:
        """The database's clock, for what replicas must agree on; aware, in UTC.

        Raises:
            StoreUnavailable: it does not answer.
        """
        with store_errors():
            # A command answers without time zones whatever the client was told, unless it is told again.
            answer = await self._client.admin.command("hello", codec_options=CodecOptions(tz_aware=True))
        return cast("datetime", answer["localTime"])

    async def ping(self) -> None:
        """Ask whether the database answers.

        Raises:
            StoreUnavailable: it does not.
        """
        with store_errors():
            await self._client.admin.command("ping")

    async def drop(self) -> None:
        """Delete the whole database; for tests and `make reset`."""
        await self._client.drop_database(self._database.name)

    async def close(self) -> None:
        """Close the connections."""
        closing = self._client.close()
        if closing is not None:
            await closing


def open_store(settings: HubSettings) -> Store:
    """Build the client; it connects when first used, and again after every outage."""
    uri = settings.mongo_uri.get_secret_value()
    options: dict[str, Any] = {
        "tz_aware": True,
        "serverSelectionTimeoutMS": SERVER_SELECTION_TIMEOUT_MS,
        "connectTimeoutMS": SERVER_SELECTION_TIMEOUT_MS,
        "appname": "binh-yen",
    }
    if settings.mongo_driver == "pymongo":
        return Store(AsyncMongoClient(uri, **options), settings.mongo_database, "pymongo")
    os.environ.setdefault("MOTOR_MAX_WORKERS", str(DRIVER_THREADS))  # read when motor is first imported
    from motor.motor_asyncio import AsyncIOMotorClient

    return Store(AsyncIOMotorClient(uri, **options), settings.mongo_database, "motor")


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn the driver's passing failures into `StoreUnavailable`; everything else is a fault of ours and passes."""
    try:
        yield
    except _UNREACHABLE as error:
        raise StoreUnavailable(type(error).__name__) from error
    except BulkWriteError as error:
        if error.details.get("writeConcernErrors"):
            raise StoreUnavailable("write concern not met") from error
        codes = {failure.get("code") for failure in error.details.get("writeErrors", [])}
        if passing := codes & _PASSING_CODES:
            raise StoreUnavailable(f"codes {sorted(passing)}") from error
        raise
    except OperationFailure as error:
        if error.code in _PASSING_CODES or error.has_error_label("RetryableWriteError"):
            raise StoreUnavailable(f"code {error.code}") from error
        if error.code in _INDEX_CONFLICTS:
            raise IndexConflict(str(error)) from error
        raise
    except PyMongoError as error:
        if error.has_error_label("TransientTransactionError"):
            raise StoreUnavailable(type(error).__name__) from error
        raise


def server_time_in(milliseconds: int) -> dict[str, Any]:
    """A moment by the database's clock, for a pipeline update: leases are measured by one clock.

    Not `$add`: one of the servers that speak the protocol adds no number to a date.
    """
    return {"$dateAdd": {"startDate": "$$NOW", "unit": "millisecond", "amount": milliseconds}}


def value_of_each(values: Mapping[str, Any], *, field: str = "_id") -> Document:
    """For a pipeline update of many documents: each one's own value, looked up by a field that the filter names.

    One such write takes the place of a bulk of single ones, each of which some servers make durable by itself.

    Args:
        values: by what the documents have in the field.
        field: of the documents.
    """
    place = {"$indexOfArray": [{"$literal": list(values)}, f"${field}"]}
    return {"$arrayElemAt": [{"$literal": list(values.values())}, place]}


async def patiently(call: Callable[[], Awaitable[T]], *, waits_seconds: Sequence[float] = (0.1, 0.3, 1.0, 2.0)) -> T:
    """Repeat a repeatable call through a short outage of the database.

    Args:
        call: makes a fresh awaitable each time; must be safe to apply twice.
        waits_seconds: the pause before each further try.

    Raises:
        StoreUnavailable: still unreachable after the last try.
    """
    for wait_seconds in waits_seconds:
        try:
            with store_errors():
                return await call()
        except StoreUnavailable:
            await asyncio.sleep(wait_seconds)
    with store_errors():
        return await call()


async def insert_new(collection: Collection, documents: Sequence[Document]) -> set[Any]:
    """Insert those documents whose `_id` (or unique key) is not there yet.

    Returns:
        The `_id`s that this call inserted; the others were there already. After a repeated call that is only what the
        last one inserted, so what must happen once is decided by another document, not by this answer.

    Raises:
        StoreUnavailable: unreachable; some may be inserted. Repeat the call.
    """
    if not documents:
        return set()
    refused: set[int] = set()
    with store_errors():
        try:
            await collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            failures = error.details.get("writeErrors", [])
            if error.details.get("writeConcernErrors") or any(f.get("code") != DUPLICATE_KEY for f in failures):
                raise
            refused = {failure["index"] for failure in failures}
    # By position, not by id: of the same document twice in one call the first was inserted.
    return {document["_id"] for index, document in enumerate(documents) if index not in refused}


async def insert_in_order(collection: Collection, documents: Sequence[Document]) -> int:
    """Insert documents one after another and stop at the first whose `_id` or unique key is there already.

    Returns:
        How many were inserted: always the first ones, so that none is there whose predecessors are missing.

    Raises:
        StoreUnavailable: unreachable; some of the first ones may be inserted.
    """
    if not documents:
        return 0
    with store_errors():
        try:
            await collection.insert_many(documents, ordered=True)
        except BulkWriteError as error:
            failures = error.details.get("writeErrors", [])
            if error.details.get("writeConcernErrors") or any(f.get("code") != DUPLICATE_KEY for f in failures):
                raise
            return int(error.details["nInserted"])
    return len(documents)


async def bulk_update(
    collection: Collection, updates: Sequence[UpdateOne | UpdateMany], *, ordered: bool = False
) -> list[int]:
    """Apply repeatable updates; ordered ones stop at the first that is refused.

    Returns:
        The places of those that a unique index refused; all others are applied, if not ordered.

    Raises:
        StoreUnavailable: unreachable; some may be applied. Repeat the call.
    """
    if not updates:
        return []
    with store_errors():
        try:
            await collection.bulk_write(updates, ordered=ordered)
        except BulkWriteError as error:
            failures = error.details.get("writeErrors", [])
            if error.details.get("writeConcernErrors") or any(f.get("code") != DUPLICATE_KEY for f in failures):
                raise
            return [failure["index"] for failure in failures]
    return []


async def keep_latest(collection: Collection, field: str, moments: Iterable[tuple[str, datetime]]) -> None:
    """Keep a moment for each id, where none is kept or an earlier one; an id may come more than once.

    Raises:
        StoreUnavailable: some may be kept; repeat the call.
    """
    await upsert_all(collection, [UpdateOne({"_id": one}, {"$max": {field: at}}, upsert=True) for one, at in moments])


async def upsert_all(collection: Collection, updates: Sequence[UpdateOne]) -> None:
    """Apply repeatable upserts by id; an id may come more than once.

    Raises:
        StoreUnavailable: some may be applied; repeat the call.
    """
    while updates:  # another replica made one of them at the same time: it is there now, so the update finds it
        updates = [updates[index] for index in await patiently(partial(bulk_update, collection, updates))]


async def require_indexes(store: Store, expected: Mapping[str, Sequence[str]]) -> None:
    """Check that the init job ran.

    Args:
        store: the database.
        expected: index names by collection.

    Raises:
        NotReady: an index is missing.
    """
    for collection, names in expected.items():
        with store_errors():
            present = await store[collection].index_information()
        if missing := sorted(set(names) - set(present)):
            raise NotReady(f"collection {collection} lacks the indexes {', '.join(missing)}: run `hub init` first")
