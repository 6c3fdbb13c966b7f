"""Rate limits shared by all replicas: one token bucket in MongoDB for each page and each app.

Dividing a limit by the number of replicas breaks on every scaling, so replicas take tokens from one document, by the
database's clock. A block (`-32`, HTTP 429) is in the same document, so one refused call stops every replica.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.mongo import Document, Store, insert_new, patiently

_NOW_MS = {"$toLong": "$$NOW"}  # the database's clock, as a number that any arithmetic takes
BURST_SECONDS = 0.4
"""A bucket holds so many seconds' worth. What it may hand out at once has to be kept free in every minute, and a
quarter more for calls that a busy machine delays: 0.83 % of the limit. With less, a pause of the loop costs more."""
RESERVED_SHARE = 0.25
"""Of a bucket, left for replies by whoever sends in bulk."""
LEFTOVER_SECONDS = 1.0
"""Tokens that were taken and not used may be used this long."""


@dataclass(frozen=True)
class Grant:
    """What a bucket gave.

    Attributes:
        tokens: calls that may be made now.
        blocked_until: end of the block, by the database's clock; None where there is none.
        wait_seconds: when the next token is there, if fewer than asked for were given.
    """

    tokens: int
    blocked_until: datetime | None
    wait_seconds: float


def page_bucket(oa_id: str) -> str:
    """Id of a page's bucket."""
    return f"page:{oa_id}"


def app_bucket(app_id: str) -> str:
    """Id of an app's bucket."""
    return f"app:{app_id}"


class RateBuckets:
    """The `rate_buckets` collection.

    Args:
        store: the database.
        calls_per_minute: by bucket id.
    """

    def __init__(self, store: Store, *, calls_per_minute: dict[str, int]) -> None:
        self._buckets = store["rate_buckets"]
        self._limits = calls_per_minute
        self._leftovers: dict[str, tuple[int, float]] = {}

    async def create(self) -> None:
        """Make the documents that are missing, full; safe to repeat."""
        documents: list[Document] = [
            {"_id": bucket_id, "tokens": self._capacity(bucket_id), "at_ms": 0, "blocked_until_ms": 0, "granted": 0}
            for bucket_id in self._limits
        ]
        await patiently(lambda: insert_new(self._buckets, documents))

    def _capacity(self, bucket_id: str) -> float:
        """A burst's worth, and one call at least."""
        return max(1.0, self._limits[bucket_id] / 60 * BURST_SECONDS)

    def _tokens_per_ms(self, bucket_id: str) -> float:
        # Bucket and refill together stay within the limit in any minute.
        free = 1.25 * self._capacity(bucket_id)
        return max(self._limits[bucket_id] - free, self._limits[bucket_id] / 2) / 60_000

    async def take(self, bucket_id: str, wanted: int, *, reserved_share: float = 0.0) -> Grant:
        """Take up to `wanted` tokens.

        Args:
            bucket_id: of a page or an app.
            wanted: calls.
            reserved_share: of the full bucket, not to be touched: bulk leaves `RESERVED_SHARE` to replies.

        Raises:
            StoreUnavailable: tokens may be taken and lost; that only slows us down.
        """
        if bucket_id not in self._limits:  # its page is no longer configured: sending it fails with that reason
            return Grant(wanted, None, 0.0)
        leftover, valid_until = self._leftovers.pop(bucket_id, (0, 0.0))
        if leftover and valid_until > time.monotonic():
            if leftover >= wanted:
                self._leftovers[bucket_id] = (leftover - wanted, valid_until)
                return Grant(wanted, None, 0.0)
        else:
            leftover = 0
        missing = wanted - leftover
        capacity = self._capacity(bucket_id)
        reserved = min(capacity * reserved_share, capacity - 1)  # the last call of a small bucket is anybody's
        document = await patiently(lambda: self._take(bucket_id, missing, reserved), waits_seconds=(0.1,))
        if document is None:
            await self.create()
            return Grant(leftover, None, 0.1)
        granted = int(document["granted"])
        is_blocked = document["blocked_until_ms"] > document["at_ms"]
        blocked_until = datetime.fromtimestamp(document["blocked_until_ms"] / 1_000, UTC) if is_blocked else None
        short = max(0.0, 1.0 + reserved - float(document["tokens"])) if granted < missing else 0.0
        return Grant(leftover + granted, blocked_until, short / self._tokens_per_ms(bucket_id) / 1_000)

    async def _take(self, bucket_id: str, wanted: int, reserved: float) -> Document | None:
        elapsed_ms: dict[str, Any] = {"$max": [0, {"$subtract": [_NOW_MS, "$at_ms"]}]}
        # An update that waited for another one has an older `$$NOW`: going back would count that time twice.
        latest = {"$max": [_NOW_MS, "$at_ms"]}
        filled = {"$add": ["$tokens", {"$multiply": [elapsed_ms, self._tokens_per_ms(bucket_id)]}]}
        return await self._buckets.find_one_and_update(
            {"_id": bucket_id},
            [
                {"$set": {"tokens": {"$min": [self._capacity(bucket_id), filled]}, "at_ms": latest}},
                {
                    "$set": {
                        "granted": {
                            "$cond": [
                                {"$gt": ["$blocked_until_ms", "$at_ms"]},
                                0,
                                {"$max": [0, {"$min": [wanted, {"$floor": {"$subtract": ["$tokens", reserved]}}]}]},
                            ]
                        }
                    }
                },
                {"$set": {"tokens": {"$subtract": ["$tokens", "$granted"]}}},
            ],
            return_document=True,
        )

    def give_back(self, bucket_id: str, unused: int) -> None:
        """Keep tokens that were taken and not used for this replica's next calls."""
        if unused > 0:
            kept, _ = self._leftovers.get(bucket_id, (0, 0.0))
            self._leftovers[bucket_id] = (kept + unused, time.monotonic() + LEFTOVER_SECONDS)

    async def block(self, bucket_ids: Iterable[str], *, seconds: float) -> None:
        """Stop all calls of these buckets, on every replica, for this long from now; a longer block stays."""
        wait_ms = int(seconds * 1_000)
        for bucket_id in bucket_ids:
            self._leftovers.pop(bucket_id, None)
            await patiently(
                lambda bucket_id=bucket_id: self._buckets.update_one(  # type: ignore[misc]
                    {"_id": bucket_id},
                    [{"$set": {"blocked_until_ms": {"$max": ["$blocked_until_ms", {"$add": [_NOW_MS, wait_ms]}]}}}],
                )
            )
