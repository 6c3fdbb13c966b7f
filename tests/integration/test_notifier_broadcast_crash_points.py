"""A replica dies between any two effects of a broadcast; the next one goes on, and nobody gets two copies.

*What must hold*: each follower has at most one copy; the states add up to the audience; whoever got a copy ends as
`sent`, by the answer or by the echo; only those whom the dead replica had in its hands may stay `uncertain`.
*How we break it*: the process exits with 137 at a labelled place, on a real database.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from shared.crash import KILLED
from shared.ids import citizen_key
from tests.factories import OA_ID
from tests.unit.notifier.broadcast_stage import KEY, STOPPED, Stage, a_stage, user_id
from tests.unit.notifier.child import run_child

PEOPLE, WAVE = 30, 5


@pytest.fixture
async def stage(mongo_uri: str, tmp_path: Path) -> AsyncIterator[Stage]:
    async with a_stage(mongo_uri, tmp_path) as one:
        await one.followers(PEOPLE)
        opted_out = {"_id": citizen_key(OA_ID, user_id(0))}
        await one.store["contacts"].update_one(opted_out, {"$set": {"choices": STOPPED}})
        await one.schedule("b1", people=PEOPLE)
        yield one


async def run(stage: Stage, mongo_uri: str, folder: Path, *arguments: str, crash_at: str = "") -> int:
    """Run a notifier until it is done or dead; returns its exit code."""
    environment = {
        "MONGO_URI": mongo_uri,
        "MONGO_DATABASE": stage.store["any"].database.name,  # type: ignore[attr-defined]
        "TOKEN_ENCRYPTION_KEY": KEY,
        "ZALO_CONFIG_FILE": str(folder / "zalo.yaml"),
        "BROADCAST_CHUNK_PERSONS": "10",
        "BROADCAST_WAVE": str(WAVE),
    }
    return await run_child(
        "tests.unit.notifier.broadcast_child", *arguments, environment=environment, crash_at=crash_at
    )


async def let_leases_end(stage: Stage) -> None:
    """What time does: the dead replica's chunks are free."""
    past = stage.rooms.clock.now() - timedelta(minutes=1)
    await stage.store["broadcast_chunks"].update_many({"state": "open"}, {"$set": {"due_at": past}})


@pytest.mark.parametrize(
    ("label", "in_hand"),
    [
        ("notifier.broadcast.after_chunks_added", 0),
        ("notifier.broadcast.before_snapshot", 0),
        ("notifier.broadcast.after_snapshot", 0),
        ("notifier.broadcast.after_chunk_claim", 0),
        ("notifier.broadcast.after_skip", 0),
        ("notifier.broadcast.after_mark", WAVE),  # marked and never called: nobody can know that
        ("notifier.broadcast.after_call", 0),  # the echoes tell
        ("notifier.broadcast.before_record", 0),
        ("notifier.broadcast.after_record", 0),
        ("notifier.broadcast.before_release", 0),
        ("notifier.broadcast.after_release", 0),
        ("notifier.broadcast.before_finish", 0),
    ],
)
async def test_after_a_death_the_broadcast_is_finished_and_nobody_gets_two_copies(
    stage: Stage, mongo_uri: str, tmp_path: Path, label: str, in_hand: int
) -> None:
    assert await run(stage, mongo_uri, tmp_path, "work", "b1", crash_at=label) == KILLED
    await let_leases_end(stage)
    assert await run(stage, mongo_uri, tmp_path, "work", "b1") == 0

    assert set(stage.copies.values()) == {1}
    assert len(stage.copies) == PEOPLE - 1 - in_hand
    echoes = json.dumps([[call.user_id, call.message_id] for call in stage.stub.applied])
    assert await run(stage, mongo_uri, tmp_path, "report", echoes) == 0
    progress = await stage.rooms.copies.progress("b1")
    assert {state: count for state, count in progress.states.items() if count} == {
        "sent": PEOPLE - 1 - in_hand,
        "skipped": 1,
    } | ({"uncertain": in_hand} if in_hand else {})
    assert progress.people == PEOPLE


async def test_who_takes_a_chunk_over_may_die_before_it_says_what_is_uncertain(
    stage: Stage, mongo_uri: str, tmp_path: Path
) -> None:
    for label in ("notifier.broadcast.after_call", "notifier.broadcast.before_takeover"):
        assert await run(stage, mongo_uri, tmp_path, "work", "b1", crash_at=label) == KILLED
        await let_leases_end(stage)
    assert await run(stage, mongo_uri, tmp_path, "work", "b1") == 0

    assert await stage.states("b1") == {"sent": PEOPLE - 1 - WAVE, "uncertain": WAVE, "skipped": 1}
    assert set(stage.copies.values()) == {1}
    assert len(stage.copies) == PEOPLE - 1


@pytest.mark.parametrize("label", ["notifier.broadcast.before_settle", "notifier.broadcast.after_settle"])
async def test_after_a_death_while_echoes_are_taken_the_copies_are_settled_and_counted(
    stage: Stage, mongo_uri: str, tmp_path: Path, label: str
) -> None:
    await run(stage, mongo_uri, tmp_path, "work", "b1", crash_at="notifier.broadcast.after_call")
    await let_leases_end(stage)
    await run(stage, mongo_uri, tmp_path, "work", "b1")
    echoes = json.dumps([[call.user_id, call.message_id] for call in stage.stub.applied])

    assert await run(stage, mongo_uri, tmp_path, "report", echoes, crash_at=label) == KILLED
    assert await run(stage, mongo_uri, tmp_path, "report", echoes) == 0  # Kafka redelivers
    await stage.rooms.runner.recount_open()

    progress = await stage.rooms.copies.progress("b1")
    assert (progress.states["sent"], progress.states["uncertain"]) == (PEOPLE - 1, 0)
    assert await stage.states("b1") == {"sent": PEOPLE - 1, "skipped": 1}


async def test_copies_that_were_marked_and_never_called_are_sent_when_zalos_list_proves_it(
    stage: Stage, mongo_uri: str, tmp_path: Path
) -> None:
    await run(stage, mongo_uri, tmp_path, "work", "b1", crash_at="notifier.broadcast.after_mark")
    await let_leases_end(stage)
    await run(stage, mongo_uri, tmp_path, "work", "b1")
    assert (await stage.states("b1"))["uncertain"] == WAVE
    long_ago = stage.rooms.clock.now() - timedelta(hours=3)
    uncertain = {"state": "uncertain"}
    await stage.store["recipients"].update_many(uncertain, {"$set": {"marked_at": long_ago, "due_at": long_ago}})

    assert await run(stage, mongo_uri, tmp_path, "settle", "-", crash_at="notifier.broadcast.after_not_taken") == KILLED
    async with asyncio.timeout(60):
        # The dead one took calls from the shared limit that it never made: a look may have to wait for the next ones.
        while await stage.store["recipients"].count_documents(uncertain):
            await stage.store["recipients"].update_many(uncertain, {"$set": {"due_at": long_ago}})
            await stage.rooms.runner.settle_open()
            await asyncio.sleep(0.05)
    await stage.rooms.runner.recount_open()  # the dead one had opened no chunk for its copy
    assert await stage.rooms.broadcasts.state_of("b1") == "done"
    await stage.rooms.runner.see_open_chunks()
    assert await stage.rooms.broadcasts.state_of("b1") == "running"
    assert await run(stage, mongo_uri, tmp_path, "work", "b1") == 0

    assert await stage.states("b1") == {"sent": PEOPLE - 1, "skipped": 1}
    assert stage.copies == dict.fromkeys(stage.copies, 1)
    assert len(stage.copies) == PEOPLE - 1
