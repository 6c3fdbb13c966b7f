"""Leases: a thing that only one replica may do at a time, judged by the database's clock alone."""

import os
import secrets
import socket
from datetime import UTC, datetime

from shared.mongo import Store, insert_new, store_errors

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Lease:
    """One named lease in the `leases` collection, as one process sees it."""

    def __init__(self, store: Store, name: str, *, seconds: float) -> None:
        self._collection = store["leases"]
        self._name = name
        self._milliseconds = int(seconds * 1000)
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._exists = False

    async def acquire(self) -> bool:
        """Take the lease, or renew it, for its full length from now.

        Returns:
            Whether this process has it.

        Raises:
            StoreUnavailable: cannot tell; act as if another process had it.
        """
        if not self._exists:
            await insert_new(self._collection, [{"_id": self._name, "owner": "", "until": _NEVER}])
            self._exists = True
        # Decided inside the update, which never matches nothing: no upsert, and `until` is compared with the
        # server's own clock, since the clocks of replicas differ.
        is_mine = {"$or": [{"$eq": ["$owner", self._owner]}, {"$lt": ["$until", "$$NOW"]}]}
        update = {
            "$set": {
                "owner": {"$cond": [is_mine, self._owner, "$owner"]},
                "until": {"$cond": [is_mine, {"$add": ["$$NOW", self._milliseconds]}, "$until"]},
            }
        }
        with store_errors():
            after = await self._collection.find_one_and_update({"_id": self._name}, [update], return_document=True)
        if after is None:  # somebody emptied the collection
            self._exists = False
            return False
        return bool(after["owner"] == self._owner)

    async def release(self) -> None:
        """Give it back, if it is ours.

        Raises:
            StoreUnavailable: it ends by itself.
        """
        with store_errors():
            await self._collection.update_one(
                {"_id": self._name, "owner": self._owner}, {"$set": {"owner": "", "until": _NEVER}}
            )
