import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from services.intake.domain import Disposition
from shared.events import MAX_TEXT_CHARACTERS, Coordinates, TemplateDelivered
from shared.ids import deterministic_id, text_digest
from tests.unit.intake.support import (
    APP_ID,
    OA_ID,
    OTHER_APP_ID,
    OTHER_OA_ID,
    RECEIVED_AT,
    USER_ID,
    decided,
    payload,
    the_event,
)


def text_message(**changes: Any) -> dict[str, Any]:
    return {**payload("user_send_text"), **changes}


def with_message(**changes: Any) -> dict[str, Any]:
    body = payload("user_send_text")
    return {**body, "message": {**body["message"], **changes}}


def test_a_message_carries_who_wrote_what_to_which_page_and_when() -> None:
    body = payload("user_send_text")

    event = the_event(decided(body))

    assert (event.page, event.oa_id, event.user_id) == ("tan-chanh-hiep", OA_ID, USER_ID)
    assert event.user_id_by_app == body["user_id_by_app"]
    assert event.text == body["message"]["text"]
    assert event.original_text is None
    assert event.sent_at == datetime.fromtimestamp(int(body["timestamp"]) / 1000, UTC)
    assert event.received_at == RECEIVED_AT
    assert event.event_id == deterministic_id("zalo", OA_ID, "user_send_text", body["message"]["msg_id"])
    assert event.correlation_id == event.event_id


@pytest.mark.parametrize("bad", [{"$ne": None}, ["1"], 17, True, "a b", "a\n", "", "x" * 129, "é", "a/b", "$where"])
@pytest.mark.parametrize("path", ["sender.id", "recipient.id", "message.msg_id"])
def test_an_id_that_is_no_plain_token_makes_a_record(path: str, bad: Any) -> None:
    body = text_message()
    outer, inner = path.split(".")
    body[outer] = {**body[outer], inner: bad}

    decision = decided(body)

    assert decision.disposition is Disposition.MESSAGE
    assert decision.code in {"event.bad_id", "event.no_citizen", "event.no_page", "event.no_message_id"}
    assert (decision.code == "event.bad_id") == (bad != "")
    assert the_event(decision).reason == decision.code


@pytest.mark.parametrize("bad", [{"$ne": None}, 5, ["x"], "a b"])
def test_an_odd_optional_id_is_left_out_and_told(bad: Any) -> None:
    decision = decided({**with_message(quote_msg_id=bad, conversation_id=bad), "user_id_by_app": bad})

    event = the_event(decision)
    assert decision.code == "message.accepted"
    assert (event.quoted_message_id, event.conversation_id, event.user_id_by_app) == (None, None, None)
    assert set(decision.odd_fields) == {"quote_msg_id", "conversation_id", "user_id_by_app"}


def test_a_stranger_page_makes_a_record() -> None:
    decision = decided(text_message(recipient={"id": "4999999999999999999"}))

    assert decision.code == "page.unknown"
    assert the_event(decision).oa_id == "4999999999999999999"
    assert the_event(decision).user_id == USER_ID


def test_the_key_of_one_app_cannot_speak_for_the_page_of_another() -> None:
    assert decided(text_message(recipient={"id": OTHER_OA_ID})).code == "page.of_another_app"
    assert decided(text_message(recipient={"id": OTHER_OA_ID}), app_id=OTHER_APP_ID).code == "message.accepted"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "body.not_json"),
        (b"nope", "body.not_json"),
        (b"\xff\xfe", "body.not_json"),
        (b'{"a":"\\ud800"}', "body.not_json"),
        (b'{"a":NaN}', "body.not_json"),
        (b'{"a":' + b"9" * 5_000 + b"}", "body.not_json"),
        (b"[" * 100_000, "body.too_deep"),
        (b'{"a":' * 100_000, "body.too_deep"),
        (b'{"a":' + b"[" * 80 + b"]" * 80 + b"}", "body.too_deep"),
        (b"[]", "body.not_an_object"),
        (b"17", "body.not_an_object"),
        (b'"x"', "body.not_an_object"),
        (b"null", "body.not_an_object"),
        (b"{}", "event.without_name"),
        (b'{"event_name":{"$gt":""}}', "event.without_name"),
        (b'{"event_name":"user_fly_to_moon"}', "event.unknown"),
        (b'{"event_name":"user_send_text"}', "event.no_page"),
        (b'{"event_name":"user_send_text","sender":7,"recipient":[]}', "event.no_page"),
    ],
)
def test_what_is_not_understood_is_kept_byte_for_byte_with_its_reason(raw: bytes, reason: str) -> None:
    decision = decided(raw)

    assert decision.code == reason
    assert base64.b64decode(the_event(decision).raw_base64) == raw


@pytest.mark.parametrize("written", ["1764000000000", 1_764_000_000_000, " 1764000000000 ", 1.764e12])
def test_a_time_stamp_may_be_a_string_or_a_number(written: Any) -> None:
    assert the_event(decided(text_message(timestamp=written))).sent_at == datetime.fromtimestamp(1_764_000_000, UTC)


@pytest.mark.parametrize(
    "written", ["-5", 0, "253402300799999", 10**30, "soon", {"$date": 1}, [], True, 1e300, "9" * 40]
)
def test_a_time_out_of_reason_gives_way_to_the_arrival_and_is_told(written: Any) -> None:
    decision = decided(text_message(timestamp=written))

    assert the_event(decision).sent_at == RECEIVED_AT
    assert "timestamp" in decision.odd_fields


def test_the_signed_time_stamp_stands_in_for_a_missing_one() -> None:
    body = text_message()
    del body["timestamp"]

    assert the_event(decided(body, signed_at="1764000000000")).sent_at == datetime.fromtimestamp(1_764_000_000, UTC)


def test_the_text_is_normalised_beside_the_original() -> None:
    written = "Tie\u0302\u0301ng\u200b Vie\u0323\u0302t\u202e\r\nhai\u0000"

    event = the_event(decided(with_message(text=written)))

    assert event.text == "Tiếng Việt\nhai"
    assert event.original_text == written


def test_a_text_beyond_measure_is_cut_and_marked() -> None:
    event = the_event(decided(with_message(text="ă" * (MAX_TEXT_CHARACTERS + 1))))

    assert event.text_was_cut
    assert event.text == "ă" * MAX_TEXT_CHARACTERS


@pytest.mark.parametrize("written", [{"$ne": 1}, ["x"], True])
def test_a_text_of_another_shape_is_left_out_and_told(written: Any) -> None:
    decision = decided(with_message(text=written))

    assert the_event(decision).text == ""
    assert decision.odd_fields == ("text",)


def test_several_photos_keep_their_order() -> None:
    event = the_event(decided(payload("user_send_image.two_photos")))

    assert [(one.index, one.kind) for one in event.attachments] == [(0, "image"), (1, "image")]
    assert event.attachments[0].url != event.attachments[1].url


def test_a_file_has_its_name_and_its_size_as_a_number() -> None:
    (file,) = the_event(decided(payload("user_send_file"))).attachments

    assert (file.kind, file.name, file.size_bytes) == ("file", "don-trinh-bao.pdf", 48_213)


def test_a_location_becomes_coordinates_and_no_attachment() -> None:
    event = the_event(decided(payload("user_send_location")))

    assert event.location == Coordinates(latitude=10.8668, longitude=106.6262)
    assert event.attachments == ()


def test_a_business_card_is_told_from_a_link_by_the_event() -> None:
    (card,) = the_event(decided(payload("user_send_business_card"))).attachments

    assert card.kind == "business_card"
    assert json.loads(card.description or "")["phone"] == "84900000123"


@pytest.mark.parametrize(
    "attachments",
    [
        {"type": "image", "payload": {"url": "https://x.example/1.jpg"}},
        [{"type": "image", "payload": {"url": "https://x.example/1.jpg", "size": {"$gt": 1}, "thumbnail": ""}}],
    ],
)
def test_a_lone_attachment_and_odd_members_are_tolerated(attachments: Any) -> None:
    (image,) = the_event(decided(with_message(attachments=attachments))).attachments

    assert (image.kind, image.url, image.size_bytes) == ("image", "https://x.example/1.jpg", None)


@pytest.mark.parametrize(
    "attachments",
    ["x", 7, [7], [None], [{"type": {"$ne": 1}, "payload": "x"}], [{"payload": {"url": {"a": 1}}}], [[[]]]],
)
def test_attachments_of_no_known_shape_never_lose_the_text(attachments: Any) -> None:
    event = the_event(decided(with_message(attachments=attachments, text="cướp ở ngã tư")))

    assert event.text == "cướp ở ngã tư"
    assert all(one.kind == "other" and one.url is None for one in event.attachments)


@pytest.mark.parametrize("point", [{"latitude": "91", "longitude": "0"}, {"latitude": "NaN", "longitude": "1"}, {}, 7])
def test_a_point_that_is_nowhere_is_left_out_and_told(point: Any) -> None:
    decision = decided(with_message(attachments=[{"type": "location", "payload": {"coordinates": point}}]))

    assert the_event(decision).location is None
    assert decision.odd_fields == ("coordinates",)


def test_more_attachments_than_are_kept_are_cut_and_told() -> None:
    many = [{"type": "image", "payload": {"url": f"https://x.example/{n}"}} for n in range(50)]

    decision = decided(with_message(attachments=many))

    assert len(the_event(decision).attachments) == 20
    assert decision.odd_fields == ("attachments",)


def test_an_echo_has_the_digest_of_the_composed_text_and_not_the_text() -> None:
    body = payload("oa_send_text")
    body["message"]["text"] = "Da\u0323, đã nhận"

    event = the_event(decided(body))

    assert event.text_sha256 == text_digest("Dạ, đã nhận")
    assert "nhận" not in event.model_dump_json()
    assert event.message_ids == (body["message"]["msg_id"],)


@pytest.mark.parametrize("name", ["user_received_message", "user_seen_message", "user_reacted_message"])
def test_a_receipt_is_understood_in_either_direction(name: str) -> None:
    body = payload(name)
    turned = {**body, "sender": body["recipient"], "recipient": body["sender"]}

    assert the_event(decided(turned)).user_id == the_event(decided(body)).user_id == USER_ID


def test_a_seen_receipt_names_every_message_once() -> None:
    body = payload("user_seen_message")
    body["message"]["msg_ids"] = ["m1", "m2", "m1"]

    assert the_event(decided(body)).message_ids == ("m1", "m2")


@pytest.mark.parametrize("ids", [[], [{"$ne": None}], ["ok", 5], {"a": 1}, "a b"])
def test_a_receipt_with_bad_message_ids_makes_a_record(ids: Any) -> None:
    body = payload("user_seen_message")
    body["message"]["msg_ids"] = ids

    assert decided(body).code in {"event.bad_id", "event.no_message_id"}


def test_a_template_receipt_is_known_by_its_server_alone() -> None:
    decision = decided(payload("user_received_message"), is_template_server=True)

    assert (decision.disposition, decision.code) == (Disposition.RECEIPT, "template.delivered")


def test_a_template_receipt_says_when_it_was_delivered_and_never_to_which_number() -> None:
    decision = decided(payload("user_received_message.zns"))

    (outgoing,) = decision.outgoing
    assert isinstance(outgoing.event, TemplateDelivered)
    assert outgoing.event.delivered_at == datetime.fromtimestamp(1764000123.456, UTC)
    assert "84900000123" not in repr(decision)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sender": {"id": "999"}}, "page.unknown"),
        ({"message": {"tracking_id": "t"}}, "event.no_message_id"),
        ({"message": {"msg_id": "m1", "tracking_id": {"a": 1}}}, "template.delivered"),
        ({"message": {"msg_id": "m1", "tracking_id": "t", "delivery_time": "soon"}}, "template.delivered"),
    ],
)
def test_an_odd_template_receipt_is_read_as_far_as_it_can_be(change: dict[str, Any], code: str) -> None:
    decision = decided(payload("user_received_message.zns") | change)

    assert decision.code == code
    assert "84900000123" not in f"{decision.oa_id} {decision.user_id} {decision.message_id}"


def test_a_tag_of_several_citizens_gives_one_change_each() -> None:
    decision = decided(payload("remove_user_from_tag"))

    events: list[Any] = [one.event for one in decision.outgoing]
    assert [event.user_id for event in events] == [USER_ID, "2000000000000000418"]
    assert len({event.event_id for event in events}) == 2
    assert {event.user_id_by_app for event in events} == {None}


def test_a_tag_of_too_many_citizens_is_kept_as_a_record() -> None:
    body = payload("add_user_to_tag")
    body["tag"]["user_ids"] = [str(n) for n in range(1_000)]

    assert decided(body).code == "event.too_many_citizens"


def test_one_bad_citizen_of_a_tag_makes_a_record_of_the_whole() -> None:
    body = payload("add_user_to_tag")
    body["tag"]["user_ids"] = [USER_ID, {"$ne": None}]

    assert decided(body).code == "event.bad_id"


def test_details_are_plain_bounded_values() -> None:
    body = payload("user_feedback.with_citizen")
    body["message"] |= {"note": "x" * 5_000, "rate": {"$gt": 0}, "option": "HERE"}

    decision = decided(json.dumps(body).replace('"HERE"', "1e400").encode())

    details = the_event(decision).details
    assert len(details["note"]) == 1_000
    assert details["feedbacks"] == "Chờ lâu"
    assert details.keys() & {"rate", "option"} == set()
    assert set(decision.odd_fields) == {"rate", "option"}


def test_the_console_check_is_recognised_whatever_its_page() -> None:
    for changes in ({}, {"recipient": {"id": OA_ID}}, {"app_id": APP_ID}):
        assert decided({**payload("user_send_text.console_check"), **changes}).code == "console.check"


def test_unknown_members_are_ignored() -> None:
    assert decided({**with_message(colour="red"), "extra": {"deep": [1, 2]}}).code == "message.accepted"
