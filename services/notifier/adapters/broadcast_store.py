"""Broadcasts in MongoDB: one document each, changed only over the version a change was made from.

`domain/broadcast.py` decides what may change; here it is kept. The snapshot of the audience is the engine's: it is
written apart from the rest, so that whoever builds the ledger and whoever presses pause never collide.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from services.notifier.domain.broadcast import (
    Broadcast,
    BroadcastState,
    Draft,
    Forecast,
    HistoryEntry,
    Preview,
    Snapshot,
)
from shared.mongo import Document, Store, insert_new, patiently, store_errors

MAX_FOUND = 200


class BroadcastStore:
    """The `broadcasts` collection."""

    def __init__(self, store: Store) -> None:
        self._broadcasts = store["broadcasts"]

    async def create(self, broadcast: Broadcast) -> bool:
        """Keep a new broadcast.

        Returns:
            False if there is one of this id; it is left as it is.

        Raises:
            StoreUnavailable: it may be kept; repeat the call.
        """
        document = {**_document(broadcast), "_id": broadcast.id, "snapshot": asdict(broadcast.snapshot)}
        return bool(await patiently(lambda: insert_new(self._broadcasts, [document])))

    async def read(self, broadcast_id: str) -> Broadcast | None:
        """One broadcast as it is now."""
        with store_errors():
            document = await self._broadcasts.find_one({"_id": broadcast_id})
        return None if document is None else _broadcast(document)

    async def state_of(self, broadcast_id: str) -> BroadcastState | None:
        """Its state alone: asked before every chunk."""
        with store_errors():
            document = await self._broadcasts.find_one({"_id": broadcast_id}, {"state": 1})
        return None if document is None else document["state"]

    async def save(self, changed: Broadcast) -> bool:
        """Keep what `act` made of a broadcast, over the version it was made from; never its snapshot.

        Returns:
            False if somebody else changed it since: read it and act again. True also for a repeated call.

        Raises:
            StoreUnavailable: it may be kept; repeat the call.
        """
        document = _document(changed)
        filter_ = {"_id": changed.id, "version": changed.version - 1}
        answer = await patiently(lambda: self._broadcasts.update_one(filter_, {"$set": document}))
        if answer.matched_count:
            return True
        with store_errors():
            stored = await self._broadcasts.find_one({"_id": changed.id, "version": changed.version})
        return stored is not None and _document(_broadcast(stored)) == document

    async def keep_snapshot(self, broadcast_id: str, snapshot: Snapshot) -> bool:
        """Keep how far its ledger is built. A complete snapshot is never changed again.

        Returns:
            Whether this is what is kept now.

        Raises:
            StoreUnavailable: it may be kept; repeat the call.
        """
        wanted = asdict(snapshot)
        filter_ = {"_id": broadcast_id, "snapshot.is_complete": False}
        answer = await patiently(lambda: self._broadcasts.update_one(filter_, {"$set": {"snapshot": wanted}}))
        if answer.matched_count:
            return True
        with store_errors():
            stored = await self._broadcasts.find_one({"_id": broadcast_id}, {"snapshot": 1})
        return stored is not None and stored["snapshot"] == wanted

    async def find(
        self,
        *,
        states: Collection[BroadcastState] = (),
        unit: str | None = None,
        limit: int = MAX_FOUND,
        skip: int = 0,
    ) -> list[Broadcast]:
        """The newest broadcasts after so many, of some states or of one unit if wanted; at most 200 at once."""
        filter_: Document = {}
        if states:
            filter_["state"] = {"$in": sorted(states)}
        if unit is not None:
            filter_["draft.unit"] = unit
        with store_errors():
            cursor = self._broadcasts.find(filter_).sort([("created_at", -1), ("_id", -1)]).skip(skip)
            documents = await cursor.limit(min(limit, MAX_FOUND)).to_list(None)
        return [_broadcast(document) for document in documents]

    async def every(self, states: Collection[BroadcastState]) -> list[Broadcast]:
        """All broadcasts of some states, the newest first; for states that few are in at a time."""
        found: list[Broadcast] = []
        while part := await self.find(states=states, skip=len(found)):
            found += part
            if len(part) < MAX_FOUND:
                break
        return found

    async def due(self, now: datetime) -> list[str]:
        """Ids of those whose start has come, the longest waiting first."""
        filter_ = {"state": "scheduled", "starts_at": {"$lte": now}}
        with store_errors():
            cursor = self._broadcasts.find(filter_, {"_id": 1}).sort([("starts_at", 1)]).limit(MAX_FOUND)
            documents = await cursor.to_list(None)
        return [document["_id"] for document in documents]


def _document(broadcast: Broadcast) -> Document:
    """All that `act` changes. The draft is kept as JSON would: its digest must be the same when it comes back."""
    preview = broadcast.preview
    return {
        "draft": broadcast.draft.model_dump(mode="json"),
        "author": broadcast.author,
        "created_at": _milliseconds(broadcast.created_at),
        "state": broadcast.state,
        "version": broadcast.version,
        "preview": None
        if preview is None
        else {
            "digest": preview.digest,
            "at": _milliseconds(preview.at),
            "forecast": {name: _stored(value) for name, value in vars(preview.forecast).items()},
        },
        "approved_by": broadcast.approved_by,
        "starts_at": _milliseconds(broadcast.starts_at),
        "started_at": _milliseconds(broadcast.started_at),
        "finished_at": _milliseconds(broadcast.finished_at),
        "history": [
            {"action": entry.action, "by": entry.by, "at": _milliseconds(entry.at), "note": entry.note}
            for entry in broadcast.history
        ],
    }


def _broadcast(document: Document) -> Broadcast:
    preview = document["preview"]
    return Broadcast(
        id=document["_id"],
        draft=Draft.model_validate(document["draft"]),
        preview=None
        if preview is None
        else Preview(
            preview["digest"],
            preview["at"],
            Forecast(**{name: _read(value) for name, value in preview["forecast"].items()}),
        ),
        snapshot=Snapshot(**document["snapshot"]),
        history=tuple(HistoryEntry(**entry) for entry in document["history"]),
        **{name: document[name] for name in _PLAIN},
    )


_PLAIN = {field.name for field in fields(Broadcast)} - {"id", "draft", "preview", "snapshot", "history"}


def _milliseconds(at: datetime | None) -> datetime | None:
    """As the database keeps it, so that what was written equals what is read."""
    return None if at is None else at.replace(microsecond=at.microsecond // 1_000 * 1_000)


def _stored(value: Any) -> Any:
    """Counts by reason as pairs: reasons hold dots, which a field's name must not."""
    if isinstance(value, Mapping):
        return [[name, count] for name, count in sorted(value.items())]
    return _milliseconds(value) if isinstance(value, datetime) else value


def _read(value: Any) -> Any:
    return dict(value) if isinstance(value, list) else value
