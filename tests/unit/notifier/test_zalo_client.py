"""The Zalo client over a real socket: what each way of going wrong proves."""

import asyncio
import hashlib
import hmac
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from services.notifier.adapters.zalo import ZaloClient
from services.notifier.domain.outcomes import (
    Accepted,
    NotSent,
    RefreshRefused,
    Refused,
    SendOutcome,
    TokensGranted,
    Unknown,
    Uploaded,
)
from shared.events import ReplyContent
from shared.zalo_config import ZaloConfig
from tests.unit.notifier.fakes import RULES
from tests.unit.notifier.zalo_stub import (
    APP_ID,
    APP_SECRET,
    FIRST_REFRESH_TOKEN,
    Behaviour,
    Call,
    ZaloStub,
    answers,
    loses_the_answer,
    refuses,
)

OA_ID = "4000000000000000008"
TEXT = ReplyContent(text="Chào bác")


def a_client(config: ZaloConfig, *, timeout_seconds: float = 5.0) -> ZaloClient:
    return ZaloClient(
        config, RULES.errors, timeout_seconds=timeout_seconds, connect_timeout_seconds=1.0, connections=10
    )


@pytest.fixture
async def stub() -> AsyncIterator[ZaloStub]:
    async with ZaloStub(checks_tokens=False) as running:
        yield running


@pytest.fixture
async def client(stub: ZaloStub) -> AsyncIterator[ZaloClient]:
    async with a_client(stub.config()) as opened:
        yield opened


async def send(client: ZaloClient, content: ReplyContent = TEXT) -> SendOutcome:
    return await client.send(content, app_id=APP_ID, user_id="u1", access_token="the-token")


async def test_an_accepted_message_has_zalos_id(client: ZaloClient) -> None:
    assert await send(client) == Accepted("zalo-1", "reply")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ('{"error": 0, "data": {"message_id": "m", "quota": {"quota_type": "sub_quota"}}}', Accepted("m", "sub_quota")),
        ('{"error": "0", "data": {"message_id": "m"}}', Accepted("m", None)),
        ('{"error": 0, "data": {"message_id": ""}}', Accepted(None, None)),
        ('{"error": 0}', Accepted(None, None)),
        ('{"data": {"message_id": "m"}}', Unknown("zalo.answer_malformed", "HTTP 200 without an error number")),
        ("[]", Unknown("zalo.answer_malformed", "HTTP 200 without an error number")),
        ("", Unknown("zalo.answer_malformed", "HTTP 200 without an error number")),
        ("<html>", Unknown("zalo.answer_malformed", "HTTP 200 without an error number")),
        ('{"error": true}', Unknown("zalo.answer_malformed", "HTTP 200 without an error number")),
        ('{"error": -9999}', Unknown("zalo.unknown_code", "error -9999")),
    ],
)
async def test_an_answer_means_what_it_says_or_nothing(
    stub: ZaloStub, client: ZaloClient, answer: str, outcome: SendOutcome
) -> None:
    stub.behaviours.append(answers(200, answer))

    assert await send(client) == outcome


@pytest.mark.parametrize("code", [-201, -216, -230, -321])
async def test_an_error_of_the_table_is_a_refusal_with_its_rule(stub: ZaloStub, client: ZaloClient, code: int) -> None:
    stub.behaviours.append(refuses(code, "some text"))

    outcome = await send(client)

    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.rule) == (code, RULES.errors.codes[code].usual)


@pytest.mark.parametrize(
    ("text", "is_page_limit"),
    [("Your application reached limit call api", False), ("Your OA reached limit call api", True)],
)
async def test_the_text_of_a_throttled_call_tells_whose_limit_it_is(
    stub: ZaloStub, client: ZaloClient, text: str, is_page_limit: bool
) -> None:
    stub.behaviours.append(refuses(-32, text))

    outcome = await send(client)

    assert isinstance(outcome, Refused)
    assert outcome.is_page_limit is is_page_limit


async def test_a_throttling_gateway_may_say_how_long(stub: ZaloStub, client: ZaloClient) -> None:
    async def throttle(_: ZaloStub, __: Call) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "7"})

    stub.behaviours.append(throttle)

    outcome = await send(client)

    assert isinstance(outcome, Refused)
    assert (outcome.rule.error_class, outcome.retry_after_seconds) == ("throttled", 7.0)


@pytest.mark.parametrize("status", [301, 400, 408, 500, 502, 503, 504])
async def test_a_status_that_may_follow_an_accepted_message_proves_nothing(
    stub: ZaloStub, client: ZaloClient, status: int
) -> None:
    stub.behaviours.append(answers(status, "gateway"))

    assert await send(client) == Unknown("zalo.http_error", f"HTTP {status}")


async def test_a_connection_that_ends_after_the_request_proves_nothing(stub: ZaloStub, client: ZaloClient) -> None:
    stub.behaviours.append(loses_the_answer)

    outcome = await send(client)

    assert isinstance(outcome, Unknown)
    assert outcome.reason == "zalo.answer_lost"
    assert len(stub.calls) == 1, "the client sent it again"


async def test_an_answer_that_does_not_come_in_time_proves_nothing(stub: ZaloStub) -> None:
    never = asyncio.Event()

    async def hang(_: ZaloStub, __: Call) -> None:
        await never.wait()

    stub.usual = hang
    async with a_client(stub.config(), timeout_seconds=0.2) as client:
        assert await send(client) == Unknown("zalo.answer_lost", "TimeoutError")
    never.set()


async def test_a_refused_connection_proves_that_nothing_was_sent() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connecting is refused
        config = ZaloStub(url=f"http://127.0.0.1:{taken.getsockname()[1]}").config()
        async with a_client(config) as client:
            assert isinstance(await send(client), NotSent)


async def test_a_name_that_does_not_exist_proves_that_nothing_was_sent() -> None:
    async with a_client(ZaloStub(url="http://zalo.invalid").config()) as client:
        assert isinstance(await send(client), NotSent)


async def test_a_tls_handshake_that_fails_proves_that_nothing_was_sent(stub: ZaloStub) -> None:
    stub.url = stub.url.replace("http://", "https://")  # the server speaks plain HTTP
    async with a_client(stub.config()) as client:
        assert isinstance(await send(client), NotSent)
    assert stub.calls == []


async def test_a_reused_connection_that_the_server_closed_leads_to_no_second_request(
    stub: ZaloStub, client: ZaloClient
) -> None:
    await send(client)
    stub.behaviours.append(loses_the_answer)
    await send(client)

    assert len(stub.calls) == 2


async def test_an_anonymous_visitor_is_answered_in_their_conversation(stub: ZaloStub, client: ZaloClient) -> None:
    await client.send(TEXT, app_id=APP_ID, user_id="anon", access_token="t", conversation_id="conv")

    assert stub.calls[0].path == "/v2.0/oa/message"
    assert stub.calls[0].body["recipient"] == {"anonymous_id": "anon", "conversation_id": "conv"}


async def test_the_token_travels_in_zalos_own_header(stub: ZaloStub, client: ZaloClient) -> None:
    await send(client)

    headers = stub.calls[0].headers
    assert headers["access_token"] == "the-token"
    assert "Authorization" not in headers
    assert "appsecret_proof" not in headers


async def test_an_app_that_requires_it_gets_the_secret_proof(stub: ZaloStub) -> None:
    async with a_client(stub.config(requires_secret_proof=True)) as client:
        await send(client)

    expected = hmac.new(APP_SECRET.encode(), b"the-token", hashlib.sha256).hexdigest()
    assert stub.calls[0].headers["appsecret_proof"] == expected


@pytest.mark.parametrize(("kind", "handle"), [("image", "picture-id"), ("file", "file-token")])
async def test_an_upload_gives_its_handle(stub: ZaloStub, client: ZaloClient, kind: str, handle: str) -> None:
    outcome = await client.upload(
        kind, b"bytes", filename="a.bin", mime_type="application/pdf", app_id=APP_ID, access_token="t"
    )

    assert outcome == Uploaded(handle)
    assert stub.calls[0].path == f"/v2.0/oa/upload/{kind}"
    assert stub.calls[0].body == ("a.bin", "application/pdf", b"bytes")


async def test_a_refresh_sends_the_form_and_the_secret_and_brings_a_pair(stub: ZaloStub, client: ZaloClient) -> None:
    token = f"{FIRST_REFRESH_TOKEN}-{OA_ID}"

    outcome = await client.refresh(app_id=APP_ID, refresh_token=token)

    assert outcome == TokensGranted(f"access-1-{OA_ID}", f"refresh-1-{OA_ID}", 90_000)
    assert stub.refreshes == [
        {"refresh_token": token, "app_id": APP_ID, "grant_type": "refresh_token", "secret_key": APP_SECRET}
    ]


@pytest.mark.parametrize(("code", "is_final"), [(-14014, True), (-14020, True), (-14002, False), (-14029, False)])
async def test_a_refused_refresh_says_whether_the_token_is_worthless(
    stub: ZaloStub, client: ZaloClient, code: int, is_final: bool
) -> None:
    stub.refresh_behaviours.append(f"refuse{code}")

    assert await client.refresh(app_id=APP_ID, refresh_token="x") == RefreshRefused(code, is_final)


async def test_a_refresh_whose_answer_is_lost_is_unknown(stub: ZaloStub, client: ZaloClient) -> None:
    stub.refresh_behaviours.append("lose")

    outcome = await client.refresh(app_id=APP_ID, refresh_token=f"{FIRST_REFRESH_TOKEN}-{OA_ID}")

    assert isinstance(outcome, Unknown)


BEHAVIOURS: list[Behaviour] = [loses_the_answer, answers(200, "x"), answers(500, ""), refuses(-9_999)]


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_the_client_never_sends_twice(stub: ZaloStub, client: ZaloClient, behaviour: Behaviour) -> None:
    stub.usual = behaviour

    await send(client)

    assert len(stub.calls) == 1
