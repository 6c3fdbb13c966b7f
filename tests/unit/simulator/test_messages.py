"""The rules of consultation messages, as tables."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from simulator.errors import ZaloRefusal
from simulator.messages import Outgoing, admit, read_message
from simulator.uploads import Upload
from simulator.world import PERSON_SWITCHES, Contact

NOW = 1_764_000_000_000
HOUR = 3_600_000
USER = "2000000000000000001"


def an_upload(handle: str, kind: Any = "image", *, app_id: str = "app", age_ms: int = 0) -> Upload:
    return Upload(handle, kind, app_id, "mau-don.pdf", 4096, "md5", "pdf", f"{handle}.bin", NOW - age_ms)


UPLOADS = {
    upload.handle: upload
    for upload in (
        an_upload("picture"),
        an_upload("moving", "gif"),
        an_upload("paper", "file"),
        an_upload("foreign", app_id="another"),
        an_upload("old", age_ms=8 * 24 * HOUR),
    )
}


def read(message: Any, recipient: Any = None) -> Outgoing:
    body = {"recipient": recipient or {"user_id": USER}, "message": message}
    return read_message(body, UPLOADS.get, app_id="app", media_url="http://sim/media/", now_ms=NOW)


def a_template(**payload: Any) -> dict[str, Any]:
    return {"type": "template", "payload": payload}


def media(**element: Any) -> dict[str, Any]:
    return a_template(template_type="media", elements=[element])


def a_request(**payload: Any) -> dict[str, Any]:
    return a_template(template_type="request_user_info", **payload)


def buttons(*shown: dict[str, Any]) -> dict[str, Any]:
    return {"text": "Chọn", "attachment": a_template(buttons=list(shown))}


def button(**changes: Any) -> dict[str, Any]:
    return {"title": "Xem thêm", "type": "oa.query.show", "payload": "#more", **changes}


PLACE = {"title": "t", "subtitle": "s", "image_url": "https://x.vn/a.png"}
ACCEPTED: list[tuple[str, dict[str, Any], str]] = [
    ("text", {"text": "Chào bác"}, "oa_send_text"),
    ("quote", {"text": "Vâng", "quote_message_id": "m1"}, "oa_send_text"),
    ("image by address", {"attachment": media(media_type="image", url="https://x.vn/a.jpg")}, "oa_send_image"),
    (
        "image by id, with text",
        {"text": "Ảnh", "attachment": media(media_type="image", attachment_id="picture")},
        "oa_send_image",
    ),
    ("gif", {"attachment": media(media_type="gif", attachment_id="moving", width=10, height="20")}, "oa_send_gif"),
    ("sticker", {"attachment": media(media_type="sticker", attachment_id="bfe458bf64fa8da4d4eb")}, "oa_send_sticker"),
    ("file", {"attachment": {"type": "file", "payload": {"token": "paper"}}}, "oa_send_file"),
    (
        "contact request",
        {"attachment": a_request(elements=[PLACE])},
        "oa_send_template",
    ),
    ("buttons", buttons(*[button()] * 5), "oa_send_text"),
    (
        "buttons by name",
        {"text": "Chọn", "attachment": a_template(template_type="button", buttons=[button()])},
        "oa_send_text",
    ),
]


@pytest.mark.parametrize(("kind", "message", "event_name"), ACCEPTED, ids=[row[0] for row in ACCEPTED])
def test_every_consultation_body_is_understood(kind: str, message: dict[str, Any], event_name: str) -> None:
    outgoing = read(message)
    assert outgoing.event_name == event_name, kind
    assert outgoing.text == message.get("text", "")
    assert outgoing.quote_message_id == message.get("quote_message_id", "")


BUTTON_PAYLOADS = [
    button(type="oa.open.url", payload={"url": "https://x.vn"}),
    button(type="oa.query.hide"),
    button(type="oa.open.phone", payload={"phone_code": "113"}),
    button(type="oa.open.sms", payload={"phone_code": "113", "content": "cứu"}),
]


@pytest.mark.parametrize("shown", BUTTON_PAYLOADS, ids=lambda shown: shown["type"])
def test_a_button_reaches_the_phone_as_it_was_sent(shown: dict[str, Any]) -> None:
    assert read(buttons(shown)).buttons == [shown]


def test_a_file_is_shown_with_its_size_and_checksum_as_text() -> None:
    [shown] = read({"attachment": {"type": "file", "payload": {"token": "paper"}}}).attachments
    assert shown["payload"] == {
        "url": "http://sim/media/paper.bin",
        "size": "4096",
        "name": "mau-don.pdf",
        "checksum": "md5",
        "type": "pdf",
    }


REFUSED: list[tuple[str, Any, int]] = [
    ("no message", None, -201),
    ("nothing to say", {}, -201),
    ("empty text", {"text": ""}, -201),
    ("text of another type", {"text": 5}, -201),
    ("2,001 characters", {"text": "a" * 2001}, -210),
    ("attachment of another type", {"attachment": "x"}, -201),
    ("two elements", {"attachment": a_template(template_type="media", elements=[{}, {}])}, -201),
    ("image from nowhere", {"attachment": media(media_type="image")}, -201),
    ("image from a local file", {"attachment": media(media_type="image", url="file:///etc/passwd")}, -201),
    ("unknown upload", {"attachment": media(media_type="image", attachment_id="none")}, -201),
    ("upload of another app", {"attachment": media(media_type="image", attachment_id="foreign")}, -201),
    ("upload after seven days", {"attachment": media(media_type="image", attachment_id="old")}, -100),
    ("gif without size", {"attachment": media(media_type="gif", attachment_id="moving")}, -201),
    ("picture as a file", {"attachment": {"type": "file", "payload": {"token": "picture"}}}, -201),
    ("article", {"attachment": media(media_type="article", attachment_id="a1")}, -233),
    ("list", {"attachment": a_template(template_type="list", elements=[])}, -233),
    ("transaction", {"attachment": a_template(template_type="transaction_order")}, -233),
    (
        "contact request without picture",
        {"attachment": a_template(template_type="request_user_info", elements=[{"title": "t"}])},
        -201,
    ),
    ("buttons without text", {"attachment": a_template(buttons=[button()])}, -201),
    ("six buttons", buttons(*[button()] * 6), -210),
    (
        "button title of 101 characters",
        {"text": "x", "attachment": a_template(buttons=[button(title="a" * 101)])},
        -210,
    ),
    ("button of unknown type", buttons(button(type="oa.open.app")), -201),
    (
        "button to a script",
        {"text": "x", "attachment": a_template(buttons=[button(type="oa.open.url", payload={"url": "javascript:1"})])},
        -201,
    ),
]


@pytest.mark.parametrize(("what", "message", "code"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_zalo_refuses_is_refused_with_its_code(what: str, message: Any, code: int) -> None:
    with pytest.raises(ZaloRefusal) as refusal:
        read(message)
    assert refusal.value.code == code, what


@pytest.mark.parametrize(
    "recipient", [{}, {"user_id": ""}, {"user_id": "abc"}, {"user_id": {"$ne": None}}, {"user_id": "²"}]
)
def test_a_recipient_is_digits(recipient: dict[str, Any]) -> None:
    with pytest.raises(ZaloRefusal, match="user_id is invalid!"):
        read({"text": "x"}, recipient or {"other": 1})


def test_decomposed_vietnamese_is_counted_as_people_see_it() -> None:
    text = unicodedata.normalize("NFD", "ế" * 2000)
    assert len(text) == 6000
    assert read({"text": text}).text == text
    with pytest.raises(ZaloRefusal) as refusal:
        read({"text": text + "ế"})
    assert refusal.value.code == -210


WINDOWS: list[tuple[str, dict[str, Any], str | int]] = [
    ("wrote a minute ago", {"last_interaction_ms": NOW - 60_000, "wrote": True}, "reply"),
    ("wrote 48 hours ago", {"last_interaction_ms": NOW - 48 * HOUR, "wrote": True}, "reply"),
    ("followed an hour ago", {"last_interaction_ms": NOW - HOUR, "follows": True}, "welcome_msg"),
    ("wrote 48 hours and a moment ago", {"last_interaction_ms": NOW - 48 * HOUR - 1, "wrote": True}, "sub_quota"),
    ("wrote 7 days ago", {"last_interaction_ms": NOW - 168 * HOUR, "wrote": True}, "sub_quota"),
    ("wrote 7 days and a moment ago", {"last_interaction_ms": NOW - 168 * HOUR - 1, "wrote": True}, -230),
    ("follows, never interacted", {"follows": True}, -232),
    ("was only looked at", {}, -213),
    ("left and wrote no more", {"last_interaction_ms": NOW - HOUR, "left": True}, -213),
]


@pytest.mark.parametrize(("who", "fields", "expected"), WINDOWS, ids=[row[0] for row in WINDOWS])
def test_the_window_follows_the_last_interaction(who: str, fields: dict[str, Any], expected: str | int) -> None:
    contact = Contact(USER, "3", "0901", **fields)
    if isinstance(expected, str):
        assert admit(contact, NOW) == expected, who
    else:
        with pytest.raises(ZaloRefusal) as refusal:
            admit(contact, NOW)
        assert refusal.value.code == expected, who


def test_nobody_knows_a_stranger() -> None:
    with pytest.raises(ZaloRefusal) as refusal:
        admit(None, NOW)
    assert refusal.value.code == -213


@pytest.mark.parametrize(("switch", "code"), [item for item in PERSON_SWITCHES.items() if item[1]])
def test_a_persons_switch_wins_over_an_open_window(switch: str, code: int) -> None:
    contact = Contact(USER, "3", "0901", last_interaction_ms=NOW, wrote=True, switch=switch)
    with pytest.raises(ZaloRefusal) as refusal:
        admit(contact, NOW)
    assert refusal.value.code == code
