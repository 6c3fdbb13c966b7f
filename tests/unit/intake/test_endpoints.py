import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.intake.app import build_app
from services.intake.settings import IntakeSettings
from tests.unit.intake.support import (
    APP_ID,
    KAFKA_IS_AWAY,
    KEY,
    MONGO_IS_AWAY,
    NEXT_KEY,
    OA_ID,
    FakePublisher,
    FakeSpool,
    Reply,
    as_raw,
    call,
    payload,
    payload_files,
    signature_of,
    signed,
)


class Intake:
    """The real application with fakes instead of Kafka and MongoDB."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        config = folder / "zalo.json"
        config.write_text(
            json.dumps(
                {
                    "apps": [{"app_id": APP_ID, "app_secret": "x", "oa_secret_keys": [KEY, NEXT_KEY]}],
                    "pages": [{"page": "tan-chanh-hiep", "oa_id": OA_ID, "app_id": APP_ID}],
                }
            )
        )
        self.publisher = FakePublisher()
        self.spool = FakeSpool()
        chosen = IntakeSettings.model_validate({"zalo_config_file": config, "mongo_driver": "pymongo", **settings})
        self.app = build_app(chosen, publisher=self.publisher, spool=self.spool)

    async def post(self, raw: bytes, headers: Any = None, **more: Any) -> Reply:
        reply = await call(self.app, raw=raw, headers=signed(raw) if headers is None else headers, **more)
        assert reply is not None
        return reply


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    return Intake(tmp_path)


RAW = as_raw(payload("user_send_text"))


def counted(code: str) -> float:
    return sum(
        sample.value
        for metric in REGISTRY.collect()
        if metric.name == "hub_intake_webhooks"
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["code"] == code
    )


@pytest.mark.parametrize("name", [file.stem for file in payload_files()])
async def test_every_event_of_the_catalogue_is_answered_200_with_its_code(intake: Intake, name: str) -> None:
    reply = await intake.post(as_raw(payload(name)))

    assert reply.status == 200
    assert "." in reply.code
    assert intake.publisher.published


async def test_a_message_is_published_under_its_citizen(intake: Intake) -> None:
    await intake.post(RAW)

    ((topic, event),) = intake.publisher.published
    assert topic.name == "citizen.messages.v1"
    assert event.partition_key == f"{OA_ID}:{payload('user_send_text')['sender']['id']}"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_tool_that_checks_the_address_gets_a_plain_answer(intake: Intake, method: str) -> None:
    reply = await call(intake.app, method=method)

    assert reply is not None
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "QUERY"])
async def test_other_methods_are_refused(intake: Intake, method: str) -> None:
    reply = await intake.post(RAW, method=method)

    assert (reply.status, reply.code) == (405, "method.not_allowed")
    assert reply.headers["allow"] == "POST, GET, HEAD"


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "GZIP", "x"])
async def test_an_encoded_body_is_refused(intake: Intake, encoding: str) -> None:
    reply = await intake.post(RAW, signed(RAW, **{"content-encoding": encoding}))

    assert (reply.status, reply.code) == (415, "body.encoding_refused")


async def test_an_identity_encoding_is_no_encoding(intake: Intake) -> None:
    assert (await intake.post(RAW, signed(RAW, **{"content-encoding": "identity"}))).status == 200


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_refused_whether_declared_or_not(intake: Intake, declared: bool) -> None:
    raw = b'{"a":"' + b"x" * 5_000_000 + b'"}'
    headers = signed(raw, **({"content-length": str(len(raw))} if declared else {}))

    reply = await intake.post(raw, headers)

    assert (reply.status, reply.code) == (413, "body.too_large")
    assert reply.headers["connection"] == "close"
    assert intake.publisher.calls == 0


async def test_a_body_of_exactly_the_limit_is_taken(intake: Intake) -> None:
    raw = RAW[:-1] + b" " * (524_288 - len(RAW)) + b"}"

    assert len(raw) == 524_288
    assert (await intake.post(raw)).status == 200


async def test_a_body_that_never_ends_is_given_up_after_the_deadline(tmp_path: Path) -> None:
    intake = Intake(tmp_path, body_read_seconds=0.05)

    reply = await intake.post(RAW, ends_with="silence")

    assert (reply.status, reply.code) == (408, "body.too_slow")


async def test_a_refused_sender_that_goes_silent_does_not_hold_the_connection(tmp_path: Path) -> None:
    intake = Intake(tmp_path, body_read_seconds=0.05)

    reply = await intake.post(RAW, {}, ends_with="silence")

    assert (reply.status, reply.code) == (401, "signature.missing")


async def test_a_sender_that_breaks_off_is_counted_and_not_answered(intake: Intake) -> None:
    before = counted("body.broken_off")

    assert await call(intake.app, raw=RAW, headers=signed(RAW), ends_with="disconnect") is None
    assert counted("body.broken_off") == before + 1


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "signature.missing"),
        ({"x-zevent-signature": ""}, "signature.malformed"),
        ({"x-zevent-signature": "mac=zz"}, "signature.malformed"),
        ({"x-zevent-signature": "mac=" + "a" * 10_000}, "signature.malformed"),
        ({"x-zevent-signature": "mac=" + "a" * 64}, "signature.mismatch"),
        ({"x-zevent-signature": "mac=" + "a" * 64, "x-zevent-timestamp": "\xff\xfe"}, "signature.mismatch"),
        ([("x-zevent-signature", b"\xc3\xa9\xff")], "signature.malformed"),
        ([("x-zevent-signature", "mac=" + "a" * 64), ("x-zevent-signature", "mac=" + "b" * 64)], "signature.malformed"),
    ],
)
async def test_what_zalo_did_not_sign_is_refused_with_its_reason(intake: Intake, headers: Any, code: str) -> None:
    before = counted(code)

    reply = await intake.post(RAW, headers)

    assert (reply.status, reply.code) == (401, code)
    assert counted(code) == before + 1
    assert intake.publisher.calls == 0


async def test_a_signature_over_the_oa_id_is_refused_and_counted(intake: Intake) -> None:
    headers = {"x-zevent-signature": signature_of(RAW, first=OA_ID, timestamp="7"), "x-zevent-timestamp": "7"}

    reply = await intake.post(RAW, headers)

    assert (reply.status, reply.code) == (401, "signature.oa_id_variant")


async def test_a_template_receipt_is_known_by_its_server(intake: Intake) -> None:
    raw = as_raw(payload("user_received_message"))

    reply = await intake.post(raw, signed(raw, **{"x-zevent-server": "ZNS"}))

    assert reply.code == "template.delivered"


@pytest.mark.parametrize("repeat", ["1", "5", "-1", "", "x", "9" * 500, "1e9", "\xb2"])
async def test_the_repeat_number_is_never_a_reason_for_anything(intake: Intake, repeat: str) -> None:
    reply = await intake.post(RAW, signed(RAW, num_retry=repeat))

    assert (reply.status, reply.code) == (200, "message.accepted")


async def test_a_repeated_webhook_makes_the_same_event(intake: Intake) -> None:
    await intake.post(RAW)
    await intake.post(RAW, signed(RAW, num_retry="1"))

    first, second = (event.event_id for _, event in intake.publisher.published)
    assert first == second


async def test_without_kafka_the_webhook_is_kept_in_the_spool(intake: Intake) -> None:
    intake.publisher.failure = KAFKA_IS_AWAY

    assert (await intake.post(RAW)).status == 200
    assert len(intake.spool.added) == 1


async def test_without_kafka_and_mongo_the_sender_is_told_to_come_again(intake: Intake) -> None:
    intake.publisher.failure, intake.spool.failure = KAFKA_IS_AWAY, MONGO_IS_AWAY

    reply = await intake.post(RAW)

    assert (reply.status, reply.code) == (503, "hub.unavailable")


async def test_a_fault_of_the_normalisation_keeps_the_body_as_a_record(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr("services.intake.handlers.webhooks.decide", broken)

    reply = await intake.post(RAW)

    assert (reply.status, reply.code) == (200, "event.normalisation_failed")
    ((topic, event),) = intake.publisher.published
    assert topic.name == "webhook.records.v1"
    assert event.model_dump()["reason"] == "event.normalisation_failed"


async def test_no_text_and_no_phone_number_is_logged(intake: Intake, capsys: pytest.CaptureFixture[str]) -> None:
    for file in payload_files():
        await intake.post(as_raw(payload(file.stem)))

    printed = "".join(capsys.readouterr())
    assert "webhook.accepted" in printed
    for secret in ("căn cước", "84900000123", "Nguyễn Văn An", "Tô Ký", KEY):
        assert secret not in printed
