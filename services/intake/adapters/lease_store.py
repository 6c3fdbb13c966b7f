"""Leases: a thing that only one replica may do at a time, judged by the database's clock alone."""

import os
import secrets
import socket
from datetime import UTC, datetime
from typing import Any

from shared.mongo import Store, insert_new, server_time_in, store_errors

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Lease:
    """One named lease in the `leases` collection, as one process sees it."""

    def __init__(self, store: Store, name: str, *, seconds: float) -> None:
        self._store = store
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
        with store_errors():
            renewed = await self._collection.update_one(
                {"_id": self._name, "owner": self._owner}, [{"$set": {"until": self._end()}}]
            )
            if renewed.matched_count:
                return True
            # Over by the server's clock, asked a moment ago: it can only have gone on since.
            now = await self._store.server_now()
            taken = await self._collection.update_one(
                {"_id": self._name, "until": {"$lt": now}}, [{"$set": {"owner": self._owner, "until": self._end()}}]
            )
            if taken.matched_count:
                return True
            self._exists = await self._collection.find_one({"_id": self._name}) is not None
        return False

    def _end(self) -> dict[str, Any]:
        return server_time_in(self._milliseconds)

    async def release(self) -> None:
        """Give it back, if it is ours.

        Raises:
            StoreUnavailable: it ends by itself.
        """
        with store_errors():
            await self._collection.update_one(
                {"_id": self._name, "owner": self._owner}, {"$set": {"owner": "", "until": _NEVER}}
            )
