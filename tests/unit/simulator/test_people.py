"""Tags, custom fields, notes about people, anonymous visitors and templates."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simulator.limits import Tally, local_day
from tests.unit.simulator.live import OA_IDS, WARD, Live, Receiver, eventually

TAG = "Khu phố 5"
TEMPLATE_DATA = {"name": "Bà Hoa", "code": "HS-1", "place": "Tổ căn cước"}
DAY = "2026-11-24T03:00:00+00:00"  # 10:00 in Vietnam
NIGHT = "2026-11-24T16:00:00+00:00"  # 23:00 in Vietnam


class Caller:
    """Calls as the ward's page."""

    def __init__(self, live: Live, token: str) -> None:
        self.live, self.headers = live, {"access_token": token}

    async def post(self, path: str, body: Any) -> dict[str, Any]:
        return await self.live.post(path, body, headers=self.headers)

    async def get(self, path: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
        params = {"data": json.dumps(data)} if data is not None else {}
        return await self.live.get(path, params=params, headers=self.headers)


@pytest.fixture
async def oa(live: Live) -> Caller:
    await live.post("/control/clock", {"now": DAY})
    return Caller(live, await live.token())


@pytest.fixture
async def user_id(oa: Caller) -> str:
    return str((await oa.live.write("chào"))["user_id"])


@pytest.mark.parametrize("as_number", [False, True])
async def test_a_tag_is_made_by_its_first_use(oa: Caller, user_id: str, as_number: bool) -> None:
    body = {"user_id": int(user_id) if as_number else user_id, "tag_name": TAG}
    assert await oa.post("/v2.0/oa/tag/tagfollower", body) == {"error": 0, "message": "Success"}
    assert (await oa.get("/v2.0/oa/tag/gettagsofoa"))["data"] == [TAG]
    detail = (await oa.get("/v3.0/oa/user/detail", {"user_id": user_id}))["data"]
    assert detail["tags_and_notes_info"]["tag_names"] == [TAG]
    tagged = await oa.get("/v3.0/oa/user/getlist", {"tag_name": TAG})
    assert tagged["data"]["users"] == [{"user_id": user_id}]


async def test_every_change_of_a_tag_is_an_event(oa: Caller, user_id: str, hub: Receiver) -> None:
    await oa.post("/v2.0/oa/tag/tagfollower", {"user_id": user_id, "tag_name": TAG})
    await oa.post("/v2.0/oa/tag/rmfollowerfromtag", {"user_id": user_id, "tag_name": TAG})
    await oa.post("/v2.0/oa/tag/rmtag", {"tag_name": TAG})
    await eventually(lambda: len(hub.received) == 5)
    made, added = [one.body["tag"] for one in hub.named("add_user_to_tag")]
    assert (made, added) == ({"name": TAG}, {"name": TAG, "user_ids": [user_id]})
    assert hub.named("remove_user_from_tag")[0].body["oa_id"] == OA_IDS[WARD]
    assert hub.named("remove_tag")[0].body["tag"] == {"name": TAG}
    assert (await oa.get("/v2.0/oa/tag/gettagsofoa"))["data"] == []


async def test_tags_refuse_strangers_and_unknown_names(oa: Caller, user_id: str) -> None:
    assert (await oa.post("/v2.0/oa/tag/tagfollower", {"user_id": "2" * 19, "tag_name": TAG}))["error"] == -213
    assert (await oa.post("/v2.0/oa/tag/tagfollower", {"user_id": user_id, "tag_name": ""}))["error"] == -201
    assert (await oa.post("/v2.0/oa/tag/rmtag", {"tag_name": "không có"}))["error"] == -201


async def test_what_a_page_writes_down_about_a_person_can_be_read_and_erased(oa: Caller, user_id: str) -> None:
    note = {"user_id": user_id, "user_alias": "Bà Tư", "user_external_id": "e-1", "shared_info": {"phone": 84900000001}}
    assert (await oa.post("/v3.0/oa/user/update", note))["error"] == 0
    detail = (await oa.get("/v3.0/oa/user/detail", {"user_id": user_id}))["data"]
    assert (detail["user_alias"], detail["user_external_id"]) == ("Bà Tư", "e-1")
    assert detail["shared_info"]["phone"] == "84900000001"
    assert (await oa.post("/v2.0/oa/deletefollowerinfo", {"user_id": user_id}))["error"] == 0
    detail = (await oa.get("/v3.0/oa/user/detail", {"user_id": user_id}))["data"]
    assert (detail["user_external_id"], detail["shared_info"]["phone"]) == ("", "")


async def test_a_custom_field_is_defined_filled_and_read_back_as_a_string(oa: Caller, user_id: str) -> None:
    await oa.post("/v3.0/oa/userfield/create", {"key": "household", "name": "Số hộ", "data_type": "number"})
    written = {"user_id": user_id, "full_address": {"user_ward_id": 26743}, "custom_info": {"household": 12.5}}
    assert (await oa.post("/v3.0/oa/user/update/custominfo", written))["error"] == 0
    info = (await oa.get("/v3.0/oa/user/detail/custominfo", {"user_id": user_id}))["data"]
    assert info["custom_info"] == {"household": "12.5"}
    assert info["full_address"]["user_ward_id"] == "26743"
    some = (await oa.get("/v3.0/oa/user/detail/custominfo", {"user_id": user_id, "fields_to_export": ["name"]}))["data"]
    assert some == {"user_id": user_id, "name": "", "custom_info": {}}


async def test_the_type_of_a_custom_field_stays(oa: Caller) -> None:
    field = {"key": "note", "name": "Ghi chú", "data_type": "text"}
    assert (await oa.post("/v3.0/oa/userfield/create", field))["error"] == 0
    assert (await oa.post("/v3.0/oa/userfield/create", field))["error"] == -201
    assert (await oa.post("/v3.0/oa/userfield/update", {"key": "note", "data_type": "number"}))["error"] == -201
    assert (await oa.post("/v3.0/oa/userfield/update", {"key": "note", "name": "Lưu ý"}))["data"]["name"] == "Lưu ý"
    assert (await oa.post("/v3.0/oa/userfield/delete", {"key": "note"}))["error"] == 0
    assert (await oa.get("/v3.0/oa/userfield/get"))["data"]["total"] == 0


@pytest.mark.parametrize(
    ("data_type", "good", "bad"),
    [
        ("boolean", True, "có"),
        ("number", "1.123", "1.1234"),
        ("text", "x" * 255, "x" * 256),
        ("datetime", "2026-11-24", "hôm qua"),
        ("table", {"a": "1"}, {"a": {"b": "1"}}),
        ("email", "a@b.vn", "a.b.vn"),
        ("phone", "84900000001", "gọi tôi"),
        ("url", "https://a.vn", "a.vn"),
    ],
)
async def test_values_of_custom_fields_fit_their_type(
    oa: Caller, user_id: str, data_type: str, good: Any, bad: Any
) -> None:
    await oa.post("/v3.0/oa/userfield/create", {"key": "k", "name": "K", "data_type": data_type})
    path = "/v3.0/oa/user/update/custominfo"
    assert (await oa.post(path, {"user_id": user_id, "custom_info": {"k": good}}))["error"] == 0
    assert (await oa.post(path, {"user_id": user_id, "custom_info": {"k": bad}}))["error"] == -201


async def test_an_anonymous_visitor_is_answered_by_both_ids_only(live: Live, oa: Caller, hub: Receiver) -> None:
    written = await live.write("cho hỏi", citizen="visitor", anonymous=True)
    [event] = hub.named("anonymous_send_text")
    assert event.body["message"]["conversation_id"] == written["conversation_id"]
    both = {"anonymous_id": event.body["sender"]["id"], "conversation_id": written["conversation_id"]}
    answer = await oa.post("/v2.0/oa/message", {"recipient": both, "message": {"text": "Dạ"}})
    assert answer["error"] == 0
    await eventually(lambda: bool(hub.named("oa_send_anonymous_text")))
    assert hub.named("oa_send_anonymous_text")[0].body["message"]["conversation_id"] == written["conversation_id"]
    wrong = {**both, "conversation_id": "c1"}
    assert (await oa.post("/v2.0/oa/message", {"recipient": wrong, "message": {"text": "Dạ"}}))["error"] == -201
    assert (await live.send(oa.headers["access_token"], both["anonymous_id"], "Dạ"))["error"] == -213


async def test_a_template_reaches_somebody_whose_window_is_closed(live: Live, oa: Caller, user_id: str) -> None:
    await live.post("/control/people", {"page": WARD, "citizen": "0901", "last_interaction_hours_ago": 400})
    body = {"user_id": user_id, "template_id": "200001", "template_data": TEMPLATE_DATA}
    answer = await oa.post("/v3.0/oa/message/template", body)
    assert set(answer["data"]) == {"message_id", "user_id", "sent_time", "quota"}
    shown = (await live.get(f"/control/conversations/{WARD}/{user_id}"))["items"][-1]
    assert "HS-1" in shown["text"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"template_id": "200003", "template_data": {"otp": "1"}}, -249),
        ({"template_id": "nope"}, -201),
        ({"template_data": {"name": "Bà Hoa"}}, -201),
        ({"tracking_id": "t"}, -201),
        ({"user_id": "2" * 19}, -213),
    ],
)
async def test_a_template_by_user_id_is_refused(oa: Caller, user_id: str, changes: dict[str, Any], code: int) -> None:
    body = {"user_id": user_id, "template_id": "200001", "template_data": TEMPLATE_DATA} | changes
    assert (await oa.post("/v3.0/oa/message/template", body))["error"] == code


async def test_a_template_by_phone_reports_its_delivery(live: Live, oa: Caller, user_id: str, hub: Receiver) -> None:
    await live.post("/control/people", {"citizen": "0901", "phone": "84900000001"})
    body = {
        "phone": "84900000001",
        "template_id": "200001",
        "template_data": TEMPLATE_DATA,
        "tracking_id": "t-1",
    }
    answer = await oa.post("/message/template", body)
    assert answer["data"]["quota"] == {"dailyQuota": "500", "remainingQuota": "499"}
    await eventually(lambda: bool(hub.named("user_received_message")))
    [report] = hub.named("user_received_message")
    assert report.headers["x-zevent-server"] == "ZNS"
    assert report.body["recipient"] == {"id": "84900000001"}
    assert report.body["message"]["tracking_id"] == "t-1"
    shown = (await live.get(f"/control/conversations/{WARD}/{user_id}"))["items"][-1]
    assert shown["msg_id"] == answer["data"]["msg_id"]


async def test_the_business_host_has_error_codes_of_its_own(live: Live, oa: Caller) -> None:
    body = {"phone": "84900000001", "template_id": "200001", "template_data": TEMPLATE_DATA}
    assert (await oa.post("/message/template", body | {"phone": "0900"}))["error"] == -108
    assert (await Caller(live, "no token").post("/message/template", body))["error"] == -124
    live.simulator.world.page(WARD).phone_sends = Tally(local_day(live.simulator.clock.now()).toordinal(), 500)
    assert (await oa.post("/message/template", body))["error"] == -144
    await live.post("/control/clock", {"now": NIGHT})
    assert (await oa.post("/message/template", body))["error"] == -133


@pytest.mark.parametrize(
    ("path", "code"),
    [("/v3.0/oa/message/transaction", -209), ("/v3.0/oa/message/promotion", -209), ("/v3.0/oa/group/message", -224)],
)
async def test_what_is_not_provided_is_refused(oa: Caller, user_id: str, path: str, code: int) -> None:
    body = {"recipient": {"user_id": user_id}, "message": {"text": "x"}}
    assert (await oa.post(path, body))["error"] == code
