"""Marks on claims whose call is about to leave, several in one write.

Between a claim and its call lie the token, the limits and the event loop. The mark, written right before the call,
tells a claim that was never called from one of which nobody knows; marks that are asked for in the same turn of the
event loop share a write, so that a reply costs a fraction of one more.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from services.notifier.domain.reply import Reply
from services.notifier.handlers.ports import Ledger

Waiting = tuple[Reply, asyncio.Future[bool]]


class CallMarks:
    """Marks claims as called.

    Args:
        ledger: the send ledger.
        most_at_once: marks in one write: so many calls wait for one answer of the database, and so many marked
            replies without a call can a kill in this moment leave behind.
    """

    def __init__(self, ledger: Ledger, *, most_at_once: int = 8) -> None:
        self._ledger = ledger
        self._most_at_once = most_at_once
        self._waiting: list[Waiting] = []
        self._writes: set[asyncio.Task[None]] = set()

    async def mark(self, reply: Reply) -> bool:
        """Mark a claim before its call.

        Returns:
            Whether the call may be made; if not, the claim is somebody else's by now.

        Raises:
            StoreUnavailable: the mark may be written; make no call.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting.append((reply, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._write_waiting)
        return await future

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        by_owner: dict[str, list[Waiting]] = defaultdict(list)
        for one in waiting:
            by_owner[one[0].owner].append(one)
        for owner, theirs in by_owner.items():
            for start in range(0, len(theirs), self._most_at_once):
                write = asyncio.create_task(self._write(owner, theirs[start : start + self._most_at_once]))
                self._writes.add(write)
                write.add_done_callback(self._writes.discard)

    async def _write(self, owner: str, waiting: Sequence[Waiting]) -> None:
        try:
            marked = await self._ledger.mark_called([reply.id for reply, _ in waiting], owner=owner)
        except BaseException as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for reply, future in waiting:
            if not future.done():  # its sender was stopped meanwhile
                future.set_result(reply.id in marked)
