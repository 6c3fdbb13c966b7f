"""Webhooks: signature, order, deadline, ladder, giving up."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from simulator import events
from simulator.webhooks import RETRY_WAITS_SECONDS, sign
from tests.unit.simulator.live import (
    APP_ID,
    OA_IDS,
    OA_KEY,
    WARD,
    Live,
    Receiver,
    eventually,
    running,
    settings_for,
)


def test_the_signature_is_the_plain_hash_of_the_four_parts() -> None:
    body = '{"event_name":"user_send_text","message":{"text":"Xin chào ạ","msg_id":"m1"},"timestamp":"1764000000000"}'
    # Computed with coreutils: printf '%s' <app id><body><timestamp><key> | sha256sum
    expected = "6e470478655f419c43ed13ae4d7edaba469b2f7b56e421c2de40baedcd6ebca5"
    assert sign("1000000000000000001", body.encode(), "1764000000000", "khóa-oa") == f"mac={expected}"


def test_the_ladder_is_zalos() -> None:
    assert RETRY_WAITS_SECONDS == (30, 300, 900, 1800, 3600)


async def test_a_message_arrives_signed_with_the_first_key_and_strings_for_ids(live: Live, hub: Receiver) -> None:
    written = await live.write("Xin chào ạ")
    assert written["webhook"]["status"] == 200
    assert written["webhook"]["attempts"] == 1
    [received] = hub.received
    timestamp = received.body["timestamp"]
    mac = hashlib.sha256(APP_ID.encode() + received.raw + timestamp.encode() + OA_KEY.encode()).hexdigest()
    assert received.headers["x-zevent-signature"] == f"mac={mac}"
    assert received.headers["x-zevent-timestamp"] == timestamp
    assert received.headers["content-type"] == "application/json"
    assert "num_retry" not in received.headers
    assert received.body == {
        "app_id": APP_ID,
        "user_id_by_app": written["user_id_by_app"],
        "event_name": "user_send_text",
        "timestamp": timestamp,
        "sender": {"id": written["user_id"]},
        "recipient": {"id": OA_IDS[WARD]},
        "message": {"msg_id": written["msg_id"], "text": "Xin chào ạ"},
    }


KINDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("image", {"url": "http://x/a.jpg"}, {"url": "http://x/a.jpg", "thumbnail": "http://x/a.jpg"}),
    ("gif", {"url": "u", "thumbnail": "t"}, {"url": "u", "thumbnail": "t"}),
    ("audio", {"url": "u.amr"}, {"url": "u.amr"}),
    ("video", {"url": "u", "description": "d"}, {"url": "u", "description": "d", "thumbnail": "u"}),
    ("sticker", {"url": "u", "id": "21"}, {"url": "u", "id": "21"}),
    ("file", {"url": "u", "size": 9999, "name": "n"}, {"url": "u", "size": "9999", "name": "n"}),
    ("link", {"url": "u", "description": "d"}, {"url": "u", "description": "d"}),
    (
        "location",
        {"coordinates": {"latitude": 10.85, "longitude": 106.6}},
        {"coordinates": {"latitude": "10.85", "longitude": "106.6"}},
    ),
    ("business_card", {"description": "{}"}, {"description": "{}"}),
]


@pytest.mark.parametrize(("kind", "payload", "on_the_wire"), KINDS, ids=[row[0] for row in KINDS])
async def test_every_kind_of_message_becomes_its_event(
    live: Live, hub: Receiver, kind: str, payload: dict[str, Any], on_the_wire: dict[str, Any]
) -> None:
    await live.write("", attachments=[{"type": kind, "payload": payload}], quote_msg_id="m0")
    [received] = hub.received
    assert received.event_name == f"user_send_{kind}"
    wire_type = "link" if kind == "business_card" else kind
    assert received.body["message"]["attachments"] == [{"type": wire_type, "payload": on_the_wire}]
    assert received.body["message"]["quote_msg_id"] == "m0"
    assert "text" not in received.body["message"]


async def test_every_event_of_the_catalogue_can_be_fired(live: Live, hub: Receiver) -> None:
    assert len(events.templates()) > 80
    for event_name in events.templates():
        answer = await live.post("/control/events", {"page": WARD, "citizen": "0901", "event_name": event_name})
        assert answer["in_catalogue"] is True, event_name
        received = hub.received.pop()
        assert received.event_name == event_name
        assert received.body["app_id"] == APP_ID, event_name
        assert received.body["timestamp"].isdigit(), event_name
        assert b"$" not in received.raw, f"{event_name}: a placeholder was left"


async def test_an_unknown_event_can_be_fired_with_a_body_of_ones_own(live: Live, hub: Receiver) -> None:
    override = {"message": {"new_thing": True}, "recipient": None}
    body = {"page": WARD, "citizen": "0901", "event_name": "user_send_hologram", "override": override}
    assert (await live.post("/control/events", body))["in_catalogue"] is False
    [received] = hub.received
    assert received.event_name == "user_send_hologram"
    assert received.body["message"] == {"new_thing": True}
    assert "recipient" not in received.body


@pytest.mark.parametrize(("signature", "sent"), [("wrong", "mac=" + "0" * 64), ("absent", None)])
async def test_an_event_can_be_signed_badly(live: Live, hub: Receiver, signature: str, sent: str | None) -> None:
    body = {"page": WARD, "citizen": "0901", "event_name": "user_send_text", "signature": signature}
    await live.post("/control/events", body)
    assert hub.received[0].headers.get("x-zevent-signature") == sent


async def test_a_failed_event_climbs_the_ladder_unchanged_and_then_the_app_is_unsubscribed(
    live: Live, hub: Receiver
) -> None:
    hub.statuses = [500] * 6
    written = await live.write("có ai không")
    assert written["webhook"]["outcome"] == "refused"
    assert written["webhook"]["retry_in_seconds"] == pytest.approx(30 * 0.0001)
    app = live.simulator.world.apps[APP_ID]
    await eventually(lambda: not app.subscribed)
    assert [one.headers.get("num_retry") for one in hub.received] == [None, "1", "2", "3", "4", "5"]
    assert len({one.raw for one in hub.received}) == 1
    assert len({one.headers["x-zevent-signature"] for one in hub.received}) == 1
    attempts = await live.log(kind="webhook")
    assert [(entry["attempt"], entry["num_retry"], entry["status"]) for entry in attempts] == [
        (number, number - 1, 500) for number in range(1, 7)
    ]

    assert (await live.write("mất"))["webhook"]["outcome"] == "unsubscribed"
    assert len(hub.received) == 6
    state = await live.post("/control/webhook", {"enabled": True})
    assert state["apps"][0]["subscribed"] is True
    assert (await live.write("lại được"))["webhook"]["outcome"] == "acknowledged"


async def test_an_event_that_is_acknowledged_on_the_way_climbs_no_further(live: Live, hub: Receiver) -> None:
    hub.statuses = [503, 503]
    written = await live.write("kiên nhẫn")
    await eventually(lambda: len(hub.received) == 3)
    assert live.simulator.webhooks.waiting_for_retry == 0
    where = f"/control/conversations/{WARD}/{written['user_id']}"
    assert [item["state"] for item in (await live.get(where))["items"]] == ["received"]


async def test_an_unreachable_hub_and_a_slow_one_are_told_apart(tmp_path: Path, hub: Receiver) -> None:
    settings = settings_for(tmp_path, webhook_url="http://127.0.0.1:9/", webhook_timeout_seconds=0.1, time_scale=1000)
    async with running(settings) as live:
        assert (await live.write("một"))["webhook"]["outcome"] == "unreachable"
        hub.delay_of = lambda _number: 0.3
        await live.post("/control/webhook", {"url": hub.url})
        slow = (await live.write("hai"))["webhook"]
        assert (slow["outcome"], slow["status"]) == ("timeout", None)
        hub.delay_of = lambda _number: 0.0
        assert (await live.post("/control/webhook/retry-now"))["sent"] == 2
        await eventually(lambda: live.simulator.webhooks.waiting_for_retry == 0 and len(hub.received) >= 2)


async def test_by_setting_only_a_failed_connection_is_repeated(tmp_path: Path, hub: Receiver) -> None:
    settings = settings_for(tmp_path, webhook_url=hub.url, retry_on="connection_failure")
    async with running(settings) as live:
        hub.statuses = [500]
        assert (await live.write("một"))["webhook"]["retry_in_seconds"] is None
        await live.post("/control/webhook", {"url": "http://127.0.0.1:9/", "time_scale": 1000})
        assert (await live.write("hai"))["webhook"]["retry_in_seconds"] == 30_000


async def test_one_persons_events_arrive_in_order_and_persons_side_by_side(live: Live, hub: Receiver) -> None:
    hub.delay_of = lambda number: (number * 7 % 5) / 200
    await asyncio.gather(
        *(live.write(f"{number}", citizen=f"c{number % 4}", wait=False) for number in range(40)),
    )
    await eventually(lambda: len(hub.received) == 40)
    for person in range(4):
        citizen = (await live.get(f"/control/people/{WARD}/c{person}"))["user_id"]
        items = (await live.get(f"/control/conversations/{WARD}/{citizen}"))["items"]
        arrived = [one.body["message"]["msg_id"] for one in hub.received if one.body["sender"]["id"] == citizen]
        assert arrived == [item["msg_id"] for item in items]


async def test_the_echo_repeats_text_and_id_of_what_the_api_sent(live: Live, hub: Receiver) -> None:
    token = await live.token()
    user_id = (await live.write("hỏi"))["user_id"]
    sent = await live.send(token, user_id, {"text": "Đáp  ạ ", "quote_message_id": "m0"})
    await eventually(lambda: len(hub.named("oa_send_text")) == 1)
    [echo] = hub.named("oa_send_text")
    assert echo.body["message"] == {"msg_id": sent["data"]["message_id"], "text": "Đáp  ạ ", "quote_msg_id": "m0"}
    assert echo.body["sender"] == {"id": OA_IDS[WARD]}
    assert echo.body["recipient"] == {"id": user_id}


async def test_receipts_name_the_page_as_sender_and_come_once(live: Live, hub: Receiver) -> None:
    token = await live.token()
    user_id = (await live.write("hỏi"))["user_id"]
    message_id = (await live.send(token, user_id, "đáp"))["data"]["message_id"]
    who = {"page": WARD, "citizen": "0901", "msg_ids": [message_id, "unknown"]}
    assert [(await live.post("/control/receipts", who))["reported"] for _ in range(2)] == [1, 0]
    assert [(await live.post("/control/receipts", who | {"seen": True}))["reported"] for _ in range(2)] == [1, 0]
    await eventually(lambda: len(hub.named("user_seen_message")) == 1)
    [received], [seen] = hub.named("user_received_message"), hub.named("user_seen_message")
    assert received.body["message"] == {"msg_id": message_id}
    assert seen.body["message"] == {"msg_ids": [message_id]}
    for receipt in (received, seen):
        assert receipt.body["sender"] == {"id": OA_IDS[WARD]}
        assert receipt.body["recipient"] == {"id": user_id}


async def test_following_and_leaving_are_flat_events(live: Live, hub: Receiver) -> None:
    for follows in (True, False):
        await live.post("/control/follow", {"page": WARD, "citizen": "0901", "follows": follows})
    followed, left = hub.received
    assert followed.event_name == "follow"
    assert left.event_name == "unfollow"
    assert followed.body["oa_id"] == OA_IDS[WARD]
    assert followed.body["follower"]["id"] == left.body["follower"]["id"]
    assert followed.body["source"] == "oa_profile"


async def test_the_chat_button_is_told_once(live: Live, hub: Receiver) -> None:
    who = {"page": WARD, "citizen": "0901"}
    first, second = [await live.post("/control/chat-clicks", who) for _ in range(2)]
    assert first["webhook"]["status"] == 200
    assert second["webhook"] is None
    [clicked] = hub.received
    assert (clicked.event_name, clicked.body["user_id"]) == ("user_click_chatnow", first["user_id"])


async def test_shared_contact_details_arrive_and_stay_with_the_person(live: Live, hub: Receiver) -> None:
    info = {"name": "An", "phone": "84901", "full_address": {"user_ward": "Trung Mỹ Tây", "user_address": "21 Tô Ký"}}
    shared = await live.post("/control/user-info", {"page": WARD, "citizen": "0901", **info})
    assert hub.received[0].event_name == "user_submit_info"
    assert hub.received[0].body["info"]["phone"] == "84901"
    data = {"data": f'{{"user_id":"{shared["user_id"]}"}}'}
    detail = await live.get("/v3.0/oa/user/detail", params=data, headers={"access_token": await live.token()})
    assert detail["data"]["shared_info"]["address"] == "21 Tô Ký"


async def test_the_console_check_sends_the_documented_sample_once(live: Live, hub: Receiver) -> None:
    hub.statuses = [403]
    [result] = (await live.post("/control/webhook/check"))["results"]
    assert (result["accepted"], result["webhook"]["status"]) == (False, 403)
    [sample] = hub.received
    assert sample.body["message"] == {"msg_id": "This is message id", "text": "This is testing message"}
    assert sample.body["recipient"]["id"] not in OA_IDS.values()
    assert (await live.post("/control/webhook/check"))["results"][0]["accepted"] is True
    assert len(hub.received) == 2
