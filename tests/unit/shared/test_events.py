import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.events import (
    MAX_TEXT_CHARACTERS,
    CitizenMessageReceived,
    Event,
    ReplyContent,
    ReplyRequested,
)
from shared.kafka import cloud_event_headers
from shared.topics import ALL_TOPICS
from tests.factories import a_message, a_record, a_reply, an_officer_reply, one_of_each

readable = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
moments = st.datetimes(timezones=st.just(UTC))


@pytest.mark.parametrize("event", one_of_each(), ids=lambda event: type(event).__name__)
def test_an_event_comes_back_from_json_as_it_was(event: Event) -> None:
    assert type(event).model_validate_json(event.model_dump_json(exclude_none=True)) == event


@given(text=readable, original=st.none() | readable, sent_at=moments, latitude=st.floats(-90, 90))
def test_any_message_comes_back_from_json_as_it_was(
    text: str, original: str | None, sent_at: datetime, latitude: float
) -> None:
    message = a_message(
        text=text, original_text=original, sent_at=sent_at, location={"latitude": latitude, "longitude": 106.6}
    )

    assert CitizenMessageReceived.model_validate_json(message.model_dump_json(exclude_none=True)) == message


def test_there_is_one_kind_of_event_for_each_topic_and_each_has_its_own_type() -> None:
    types = [topic.event.ce_type for topic in ALL_TOPICS]

    assert len(set(types)) == len(types)
    assert {type(event) for event in one_of_each()} <= {topic.event for topic in ALL_TOPICS}


@pytest.mark.parametrize("event", one_of_each(), ids=lambda event: type(event).__name__)
def test_an_event_of_a_later_version_with_a_new_field_is_still_understood(event: Event) -> None:
    later = {**json.loads(event.model_dump_json()), "new_field": {"a": 1}, "schema_version": 2}

    assert type(event).model_validate_json(json.dumps(later)).event_id == event.event_id


def test_events_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        a_message().text = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_id", "A" * 32),
        ("event_id", "0" * 31),
        ("event_id", {"$ne": None}),
        ("user_id", {"$ne": None}),
        ("user_id", '{"$ne": null}'),
        ("user_id", ""),
        ("user_id", "a" * 65),
        ("user_id", "một"),
        ("oa_id", "a:b"),
        ("message_id", "a\nb"),
        ("message_id", "a$b"),
        ("page", "Tân Chánh Hiệp"),
        ("page", "a--b"),
        ("kind", "poll"),
        ("text", "a" * (MAX_TEXT_CHARACTERS + 1)),
        ("occurred_at", "2026-11-24T09:30:00"),
        ("sent_at", datetime(2026, 11, 24, 9, 30)),  # noqa: DTZ001 - a naive moment is the point
        ("location", {"latitude": 91, "longitude": 0}),
        ("location", {"latitude": float("nan"), "longitude": 0}),
        ("attachments", [{"index": 0, "kind": "poll"}]),
        ("correlation_id", ""),
    ],
)
def test_a_message_with_a_wrong_value_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        a_message(**{field: value})


@pytest.mark.parametrize("body", ["", "1", "null", "[]", "{", '{"event_id": NaN}', '"\\ud800"', "[" * 2_000])
def test_what_is_no_event_is_a_validation_error_and_nothing_else(body: str) -> None:
    with pytest.raises(ValidationError):
        CitizenMessageReceived.model_validate_json(body)


@given(st.binary(max_size=300))
def test_no_bytes_whatsoever_raise_anything_but_a_validation_error(body: bytes) -> None:
    with pytest.raises(ValidationError):
        ReplyRequested.model_validate_json(body)


def test_events_of_a_citizen_share_the_partition_of_the_citizen_and_records_have_their_own() -> None:
    assert a_message().partition_key == a_reply().partition_key == an_officer_reply().partition_key
    assert a_message().partition_key == "4000000000000000008:2000000000000000001"
    assert a_record().partition_key == a_record().event_id


def test_a_reply_that_zalo_would_refuse_cannot_be_asked_for() -> None:
    button = {"title": "Gọi 113", "type": "oa.open.phone", "payload": "113"}
    assert ReplyContent(text="a" * 2_000, buttons=(button,) * 5).buttons[0].payload == "113"

    with pytest.raises(ValidationError):
        ReplyContent(text="a" * 2_001)
    with pytest.raises(ValidationError):
        ReplyContent(text="a", buttons=(button,) * 6)
    with pytest.raises(ValidationError):
        ReplyContent(text="a", buttons=({**button, "title": "a" * 101},))


def test_headers_follow_the_cloud_events_kafka_binding() -> None:
    message = a_message(occurred_at=datetime(2026, 11, 24, 16, 30, tzinfo=timezone(timedelta(hours=7))))

    headers = cloud_event_headers(message, source="/intake")

    assert headers["ce_specversion"] == "1.0"
    assert headers["ce_id"] == message.event_id
    assert headers["ce_source"] == "/intake"
    assert headers["ce_type"] == "vn.binhyen.citizen-message-received.v1"
    assert datetime.fromisoformat(headers["ce_time"]) == message.occurred_at
    assert headers["content-type"] == "application/json"
    assert all(name == name.lower() and value for name, value in headers.items())
