"""A notifier that works on one broadcast in a process of its own, so that a test can let it die at a crash point.

`python -m tests.unit.notifier.broadcast_child work ID` sends the broadcast until it is done, `article ID` an article,
whose views and shares are looked up then; `settle -` looks at uncertain copies; `report ECHOES` takes the echoes of a
JSON list of [user id, message id]. Everything else comes from the environment, as for the service.
"""

import asyncio
import json
import sys
from datetime import timedelta

from services.notifier.app import Rooms, build_rooms
from services.notifier.handlers.events import note_reports
from services.notifier.settings import NotifierSettings
from shared.ids import deterministic_id, text_digest
from shared.kafka import Received
from tests.factories import a_report
from tests.unit.notifier.broadcast_stage import TEXT

STEPS = 200


async def main(what: str, argument: str) -> None:
    rooms = build_rooms(NotifierSettings())
    try:
        async with rooms.opened():
            if what == "work":
                await rooms.tokens.look_after_all()
                await _work(rooms, argument)
            elif what == "article":
                await rooms.tokens.look_after_all()
                await _article(rooms, argument)
            elif what == "settle":
                await rooms.tokens.look_after_all()
                await rooms.runner.settle_open()
            else:
                await _report(rooms, json.loads(argument))
    finally:
        await rooms.store.close()


async def _work(rooms: Rooms, broadcast_id: str) -> None:
    for _ in range(STEPS):
        await rooms.runner.look()
        if await rooms.broadcasts.state_of(broadcast_id) == "done":
            return
        await rooms.runner.build_all()
        await rooms.runner.look()
        while await rooms.runner.work_once():
            pass
    raise SystemExit("not done")


async def _article(rooms: Rooms, broadcast_id: str) -> None:
    """Step by step, without Zalo's seconds and ours between the steps."""
    rows = rooms.store["article_sends"]
    for _ in range(STEPS):
        await rooms.runner.look()
        await rooms.articles.look()
        if await rooms.broadcasts.state_of(broadcast_id) == "done":
            break
        await rows.update_many({"state": "queued"}, {"$set": {"due_at": rooms.clock.now() - timedelta(seconds=1)}})
        while await rooms.articles.work_once():
            pass
    else:
        raise SystemExit("not done")
    await rows.update_many({"state": "sent"}, {"$set": {"collect_at": rooms.clock.now() - timedelta(seconds=1)}})
    await rooms.articles.collect()


async def _report(rooms: Rooms, echoes: list[tuple[str, str]]) -> None:
    reports = [
        a_report(
            event_id=deterministic_id("echo", message_id),
            user_id=user_id,
            message_ids=(message_id,),
            text_sha256=text_digest(TEXT),
            reported_at=rooms.clock.now(),
        )
        for user_id, message_id in echoes
    ]
    await note_reports([Received(report, 0, 0) for report in reports], rooms.deps)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
