"""Articles on their way in MongoDB: one row for each broadcast and page, claimed under a lease, fenced with its owner.

`day_slot` makes Zalo's "one a day" hold whatever runs at once: it is unique, and names page, day and number; until a
broadcast is called it is the row's own id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from services.notifier.domain.articles import ArticleSend, next_look
from services.notifier.domain.settlement import NOT_SENT
from shared.mongo import (
    EPOCH,
    NEVER,
    Document,
    DuplicateKeyError,
    Store,
    insert_new,
    patiently,
    server_time_in,
    store_errors,
)

COUNTED = ("calling", "sent", "uncertain")
"""States of a broadcast that Zalo may have shown to people."""
_FIELDS = tuple(field.name for field in fields(ArticleSend) if field.name != "id")


class ArticleStore:
    """The `article_sends` collection.

    Args:
        store: the database.
        lease: how long a claim may stay unrecorded.
    """

    def __init__(self, store: Store, *, lease: timedelta) -> None:
        self._store = store
        self._rows = store["article_sends"]
        self._lease_ms = int(lease.total_seconds() * 1_000)

    async def add(self, sends: Sequence[ArticleSend]) -> None:
        """Keep rows; those that are there stay as they are.

        Raises:
            StoreUnavailable: some may be kept; repeat the call.
        """
        documents: list[Document] = [
            {
                "_id": send.id,
                **{name: getattr(send, name) for name in _FIELDS},
                "due_at": send.step_at,
                "collect_at": NEVER,
                "marked_at": EPOCH,
                "is_called": False,
                "day_slot": send.id,
            }
            for send in sends
        ]
        await patiently(lambda: insert_new(self._rows, documents))

    async def of_broadcast(self, broadcast_id: str) -> list[ArticleSend]:
        """All rows of a broadcast, by page."""
        with store_errors():
            documents = await self._rows.find({"broadcast_id": broadcast_id}).sort([("page", 1)]).to_list(None)
        return [_send(document) for document in documents]

    async def claim(self, *, owner: str, now: datetime) -> ArticleSend | None:
        """Take a row whose next step is due.

        Raises:
            StoreUnavailable: one may be claimed; it is free again after its lease.
        """
        document = await patiently(
            lambda: self._rows.find_one_and_update(
                {"state": "queued", "due_at": {"$gt": EPOCH, "$lte": now}},
                [{"$set": {"state": "calling", "owner": owner, "due_at": server_time_in(self._lease_ms)}}],
                return_document=True,
            )
        )
        return None if document is None else _send(document)

    async def mark_called(self, send: ArticleSend, *, now: datetime, day_slot: str | None = None) -> bool:
        """Note, before the call, that it is made.

        Args:
            send: in our hands.
            now: by the database's clock.
            day_slot: for a broadcast: what only one of the day may have.

        Returns:
            False if the row is somebody else's now, or the slot is taken.
        """
        changes: Document = {"is_called": True}
        if day_slot is not None:
            changes |= {"day_slot": day_slot, "marked_at": now}
        try:
            answer = await patiently(lambda: self._rows.update_one(_fence(send), {"$set": changes}))
        except DuplicateKeyError:
            return False
        return bool(answer.matched_count)

    async def record(self, send: ArticleSend, changes: Mapping[str, Any]) -> None:
        """Write down what a claim came to; what Zalo took also after the lease, since it is a proof.

        Raises:
            StoreUnavailable: repeat the call.
        """
        update: Document = {**changes, "is_called": False}
        if update["state"] in {"queued", "failed", "skipped"}:
            update |= {"day_slot": send.id, "marked_at": EPOCH}
        if update.get("collect_at", NEVER) is None:
            update["collect_at"] = NEVER
        states = ["calling", "uncertain"] if update["state"] == "sent" or "step" in update else ["calling"]
        fence = {**_fence(send), "state": {"$in": states}}
        await patiently(lambda: self._rows.update_one(fence, {"$set": update}))

    async def expire_leases(self, *, now: datetime) -> None:
        """End claims nobody recorded: what may have been called is uncertain, all else is due again."""
        over: Document = {"state": "calling", "due_at": {"$lte": now}}
        repeatable = {**over, "$or": [{"is_called": False}, {"step": "verify"}]}
        again = {"state": "queued", "is_called": False, "due_at": now}
        await patiently(lambda: self._rows.update_many(repeatable, {"$set": again}))
        unknown = {**over, "is_called": True, "step": {"$in": ["create", "broadcast"]}}
        lost = {"state": "uncertain", "reason": "send.lease_expired"}
        await patiently(lambda: self._rows.update_many(unknown, {"$set": lost}))

    async def settle(self, broadcast_id: str, page: str, *, is_sent: bool, by: str, now: datetime) -> bool:
        """A person says what became of an uncertain page: shown to its followers, or not.

        An article that is still being created is shown to nobody, so that can only be `not sent`.

        Returns:
            False if the page is not uncertain, or at a step where this cannot be.
        """
        send_id = f"{broadcast_id}:{page}"
        fate: Document = {"state": "failed", "reason": NOT_SENT, "day_slot": send_id, "marked_at": EPOCH}
        steps = ["create", "broadcast"]
        if is_sent:
            fate = {"state": "sent", "reason": None, "sent_at": now, "collect_at": next_look(now, now) or NEVER}
            steps = ["broadcast"]
        uncertain = {"_id": send_id, "state": "uncertain", "step": {"$in": steps}}
        with store_errors():
            answer = await self._rows.update_one(uncertain, {"$set": {**fate, "settled_by": by, "settled_at": now}})
        return bool(answer.modified_count)

    async def cancel(self, broadcast_id: str) -> None:
        """End what has not begun."""
        await patiently(
            lambda: self._rows.update_many(
                {"broadcast_id": broadcast_id, "state": "queued"},
                {"$set": {"state": "skipped", "reason": "broadcast.cancelled"}},
            )
        )

    async def sent_since(self, page: str, since: datetime) -> int:
        """How many article broadcasts of a page may have gone out since."""
        with store_errors():
            return await self._rows.count_documents(
                {"page": page, "marked_at": {"$gte": since}, "state": {"$in": list(COUNTED)}}
            )

    async def to_collect(self, *, now: datetime, limit: int) -> list[ArticleSend]:
        """Sent articles whose views and shares are to be looked up."""
        with store_errors():
            cursor = self._rows.find({"collect_at": {"$gt": EPOCH, "$lte": now}}).limit(limit)
            documents = await cursor.to_list(None)
        return [_send(document) for document in documents]

    async def keep_statistics(
        self, send_id: str, *, views: int | None, shares: int | None, now: datetime, next_at: datetime | None
    ) -> None:
        """Keep what Zalo counted; without numbers only when to look next."""
        found = {} if views is None else {"views": views, "shares": shares, "collected_at": now}
        changes = {**found, "collect_at": next_at or NEVER}
        await patiently(lambda: self._rows.update_one({"_id": send_id}, {"$set": changes}))


def _fence(send: ArticleSend) -> Document:
    return {"_id": send.id, "owner": send.owner, "step": send.step, "state": "calling"}


def _send(document: Document) -> ArticleSend:
    return ArticleSend(id=document["_id"], **{name: document[name] for name in _FIELDS})
