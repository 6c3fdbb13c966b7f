"""Kill -9 of every part in turn, under load.

What must hold: every message whose webhook was answered 200 is answered once. Nothing is answered twice, whatever died.
An answer may be missing only where the ledger says `uncertain`: the notifier died between Zalo's taking it and the
record of it, and no echo has told which; such a reply waits for a person and is never sent again blindly.

How we break it: kill -9 of intake, router, notifier, the broker and the database in turn while citizens write; their
supervisor restarts them. The order of kills is fixed by SEED, printed with the verdict; the verdict comes from the
simulator's log.
"""

import asyncio
import os
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import aiohttp
import pytest

from tests.chaos.judge import Verdict, judge
from tests.servers import KAFKA_TITLE, RunningHub, mongo_product, running_hub

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

SEED = int(os.environ.get("CHAOS_SEED", "20261124"))
MESSAGES = int(os.environ.get("CHAOS_MESSAGES", "2000"))
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
VICTIMS = ("intake", "router", "notifier", "kafka", "mongo")
SETTLE_SECONDS = 180

# Questions whose answers all differ, so that an answer given twice shows.
QUESTIONS = (
    "làm căn cước cần giấy tờ gì vậy",
    "đăng ký tạm trú cần giấy tờ gì",
    "thủ tục nhập hộ khẩu thường trú cần gì ạ",
    "làm sao kích hoạt tài khoản vneid mức 2",
)
WRITERS = 24


@pytest.fixture
def broken_hub(request: pytest.FixtureRequest) -> Iterator[RunningHub]:
    """A hub of its own: other tests should not live on what this one leaves."""
    with running_hub(environment={"SIMULATOR_TIME_SCALE": "0.02", "SIMULATOR_RATE_LIMIT_PER_MINUTE": "0"}) as hub:
        request.node.user_properties.append(
            ("servers", [f"whole hub: {KAFKA_TITLE} and {mongo_product(str(hub.state.mongo))} (embedded)"])
        )
        yield hub


async def test_nothing_accepted_is_lost_and_nothing_is_answered_twice_while_everything_is_killed(
    broken_hub: RunningHub,
) -> None:
    killed: list[str] = []
    started = time.monotonic()
    async with aiohttp.ClientSession(base_url=broken_hub.state.simulator) as simulator:
        victims = _victims()
        load = Load(len(victims))
        async with asyncio.TaskGroup() as group:
            group.create_task(load.write(simulator))
            group.create_task(_kill_in_turn(broken_hub, victims, load, killed))
        await asyncio.to_thread(broken_hub.wait_ready)
        verdict = await _until_settled(simulator)
        uncertain = await _uncertain_answers(broken_hub)

    print(
        f"\nseed {SEED}: killed {', '.join(killed)}; accepted {verdict.accepted_count} of {MESSAGES}, answered "
        f"{verdict.answer_count}, missing {sum(verdict.missing().values())}, uncertain {uncertain}, "
        f"doubled {len(verdict.doubled())}, {time.monotonic() - started:.0f} s"
    )
    assert killed == victims, "every part must have died under load"
    assert verdict.accepted_count == MESSAGES, "Zalo's own retries bring every message in"
    assert verdict.doubled() == {}
    assert verdict.uninvited() == {}
    assert sum(verdict.missing().values()) <= uncertain, "an answer is missing that the ledger does not call uncertain"
    assert uncertain <= WRITERS * killed.count("notifier"), "more is uncertain than one process had in its hands"


class Load:
    """Citizens who write while parts die: the kills are spread over the messages, not over the time.

    After a kill the writing goes on; it pauses only when the next kill is due and the last victim is not back, so
    that every kill hits a hub that was whole.
    """

    def __init__(self, kills: int) -> None:
        self.written = 0
        self._step = MESSAGES / kills
        self._next_kill = 0
        self._moved = asyncio.Condition()

    async def write(self, simulator: aiohttp.ClientSession) -> None:
        """Every citizen asks each question once, one after another; many citizens side by side."""
        citizens = iter(f"chaos-{number:05d}" for number in range(MESSAGES // len(QUESTIONS)))

        async def citizen_after_citizen() -> None:
            for citizen in citizens:
                for question in QUESTIONS:
                    await self._turn()
                    body = {"page": "tan-chanh-hiep", "citizen": citizen, "text": question}
                    async with simulator.post("/control/messages", json=body) as answer:
                        assert answer.status == 200, await answer.text()

        await asyncio.gather(*(citizen_after_citizen() for _ in range(WRITERS)))

    async def _turn(self) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: self.written < (self._next_kill + 1) * self._step)
            self.written += 1
            self._moved.notify_all()

    async def until_next_kill(self) -> None:
        """Wait for the middle of the next stretch of messages."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.written >= (self._next_kill + 0.5) * self._step)

    async def is_whole_again(self) -> None:
        """The victim is back: the next stretch may be written."""
        async with self._moved:
            self._next_kill += 1
            self._moved.notify_all()


async def _kill_in_turn(hub: RunningHub, victims: Sequence[str], load: Load, killed: list[str]) -> None:
    for victim in victims:
        await load.until_next_kill()
        await asyncio.to_thread(hub.kill, victim)
        killed.append(victim)
        await asyncio.to_thread(hub.wait_ready, victim)
        await load.is_whole_again()


def _victims() -> list[str]:
    """Each part in turn; further rounds in another order."""
    chance = random.Random(SEED)
    victims = list(VICTIMS)
    for _ in range(ROUNDS - 1):
        victims += chance.sample(VICTIMS, len(VICTIMS))
    return victims


async def _read_log(simulator: aiohttp.ClientSession) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    after = 0
    while True:
        async with simulator.get("/control/log", params={"after": after, "limit": 50_000}) as answer:
            page = await answer.json()
        items += page["items"]
        if page["next"] >= page["last"]:
            return items
        after = page["next"]


async def _until_settled(simulator: aiohttp.ClientSession) -> Verdict:
    """Wait until every message is accepted and answered, or nothing has moved for a while."""
    deadline = time.monotonic() + SETTLE_SECONDS
    last, unchanged_since = (0, 0), time.monotonic()
    while True:
        verdict = judge(await _read_log(simulator))
        now = (verdict.accepted_count, verdict.answer_count)
        if now != last:
            last, unchanged_since = now, time.monotonic()
        if now >= (MESSAGES, MESSAGES) or time.monotonic() > deadline or time.monotonic() - unchanged_since > 45:
            return verdict
        await asyncio.sleep(1)


async def _uncertain_answers(hub: RunningHub) -> int:
    async with aiohttp.ClientSession() as http, http.get(f"{hub.state.notifier}/health/ready") as answer:
        ready = await answer.json()
    return int(ready["ledger"].get("uncertain", 0))
