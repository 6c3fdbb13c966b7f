"""What people decide about replies in the send ledger: the fate of an uncertain one, and another try for failed ones.

Every decision is kept on its reply with who made it, when and why. Fenced with the state, so that a proof that comes
at the same moment wins or loses as a whole.
"""

from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Any

from services.notifier.adapters.reply_ledger import KEPT_ATTEMPTS
from services.notifier.domain.settlement import NOT_SENT
from shared.mongo import Document, Store, patiently, store_errors

REQUEUE_BATCH = 500


class ReplyDecisions:
    """The `reply_ledger` collection, for people.

    Args:
        store: the database.
        by: who decides.
    """

    def __init__(self, store: Store, *, by: str) -> None:
        self._rows = store["reply_ledger"]
        self._by = by

    def _decision(self, action: str, reason: str, now: datetime) -> Document:
        decision = {"at": now, "by": self._by, "action": action, "reason": reason}
        return {"decisions": {"$each": [decision], "$slice": -KEPT_ATTEMPTS}}

    async def settle(self, reply_id: str, *, is_sent: bool, reason: str, now: datetime) -> bool:
        """Say what became of an uncertain reply: `sent`, or `failed` because Zalo does not have it.

        Returns:
            False if it is not uncertain (any more).

        Raises:
            StoreUnavailable: repeat the call; a second decision of the same kind finds it settled.
        """
        fate: Document = {"state": "sent", "sent_at": now} if is_sent else {"state": "failed", "reason": NOT_SENT}
        with store_errors():
            answer = await self._rows.update_one(
                {"_id": reply_id, "state": "uncertain"},
                {
                    "$set": {**fate, "settled_by": "person", "finished_at": now},
                    "$push": self._decision("sent" if is_sent else "not_sent", reason, now),
                },
            )
        return bool(answer.modified_count)

    async def failed(
        self, *, since: datetime, reasons: Collection[str] = (), ids: Collection[str] = ()
    ) -> tuple[list[str], dict[str, int]]:
        """Find failed replies that can be tried again.

        Left out are those whose page is not ours and those whose text was erased: there is nothing to send.

        Returns:
            Their ids, the oldest first, and how many there are of each reason.
        """
        query: Document = {
            "state": "failed",
            "requested_at": {"$gte": since},
            "app_id": {"$ne": None},
            "erased_at": None,
        }
        if reasons:
            query["reason"] = {"$in": sorted(reasons)}
        if ids:
            query["_id"] = {"$in": sorted(ids)}
        with store_errors():
            documents = await self._rows.find(query, {"reason": 1, "requested_at": 1}).to_list(None)
        documents.sort(key=lambda document: document["requested_at"])
        counts: dict[str, int] = {}
        for document in documents:
            counts[document["reason"]] = counts.get(document["reason"], 0) + 1
        return [document["_id"] for document in documents], dict(sorted(counts.items()))

    async def requeue(self, ids: Collection[str], *, reason: str, now: datetime) -> None:
        """Give failed replies a fresh start; what may not be sent at that moment fails again with its reason.

        Raises:
            StoreUnavailable: some are queued; repeat the call.
        """
        change: dict[str, Any] = {
            "$set": {"state": "queued", "due_at": now, "failures": 0, "held_by": None, "finished_at": None},
            "$push": self._decision("requeued", reason, now),
        }
        wanted = list(ids)
        for start in range(0, len(wanted), REQUEUE_BATCH):
            failed = {"_id": {"$in": wanted[start : start + REQUEUE_BATCH]}, "state": "failed"}
            await patiently(partial(self._rows.update_many, failed, change))
