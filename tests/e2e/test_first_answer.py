"""The first promise of the house: a citizen writes, and the answer comes back through everything that is real."""

import asyncio
import time
from typing import Any

import aiohttp
from pydantic import SecretStr

from shared.mongo import open_store
from shared.settings import HubSettings
from tests.servers import RunningHub

QUESTION = "làm căn cước cần giấy tờ gì vậy"


async def ask(hub: RunningHub, text: str, *, page: str = "tan-chanh-hiep", citizen: str) -> list[dict[str, Any]]:
    """Write as a citizen and wait for the first answer.

    Returns:
        The conversation's messages from the hub.
    """
    async with aiohttp.ClientSession(base_url=hub.state.simulator) as simulator:
        body = {"page": page, "citizen": citizen, "text": text}
        async with simulator.post("/control/messages", json=body) as answer:
            written = await answer.json()
        assert written["webhook"]["status"] == 200
        after: dict[str, Any] = {"after_seq": written["seq"], "wait_seconds": 25}
        where = f"/control/conversations/{page}/{written['user_id']}"
        async with simulator.get(where, params=after) as answer:
            items = (await answer.json())["items"]
    return [item for item in items if item["direction"] == "out"]


async def test_a_question_about_papers_is_answered(hub: RunningHub) -> None:
    answers = await ask(hub, QUESTION, citizen="e2e-papers")

    assert len(answers) == 1
    assert "căn cước" in answers[0]["text"].lower()


async def test_an_emergency_is_answered_with_the_numbers_to_call(hub: RunningHub) -> None:
    answers = await ask(hub, "chay nha o duong TCH 21 cuu voi", citizen="e2e-fire")

    assert answers
    assert "114" in answers[0]["text"]


async def test_the_whole_story_is_one_trace_from_webhook_to_send(hub: RunningHub) -> None:
    await ask(hub, QUESTION, citizen="e2e-trace")
    store = open_store(HubSettings(mongo_uri=SecretStr(str(hub.state.mongo))))
    try:
        message = await store["messages"].find_one({"text": QUESTION, "user_id": await user_id(hub, "e2e-trace")})
        assert message is not None
        deadline = time.monotonic() + 90
        steps: set[str] = set()
        wanted = {
            "intake keeps the webhook",
            "router handles citizen.messages.v1",
            "notifier handles replies.requested.v1",
            "zalo.send",
        }
        while not wanted <= steps and time.monotonic() < deadline:
            await asyncio.sleep(0.25)
            spans = await store["trace_spans"].find({"trace_id": message["_id"]}).to_list(None)
            steps = {span["name"] for span in spans}
        assert wanted <= steps
        kept = " ".join(str(span["attributes"]) for span in spans)
        assert "căn cước" not in kept, "a trace carries no words of a citizen"
    finally:
        await store.close()


async def user_id(hub: RunningHub, citizen: str, *, page: str = "tan-chanh-hiep") -> str:
    async with (
        aiohttp.ClientSession(base_url=hub.state.simulator) as simulator,
        simulator.get(f"/control/people/{page}/{citizen}") as answer,
    ):
        return str((await answer.json())["user_id"])
