"""The control API: conversations, state, reset, and what survives a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from simulator.settings import SettingsError, load_zalo_config
from tests.unit.simulator.live import DISTRICT, OA_IDS, WARD, Live, Receiver, running, settings_for


async def test_waiting_for_an_answer_ends_when_it_comes(live: Live) -> None:
    token, user_id = await live.token(), (await live.write("hỏi"))["user_id"]
    where = f"/control/conversations/{OA_IDS[WARD]}/{user_id}"
    waiting = asyncio.create_task(live.get(where, params={"after_seq": "1", "wait_seconds": "30"}))
    await asyncio.sleep(0)
    await live.send(token, user_id, "đáp")
    [item] = (await waiting)["items"]
    assert (item["seq"], item["direction"], item["text"], item["state"]) == (2, "out", "đáp", "sent")


async def test_waiting_in_vain_ends_empty(live: Live) -> None:
    user_id = (await live.write("hỏi"))["user_id"]
    where = f"/control/conversations/{WARD}/{user_id}"
    assert (await live.get(where, params={"after_seq": "1", "wait_seconds": "0.05"}))["items"] == []
    assert (await live.get(f"/control/conversations/{WARD}/2999"))["items"] == []


async def test_a_person_has_another_id_on_each_page_and_one_for_the_app(live: Live) -> None:
    ward = await live.write("chào")
    district = await live.post("/control/messages", {"page": DISTRICT, "citizen": "0901", "text": "chào"})
    assert ward["user_id"] != district["user_id"]
    assert ward["user_id_by_app"] == district["user_id_by_app"]
    assert (await live.write("lại"))["user_id"] == ward["user_id"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"page": "nowhere", "citizen": "0901", "text": "x"}, 404),
        ({"page": WARD, "citizen": "0901"}, 422),
        ({"page": WARD, "citizen": "0901", "text": "x", "typo": 1}, 422),
        ({"page": WARD, "citizen": "0901", "attachments": [{"type": "hologram"}]}, 422),
    ],
)
async def test_a_wrong_request_is_told_so(live: Live, body: dict[str, object], status: int) -> None:
    async with live.http.post(f"{live.url}/control/messages", json=body) as answer:
        assert answer.status == status


async def test_the_log_goes_on_where_the_reader_stopped(live: Live) -> None:
    for number in range(5):
        await live.write(str(number))
    first = await live.get("/control/log", params={"limit": "3"})
    assert [entry["seq"] for entry in first["items"]] == [1, 2, 3]
    rest = await live.get("/control/log", params={"after": str(first["next"])})
    assert [entry["text"] for entry in rest["items"]] == ["3", "4"]
    assert rest["next"] == rest["last"] == 5
    assert (await live.get("/control/log", params={"after": "5"}))["items"] == []


async def test_a_reset_forgets_people_and_moods_and_keeps_tokens_unless_asked(live: Live) -> None:
    token, user_id = await live.token(), (await live.write("hỏi"))["user_id"]
    await live.post("/control/moods", {"mood": "refuse"})
    await live.post("/control/clock", {"shift_seconds": 3600})
    state = await live.post("/control/reset")
    assert state["moods"] == []
    assert state["clock_offset_seconds"] == 0
    assert [page["contacts"] for page in state["pages"]] == [0, 0]
    assert (await live.send(token, user_id, "x"))["error"] == -213
    await live.post("/control/reset", {"tokens": True})
    assert (await live.send(token, user_id, "x"))["error"] == -216
    assert (await live.refresh("first-8"))["access_token"]


async def test_many_followers_come_at_once_and_know_nothing_of_the_hub(live: Live, hub: Receiver) -> None:
    added = await live.post("/control/followers", {"page": WARD, "count": 3000, "last_interaction_hours_ago": 1})
    assert added["contacts"] == 3000
    assert hub.received == []
    token = await live.token()
    user_id = (await live.get(f"/control/people/{WARD}/follower-1"))["user_id"]
    assert (await live.send(token, user_id, "thông báo"))["data"]["quota"] == {"quota_type": "welcome_msg"}


async def test_a_restart_keeps_people_tokens_and_conversations_and_repeats_no_message_id(
    tmp_path: Path, hub: Receiver
) -> None:
    settings = settings_for(tmp_path, webhook_url=hub.url)
    async with running(settings) as live:
        token, before = await live.token(), await live.write("trước")
        await live.post("/control/people", {"citizen": "0901", "display_name": "Bà Hoa"})
    async with running(settings) as live:
        assert (await live.send(token, before["user_id"], "vẫn nhớ"))["error"] == 0
        after = await live.write("sau")
        items = (await live.get(f"/control/conversations/{WARD}/{before['user_id']}"))["items"]
        assert [(item["seq"], item["text"]) for item in items] == [(1, "trước"), (2, "vẫn nhớ"), (3, "sau")]
        assert len({item["msg_id"] for item in items}) == 3
        assert after["user_id"] == before["user_id"]
        assert (await live.get(f"/control/people/{WARD}/0901"))["display_name"] == "Bà Hoa"


async def test_health_is_said(live: Live) -> None:
    assert (await live.get("/health/ready"))["pages"] == 2
    assert (await live.get("/health/live"))["status"] == "ok"


AN_APP = "apps: [{app_id: '1', app_secret: s, oa_secret_keys: [k]}]"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not valid YAML"),
        ("[]", "not a Zalo configuration"),
        (f"{{{AN_APP}, pages: [{{page: a, oa_id: '4', app_id: '2'}}]}}", "not listed: 2"),
        (
            f"{{{AN_APP}, pages: [{{page: a, oa_id: '4', app_id: '1'}}, {{page: a, oa_id: '5', app_id: '1'}}]}}",
            "same page",
        ),
    ],
    ids=["broken", "another shape", "unknown app", "page twice"],
)
def test_an_unusable_configuration_is_explained(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "zalo.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=complaint):
        load_zalo_config(path)
    with pytest.raises(SettingsError, match="Cannot read"):
        load_zalo_config(tmp_path / "missing.yaml")
