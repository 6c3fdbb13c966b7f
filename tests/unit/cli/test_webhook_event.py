import json

import pytest

from cli.webhook_event import event_body, read_addressing, sign

COMMON = {"app_id": "1", "oa_id": "8", "user_id": "2", "text": "xin chào", "message_id": "m", "timestamp_ms": 1_764}


def body_of(event_name: str) -> dict[str, object]:
    loaded: dict[str, object] = json.loads(event_body(event_name, **COMMON))  # type: ignore[arg-type]
    return loaded


def test_a_citizens_message_goes_from_the_citizen_to_the_page() -> None:
    body = body_of("user_send_text")

    assert (body["sender"], body["recipient"]) == ({"id": "2"}, {"id": "8"})
    assert body["message"] == {"msg_id": "m", "text": "xin chào"}
    assert (body["timestamp"], body["app_id"]) == ("1764", "1")


@pytest.mark.parametrize("kind", ["image", "gif", "location", "sticker", "link", "audio", "video"])
def test_a_message_with_an_attachment_has_one_of_its_kind(kind: str) -> None:
    message = body_of(f"user_send_{kind}")["message"]

    assert isinstance(message, dict)
    assert [attachment["type"] for attachment in message["attachments"]] == [kind]


def test_receipts_and_echoes_go_from_the_page_to_the_citizen() -> None:
    for name in ("user_received_message", "user_seen_message", "oa_send_text"):
        body = body_of(name)
        assert (body["sender"], body["recipient"]) == ({"id": "8"}, {"id": "2"}), name
    assert body_of("user_seen_message")["message"] == {"msg_ids": ["m"]}


def test_a_follower_event_is_flat() -> None:
    body = body_of("follow")

    assert (body["oa_id"], body["follower"]) == ("8", {"id": "2"})
    assert "sender" not in body


def test_texts_stay_readable_in_the_body() -> None:
    assert "xin chào".encode() in event_body("user_send_text", **COMMON)  # type: ignore[arg-type]


def test_the_signature_is_a_plain_hash_of_the_joined_parts() -> None:
    # sha256("1" + '{"a":1}' + "1764" + "key"), computed with another program
    assert sign(b'{"a":1}', app_id="1", timestamp="1764", secret_key="key") == (
        "mac=d745eb6ced1c963ef7de999ed5dcfa5e5d9ed2832ad91975ea501a06c4abcca4"
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"app_id": "1", "recipient": {"id": "8"}, "timestamp": "5"}', ("1", "8", "5")),
        (b'{"app_id": 1, "oa_id": "9", "timestamp": 5}', ("1", "9", "5")),
        (b'{"recipient": "8"}', (None, None, None)),
        (b"[]", (None, None, None)),
        (b"\xff", (None, None, None)),
        (b"", (None, None, None)),
    ],
)
def test_addressing_is_read_where_it_can_be(body: bytes, expected: tuple[str | None, ...]) -> None:
    assert read_addressing(body) == expected
