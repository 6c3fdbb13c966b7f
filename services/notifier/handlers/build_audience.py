"""Fixing a broadcast's audience: everybody whom it means is put into chunks, slice after slice, in the memory of one.

Any number of replicas may build side by side: a slice is a function of its number, and a chunk that is there stays.
"""

import asyncio
import secrets
import time
from collections import deque

from services.notifier.domain.audience import Terms
from services.notifier.domain.broadcast import Broadcast, Snapshot
from services.notifier.domain.copies import NewChunk, Slice, audience_digest, slice_count, slice_of
from services.notifier.domain.rulebook import Rulebook
from services.notifier.handlers.ports import AudienceReader, Broadcasts, Clock, Copies
from shared.crash import crash_point
from shared.telemetry import get_logger

log = get_logger()

CHUNKS_AT_ONCE = 10
"""Chunks kept with one write; between two writes the builder looks whether it should go on."""


class AudienceBuilder:
    """Builds the audiences of running broadcasts.

    Args:
        broadcasts: the broadcasts themselves.
        copies: the recipient ledger.
        audience: the contacts.
        rulebook: who is meant at a moment.
        clock: the database's.
        chunk_persons: people of one chunk on average.
    """

    def __init__(
        self,
        broadcasts: Broadcasts,
        copies: Copies,
        audience: AudienceReader,
        rulebook: Rulebook,
        clock: Clock,
        *,
        chunk_persons: int,
    ) -> None:
        self._broadcasts = broadcasts
        self._copies = copies
        self._audience = audience
        self._rulebook = rulebook
        self._clock = clock
        self._chunk_persons = chunk_persons

    async def build(self, broadcast: Broadcast) -> Snapshot | None:
        """Put everybody whom the audience means into chunks, slice after slice, in the memory of one.

        Several builders may share the work; each begins somewhere else and leaves out what is there.

        Returns:
            The complete snapshot; None if the broadcast is no longer running.

        Raises:
            StoreUnavailable: what is built stays; repeat it.
        """
        started = time.monotonic()
        contacts = await self._audience.size()
        expected = broadcast.preview.forecast.people if broadcast.preview is not None else 0
        count = await self._copies.agree_on_slices(
            broadcast.id,
            slice_count(contacts=contacts, expected=expected, persons=self._chunk_persons),
        )
        there = await self._copies.built(broadcast.id)
        offset = secrets.randbelow(count) if there else 0
        missing = deque(n for n in ((offset + k) % count for k in range(count)) if n not in there)
        terms = self._rulebook.terms(broadcast.draft, broadcast.started_at or self._clock.now())
        while missing:
            if await self._broadcasts.state_of(broadcast.id) != "running":
                return None
            numbers = [missing.popleft() for _ in range(min(CHUNKS_AT_ONCE, len(missing)))]
            chunks = await asyncio.gather(*(self._chunk_of(broadcast.id, slice_of(n, count), terms) for n in numbers))
            await self._copies.add_chunks(chunks)
            if missing and missing[0] % (CHUNKS_AT_ONCE * 5) < CHUNKS_AT_ONCE:
                there = await self._copies.built(broadcast.id)
                missing = deque(number for number in missing if number not in there)
        there = await self._copies.built(broadcast.id)
        snapshot = Snapshot(
            people=sum(people for people, _ in there.values()),
            chunks=count,
            digest=audience_digest(digest for _, (_, digest) in sorted(there.items())),
            is_complete=True,
        )
        crash_point("notifier.broadcast.before_snapshot")
        await self._broadcasts.keep_snapshot(broadcast.id, snapshot)
        crash_point("notifier.broadcast.after_snapshot")
        seconds = round(time.monotonic() - started, 3)
        log.info("broadcast.built", broadcast=broadcast.id, people=snapshot.people, chunks=count, seconds=seconds)
        return snapshot

    async def _chunk_of(self, broadcast_id: str, part: Slice, terms: Terms) -> NewChunk:
        persons = await self._audience.meant_in_slice(part.first, part.end, terms)
        return NewChunk(broadcast_id, part, tuple(persons))
