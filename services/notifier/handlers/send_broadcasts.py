"""Running broadcasts: they start, their audience is fixed, their chunks are sent by workers, and they finish.

Any number of replicas may run this side by side. Building, starting and finishing repeat harmlessly; a chunk has one
owner at a time under a lease; and a person's row is inserted before the call, which only one can do.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Literal

from services.notifier.domain.broadcast import Broadcast, BroadcastState, NotAllowed, act
from services.notifier.domain.copies import Skip, undecided
from services.notifier.domain.rulebook import Rulebook
from services.notifier.handlers.build_audience import AudienceBuilder
from services.notifier.handlers.send_copies import STORE_PAUSE_SECONDS, BroadcastAdapters, BroadcastLimits, ChunkSender
from services.notifier.handlers.settle import Settlement
from shared.crash import crash_point
from shared.errors import StoreUnavailable
from shared.telemetry import get_logger

log = get_logger()

SCHEDULER = "scheduler"
RUNNING: frozenset[BroadcastState] = frozenset({"running"})
SETTLE_SECONDS, RECOUNT_SECONDS = 2.0, 30.0
FAULT_PAUSE_SECONDS = 5.0


class BroadcastRunner:
    """Starts, builds, sends and finishes broadcasts until it is stopped.

    Args:
        outside: the adapters.
        settlement: settles copies that became uncertain.
        rulebook: all rules.
        app_by_oa: which app each of our pages belongs to.
        limits: workers, waves and waits.
    """

    def __init__(
        self,
        outside: BroadcastAdapters,
        settlement: Settlement,
        rulebook: Rulebook,
        app_by_oa: Mapping[str, str],
        limits: BroadcastLimits,
    ) -> None:
        self._outside = outside
        self._copies = outside.copies
        self._settlement = settlement
        self.rulebook = rulebook
        self._limits = limits
        self._builder = AudienceBuilder(
            outside.broadcasts,
            outside.copies,
            outside.audience,
            rulebook,
            outside.clock,
            chunk_persons=limits.chunk_persons,
        )
        self._sender = ChunkSender(outside, settlement, rulebook, app_by_oa, limits)
        self._instance = secrets.token_hex(6)
        self._claims = 0
        self._running: list[Broadcast] = []
        self._wake = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Copies marked and not recorded yet."""
        return self._sender.in_flight

    # The loops

    async def run(self) -> None:
        """Work until cancelled; then finish the waves that are under way."""
        self._sender.is_stopping = False
        workers = [asyncio.create_task(self._work_on()) for _ in range(self._limits.workers)]
        poll_seconds = self._limits.poll_seconds
        others = [
            asyncio.create_task(self._repeat(step, seconds))
            for step, seconds in (
                (self.look, poll_seconds),
                (self.build_all, poll_seconds),
                (self.settle_open, SETTLE_SECONDS),
                (self.see_open_chunks, SETTLE_SECONDS),
                (self.recount_open, RECOUNT_SECONDS),
            )
        ]
        try:
            await asyncio.gather(*workers, *others)
        finally:
            self._sender.is_stopping = True
            for task in others:
                task.cancel()
            await asyncio.wait(workers, timeout=self._limits.stop_seconds)
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, *others, return_exceptions=True)

    @staticmethod
    async def _repeat(step: Callable[[], Awaitable[object]], seconds: float) -> None:
        while True:
            try:
                await step()
            except StoreUnavailable as error:
                log.warning("broadcasts.waiting", error=str(error))
            except Exception as error:  # a fault in one broadcast must not end the process that sends the replies
                log.exception("broadcasts.fault", error=type(error).__name__)
                await asyncio.sleep(FAULT_PAUSE_SECONDS)
            await asyncio.sleep(seconds)

    async def _work_on(self) -> None:
        while not self._sender.is_stopping:
            try:
                worked = await self.work_once()
            except StoreUnavailable as error:
                log.warning("broadcasts.waiting", error=str(error))
                worked = False
                await asyncio.sleep(STORE_PAUSE_SECONDS)
            except Exception as error:  # its chunk goes on when the lease is over; other chunks meanwhile
                log.exception("chunk.fault", error=type(error).__name__)
                worked = False
                await asyncio.sleep(FAULT_PAUSE_SECONDS)
            if not worked:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._limits.poll_seconds):
                        await self._wake.wait()
                self._wake.clear()

    # The life of a broadcast

    async def look(self) -> None:
        """Start what is due, see what runs, finish what is done.

        Raises:
            StoreUnavailable: repeat it.
        """
        now = self._outside.clock.now()
        for broadcast_id in await self._outside.broadcasts.due(now):
            await self._act(broadcast_id, "start")
        running = [one for one in await self._outside.broadcasts.every(RUNNING) if not _is_article(one)]
        for broadcast in running:
            if broadcast.snapshot.is_complete and await self._copies.next_due(broadcast.id) is None:
                crash_point("notifier.broadcast.before_finish")
                await self._act(broadcast.id, "finish")
        # The oldest first: a broadcast is not overtaken for ever by newer ones.
        self._running = sorted(running, key=lambda one: (not one.draft.is_emergency, one.started_at or now))
        self._wake.set()

    async def _act(self, broadcast_id: str, action: Literal["start", "finish", "reopen"]) -> None:
        """Do one thing as the scheduler, over whatever version there is; another replica may have done it."""
        broadcast = await self._outside.broadcasts.read(broadcast_id)
        if broadcast is None:
            return
        done = act(broadcast, action, by=SCHEDULER, at=self._outside.clock.now())
        if not isinstance(done, NotAllowed) and await self._outside.broadcasts.save(done):
            log.info("broadcast.moved", broadcast=broadcast_id, state=done.state, people=done.snapshot.people)

    async def see_open_chunks(self) -> None:
        """Let the counts of cancelled broadcasts add up to their audience, and go on with one that has a copy to send.

        That happens when Zalo turns out not to have a copy that was uncertain when everything else was done.

        Raises:
            StoreUnavailable: repeat it.
        """
        for broadcast_id in await self._copies.with_open_chunks():
            match await self._outside.broadcasts.state_of(broadcast_id):
                case "cancelled":
                    await self._end_cancelled(broadcast_id)
                case "done":
                    await self._act(broadcast_id, "reopen")

    async def _end_cancelled(self, broadcast_id: str) -> None:
        while (chunk := await self._copies.claim_chunk(broadcast_id, owner=self._owner())) is not None:
            rows = {row.person: row for row in await self._copies.rows_of(chunk)}
            skips = [Skip(person, None, None, "broadcast.cancelled") for person in undecided(chunk, rows)]
            await self._copies.skip(chunk, skips, now=self._outside.clock.now())
            await self._copies.release(chunk, due_at=None)

    async def build_all(self) -> None:
        """Fix the audience of every broadcast that runs and has none.

        Raises:
            StoreUnavailable: repeat it.
        """
        for broadcast in self._running:
            if not broadcast.snapshot.is_complete:
                await self._builder.build(broadcast)

    # Work

    def _owner(self) -> str:
        self._claims += 1
        return f"{self._instance}-{self._claims}"

    async def work_once(self) -> bool:
        """Take one chunk of what runs and send it as far as it may go now.

        A chunk in which everybody only waits lets the next broadcast go too: what they wait for may be a copy which
        that one holds, left behind by a worker that died.

        Returns:
            False if there is nothing to do now.

        Raises:
            StoreUnavailable: the chunk goes on when its lease is over.
        """
        worked = False
        for broadcast in self._running:
            if (
                not broadcast.snapshot.is_complete
                or self.rulebook.quiet_until(broadcast.draft, self._outside.clock.now()) is not None
            ):
                continue
            chunk = await self._copies.claim_chunk(broadcast.id, owner=self._owner())
            if chunk is None:
                continue
            claimed_at = time.monotonic()
            crash_point("notifier.broadcast.after_chunk_claim")
            worked = True
            if await self._sender.send(broadcast, chunk, claimed_at=claimed_at):
                break
        return worked

    # Settling

    async def settle_open(self) -> None:
        """Look again at uncertain copies that are due.

        Raises:
            StoreUnavailable: repeat it.
        """
        await self._settlement.check_uncertain()

    async def recount_open(self) -> None:
        """Count done chunks again that look unfinished: who settled their copies may have died before counting.

        Raises:
            StoreUnavailable: repeat it.
        """
        await self._copies.recount_unsettled()


def _is_article(broadcast: Broadcast) -> bool:
    return broadcast.draft.content.article is not None
