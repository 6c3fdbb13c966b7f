"""No emergency and no crime report is left to a machine, through everything that is real."""

import asyncio
import random
import time
from typing import Any

import aiohttp
from pydantic import SecretStr

from services.router.learning.corpus import Example, load_held_out, load_messages
from shared.mongo import open_store
from shared.settings import HubSettings
from tests.servers import RunningHub

OF_EACH = 12
SEED = 6
AT_ONCE = 8


def a_sample() -> list[str]:
    """Some written incidents, and all held-out ones."""
    data = HubSettings().data_dir / "understanding"
    written: list[Example] = load_messages(data / "messages")
    pools = [[e.text for e in written if e.category == c and len(e.text) > 12] for c in ("emergency", "crime_report")]
    held_out = load_held_out(data / "held_out")
    chance = random.Random(SEED)
    texts = [text for pool in pools for text in chance.sample(pool, min(OF_EACH, len(pool)))]
    return texts + [i.text for i in held_out if i.expected.category in {"emergency", "crime_report"}]


async def test_every_emergency_and_crime_report_stands_in_a_persons_queue(hub: RunningHub) -> None:
    texts = a_sample()
    users: dict[str, str] = {}
    async with aiohttp.ClientSession(base_url=hub.state.simulator) as simulator:
        at_once = asyncio.Semaphore(AT_ONCE)

        async def write(number: int, text: str) -> None:
            body = {"page": "tan-chanh-hiep", "citizen": f"e2e-incident-{number}", "text": text}
            async with at_once, simulator.post("/control/messages", json=body) as answer:
                users[str((await answer.json())["user_id"])] = text

        await asyncio.gather(*(write(number, text) for number, text in enumerate(texts)))
    store = open_store(HubSettings(mongo_uri=SecretStr(str(hub.state.mongo))))
    try:
        deadline = time.monotonic() + 150
        waiting: dict[str, Any] = {}
        while len(waiting) < len(users) and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            cases = await store["cases"].find({"user_id": {"$in": list(users)}}).to_list(None)
            waiting = {case["user_id"]: case for case in cases if case["needs_person"]}
        left = [text for user, text in users.items() if user not in waiting]
        assert left == []
        assert all(case["state"] == "waiting_officer" for case in waiting.values())
    finally:
        await store.close()
