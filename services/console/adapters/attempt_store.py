"""How often somebody tried to sign in: one small document a key, counted with the database's own clock."""

from datetime import UTC, datetime

from shared.mongo import Store, patiently, server_time_in, store_errors


class AttemptStore:
    """The `sign_in_attempts` collection, shared by all replicas."""

    def __init__(self, store: Store, *, window_seconds: int) -> None:
        self._attempts = store["sign_in_attempts"]
        self._window_ms = window_seconds * 1_000

    async def count(self, key: str) -> tuple[int, int]:
        """Count one more attempt and say how many there are in the window.

        Returns:
            Attempts so far, this one included, and the seconds until the window ends.

        Raises:
            StoreUnavailable: not counted; nobody may sign in uncounted.
        """
        # As numbers: not every server compares its clock with a stored date.
        is_running = {"$gt": [{"$toLong": "$window_ends_at"}, {"$toLong": "$$NOW"}]}
        step = {
            "attempts": {"$cond": [is_running, {"$add": [{"$ifNull": ["$attempts", 0]}, 1]}, 1]},
            "window_ends_at": {"$cond": [is_running, "$window_ends_at", server_time_in(self._window_ms)]},
        }
        # Repeated after an outage it may count twice, which errs on the safe side.
        await patiently(lambda: self._attempts.update_one({"_id": key}, [{"$set": step}], upsert=True))
        with store_errors():
            document = await self._attempts.find_one({"_id": key})
        if document is None:  # the window ended and was cleaned up in between
            return 1, 0
        left = (document["window_ends_at"] - datetime.now(UTC)).total_seconds()
        return int(document["attempts"]), max(1, int(left) + 1)

    async def forget(self, keys: list[str]) -> None:
        """Start afresh after a sign-in that worked."""
        await patiently(lambda: self._attempts.delete_many({"_id": {"$in": keys}}))
