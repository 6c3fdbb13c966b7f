"""Bad moods: what they do, how often, and the same again for the same seed."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from simulator.moods import MoodRequest, Moods
from tests.unit.simulator.live import DISTRICT, WARD, Live, Receiver, eventually


async def a_reachable_person(live: Live) -> tuple[str, str]:
    return await live.token(), (await live.write("xin chào"))["user_id"]


async def sent_texts(live: Live) -> list[str]:
    return [entry["text"] for entry in await live.log(kind="api") if entry["applied"] and entry["message_id"]]


@pytest.mark.parametrize(
    ("mood", "code"),
    [
        ({"mood": "rate_limited"}, -32),
        ({"mood": "refuse"}, -200),
        ({"mood": "refuse", "code": -248}, -248),
        ({"mood": "page_disabled"}, -204),
    ],
    ids=["rate limited", "refuse", "refuse with a code", "page disabled"],
)
async def test_a_refusing_mood_applies_nothing_and_ends_with_its_count(
    live: Live, mood: dict[str, Any], code: int
) -> None:
    token, user_id = await a_reachable_person(live)
    await live.post("/control/moods", {**mood, "count": 2})
    answers = [(await live.send(token, user_id, f"t{number}"))["error"] for number in range(3)]
    assert answers == [code, code, 0]
    assert await sent_texts(live) == ["t2"]


async def test_a_lost_reply_was_applied(live: Live, hub: Receiver) -> None:
    token, user_id = await a_reachable_person(live)
    await live.post("/control/moods", {"mood": "reply_lost", "count": 1})
    with pytest.raises(aiohttp.ClientError):
        await live.send(token, user_id, "mất")
    assert await sent_texts(live) == ["mất"]
    await eventually(lambda: len(hub.named("oa_send_text")) == 1)
    assert (await live.send(token, user_id, "còn"))["error"] == 0


async def test_a_lost_token_answer_has_used_the_refresh_token_up(live: Live) -> None:
    await live.post("/control/moods", {"mood": "reply_lost", "count": 1, "path": "*"})
    with pytest.raises(aiohttp.ClientError):
        await live.refresh("first-8")
    assert (await live.refresh("first-8"))["error"] == -14014


async def test_a_slow_answer_was_applied_before_the_wait(live: Live) -> None:
    token, user_id = await a_reachable_person(live)
    await live.post("/control/moods", {"mood": "slow", "seconds": 1, "count": 1})
    with pytest.raises(TimeoutError):
        await live.http.post(
            f"{live.url}/v3.0/oa/message/cs",
            json={"recipient": {"user_id": user_id}, "message": {"text": "chậm"}},
            headers={"access_token": token},
            timeout=aiohttp.ClientTimeout(total=0.2),
        )
    assert await sent_texts(live) == ["chậm"]


async def test_a_token_can_be_revoked_in_mid_traffic(live: Live) -> None:
    grant = await live.refresh("first-8")
    user_id = (await live.write("chào"))["user_id"]
    await live.post("/control/moods", {"mood": "token_revoked", "count": 1})
    answers = [(await live.send(grant["access_token"], user_id, "x"))["error"] for _ in range(2)]
    assert answers == [-220, -220]
    fresh = await live.refresh(grant["refresh_token"])
    assert (await live.send(fresh["access_token"], user_id, "x"))["error"] == 0


async def test_a_mood_of_one_page_leaves_the_others_alone(live: Live) -> None:
    token, user_id = await a_reachable_person(live)
    await live.post("/control/moods", {"mood": "refuse", "page": DISTRICT})
    assert (await live.send(token, user_id, "x"))["error"] == 0


async def test_a_duplicate_webhook_is_the_same_one_again(live: Live, hub: Receiver) -> None:
    await live.post("/control/moods", {"mood": "webhook_duplicate", "count": 1, "event": "user_send"})
    await live.write("hai lần")
    await eventually(lambda: len(hub.received) == 2)
    assert hub.received[0].raw == hub.received[1].raw
    assert hub.received[1].headers["num_retry"] == "1"


async def test_a_reordered_webhook_is_overtaken_by_the_next_of_the_same_person(live: Live, hub: Receiver) -> None:
    await live.post("/control/moods", {"mood": "webhook_reordered", "count": 1, "seconds": 30})
    await live.write("một", wait=False)
    await live.write("hai")
    await eventually(lambda: len(hub.received) == 2)
    assert [one.body["message"]["text"] for one in hub.received] == ["hai", "một"]


async def test_a_reordered_webhook_without_a_next_one_goes_out_after_a_while(live: Live) -> None:
    await live.post("/control/moods", {"mood": "webhook_reordered", "count": 1, "seconds": 0.05})
    assert (await live.write("một"))["webhook"]["outcome"] == "acknowledged"


async def test_a_late_webhook_lets_everything_else_pass(live: Live, hub: Receiver) -> None:
    await live.post("/control/moods", {"mood": "webhook_late", "count": 1, "seconds": 0.1})
    await live.write("một", wait=False)
    await live.write("hai")
    await live.write("ba")
    await eventually(lambda: len(hub.received) == 3)
    assert [one.body["message"]["text"] for one in hub.received] == ["hai", "ba", "một"]


async def test_without_echoes_the_send_is_still_applied(live: Live, hub: Receiver) -> None:
    token, user_id = await a_reachable_person(live)
    await live.post("/control/moods", {"mood": "webhook_silent", "event": "oa_send"})
    await live.send(token, user_id, "lặng lẽ")
    await live.write("còn đây")
    assert not hub.named("oa_send_text")
    assert [entry["outcome"] for entry in await live.log(event_name="oa_send_text")] == ["silenced"]


async def test_moods_are_replaced_listed_and_cleared(live: Live) -> None:
    await live.post("/control/moods", {"mood": "slow"})
    replaced = await live.post(
        "/control/moods", {"moods": [{"mood": "refuse"}, {"mood": "rate_limited", "page": WARD}]}
    )
    assert [mood["mood"] for mood in replaced["moods"]] == ["refuse", "rate_limited"]
    async with live.http.delete(f"{live.url}/control/moods") as answer:
        assert await answer.json() == {"moods": []}


def hits_of(seed: int) -> list[bool]:
    moods = Moods(seed)
    moods.add(MoodRequest(mood="refuse", probability=0.3), "")
    return [bool(moods.for_call("/v3.0/oa/message/cs", "4")) for _ in range(200)]


def test_the_dice_follow_the_seed() -> None:
    assert hits_of(7) == hits_of(7)
    assert hits_of(7) != hits_of(8)
    assert 35 < sum(hits_of(7)) < 90


def test_clearing_moods_starts_the_same_dice_again() -> None:
    moods = Moods(7)
    rounds = []
    for _ in range(2):
        moods.clear()
        moods.add(MoodRequest(mood="refuse", probability=0.3), "")
        rounds.append([bool(moods.for_call("/v3.0/oa/message/cs", "4")) for _ in range(50)])
    assert rounds[0] == rounds[1]
