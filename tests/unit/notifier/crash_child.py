"""A notifier without Kafka in a process of its own, so that a test can let it die at a crash point.

`python -m tests.unit.notifier.crash_child send|report|sweep|link NAME` queues the reply NAME (or takes its echo, sweeps
once, links the page) and works until nothing is left to do; everything else comes from the environment, as for the
service.
"""

import asyncio
import sys

from services.notifier.adapters.token_store import TokenStore
from services.notifier.app import Rooms, build_rooms
from services.notifier.handlers.events import note_reports, queue_replies
from services.notifier.handlers.link_page import link_page
from services.notifier.settings import NotifierSettings
from shared.events import ReplyContent
from shared.ids import deterministic_id, text_digest
from shared.kafka import Received
from shared.zalo_config import load_zalo_config
from tests.factories import a_reply, a_report

IDLE_SECONDS = 0.2


async def main(what: str, name: str) -> None:
    rooms = build_rooms(NotifierSettings())
    try:
        async with rooms.opened():
            await rooms.tokens.look_after_all()
            running = [asyncio.create_task(work()) for work in (rooms.sender.run, rooms.sender.sweep)]
            await _do(rooms, what, name)
            await _until_idle(rooms)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
    finally:
        await rooms.store.close()


async def _do(rooms: Rooms, what: str, name: str) -> None:
    now = rooms.clock.now()
    if what == "send":
        reply = a_reply(event_id=deterministic_id(name), content=ReplyContent(text=name), interaction_at=now)
        await queue_replies([Received(reply, 0, 0)], rooms.deps)
    elif what == "link":
        tokens = TokenStore(rooms.store, keys=NotifierSettings().encryption_keys())
        await link_page(load_zalo_config(None).pages[0], "code", "verifier", tokens, rooms.zalo)
    elif what == "sweep":
        await rooms.sender.sweep_once()
    elif what == "report":
        echo = a_report(
            event_id=deterministic_id("echo", name),
            message_ids=("zalo-1",),
            text_sha256=text_digest(name),
            reported_at=now,
        )
        await note_reports([Received(echo, 0, 0)], rooms.deps)


async def _until_idle(rooms: Rooms) -> None:
    """Until nothing was due, in flight or being sent for a while."""
    idle_since = None
    while True:
        await asyncio.sleep(0.02)
        counts = await rooms.ledger.counts()
        is_idle = rooms.sender.in_flight == 0 and not counts["queued"] and not counts["sending"]
        now = asyncio.get_running_loop().time()
        idle_since = (idle_since or now) if is_idle else None
        if idle_since is not None and now - idle_since > IDLE_SECONDS:
            return


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
