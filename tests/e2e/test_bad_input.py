"""Everything from outside is hostile: whatever arrives, the running intake answers with a code and goes on."""

import asyncio
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.servers import RunningHub

SEED = 20261124
MUTATIONS = 10_000
PAYLOADS = sorted((Path(__file__).parents[1] / "payloads").rglob("*.json"))


class Zalo:
    """Signs as Zalo does, written from the documentation and not from our code."""

    def __init__(self, hub: RunningHub) -> None:
        assert hub.state.zalo_config is not None
        config = yaml.safe_load(Path(hub.state.zalo_config).read_text("utf-8"))
        self.app_id = config["apps"][0]["app_id"]
        self._key = config["apps"][0]["oa_secret_keys"][0]
        self.oa_id = config["pages"][0]["oa_id"]

    def headers(self, body: bytes, timestamp: str = "1764000000000") -> dict[str, str]:
        mac = hashlib.sha256(self.app_id.encode() + body + timestamp.encode() + self._key.encode()).hexdigest()
        return {
            "Content-Type": "application/json",
            "X-ZEvent-Signature": f"mac={mac}",
            "X-ZEvent-Timestamp": timestamp,
        }

    def text_event(self, **changes: Any) -> dict[str, Any]:
        event: dict[str, Any] = {
            "app_id": self.app_id,
            "sender": {"id": "2000000000000000001"},
            "user_id_by_app": "3000000000000000001",
            "recipient": {"id": self.oa_id},
            "event_name": "user_send_text",
            "message": {"text": "xin chào", "msg_id": "bad-input-1"},
            "timestamp": "1764000000000",
        }
        return event | changes


async def post(http: aiohttp.ClientSession, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    async with http.post(url, data=body, headers=headers) as answer:
        return answer.status, json.loads(await answer.read() or b"null")


@pytest.fixture
def zalo(hub: RunningHub) -> Zalo:
    return Zalo(hub)


async def test_a_wrong_signature_is_refused_with_a_code(hub: RunningHub, zalo: Zalo) -> None:
    body = json.dumps(zalo.text_event()).encode()
    async with aiohttp.ClientSession() as http:
        wrong = zalo.headers(body) | {"X-ZEvent-Signature": "mac=" + "0" * 64}
        status, answer = await post(http, str(hub.state.webhook), body, wrong)
        assert (status, answer["code"]) == (401, "signature.mismatch")

        status, answer = await post(http, str(hub.state.webhook), body, {"Content-Type": "application/json"})
        assert (status, answer["code"]) == (401, "signature.missing")


async def test_a_body_of_five_megabytes_is_refused_before_it_is_read(hub: RunningHub, zalo: Zalo) -> None:
    body = b" " * 5_000_000
    async with aiohttp.ClientSession() as http:
        try:
            status, answer = await post(http, str(hub.state.webhook), body, zalo.headers(body))
        except aiohttp.ClientOSError:
            return  # the server hung up while we were still sending: refused as well
        assert (status, answer["code"]) == (413, "body.too_large")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"event_name": "user_send_text", "message": {"text": "\\ud83d"}}',
        b"\xff\xfe\x00",
        b'{"timestamp": NaN}',
        b'{"timestamp": 1e999}',
        b"null",
        b"1",
        b'"text"',
        b'{"event_name": {"$ne": null}}',
    ],
    ids=lambda body: repr(body[:24]),
)
async def test_signed_nonsense_is_kept_and_never_an_error_to_zalo(hub: RunningHub, zalo: Zalo, body: bytes) -> None:
    async with aiohttp.ClientSession() as http:
        status, answer = await post(http, str(hub.state.webhook), body, zalo.headers(body))

    assert status == 200, answer
    assert answer["code"]


@pytest.mark.parametrize("identifier", [{"$ne": None}, {"$gt": ""}, ["a"], "x" * 10_000, "\u0000", "a b", True, None])
async def test_ids_that_are_not_plain_tokens_never_reach_a_query(
    hub: RunningHub, zalo: Zalo, identifier: object
) -> None:
    for event in (
        zalo.text_event(sender={"id": identifier}),
        zalo.text_event(recipient={"id": identifier}),
        zalo.text_event(message={"text": "a", "msg_id": identifier}),
    ):
        body = json.dumps(event).encode()
        async with aiohttp.ClientSession() as http:
            status, answer = await post(http, str(hub.state.webhook), body, zalo.headers(body))
        assert status == 200
        assert answer["code"]


HOSTILE_VALUES: tuple[Any, ...] = (
    {"$ne": None}, {"$gt": ""}, [], {}, None, True, -1, 2**70, 1e300, "", "x" * 20_000, "\x00", "\u202e", "a b",
    "../..", "' OR 1=1", "<script>alert(1)</script>", [[[[[[]]]]]], "9" * 40, "-1", "99999999999999", "1764000000000",
)  # fmt: skip


def bend(body: bytes, chance: random.Random) -> bytes:
    """Keep it JSON and exchange, drop or double single values: what a parser lets through."""
    event = json.loads(body)
    for _ in range(chance.randint(1, 3)):
        inner, parent = event, event
        while isinstance(inner, dict | list) and inner:
            parent = inner
            key = chance.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
            inner = inner[key]
            if chance.random() < 0.4:
                break
        if not parent:
            break
        if chance.random() < 0.2:
            del parent[key]
        else:
            parent[key] = chance.choice(HOSTILE_VALUES)
    return json.dumps(event).encode()


def mutate(body: bytes, chance: random.Random) -> bytes:
    """Damage a payload as networks, attackers and other people's software do."""
    if chance.random() < 0.5:
        return bend(body, chance)
    data = bytearray(body)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data)) if data else 0
        match chance.randrange(7):
            case 0 if data:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randint(1, 40)]
            case 2:
                data[at:at] = chance.randbytes(chance.randint(1, 8))
            case 3:
                data[at:at] = chance.choice(
                    [b'{"$ne":null}', b"[[[[", b"\\ud800", b"1e400", b"null", b'"', b"-0", b"\x00"]
                )
            case 4:
                data = data[:at]
            case 5:
                data += data[at:]
            case _:
                data = data.replace(b'"', b"'", 1)
    return bytes(data)


@pytest.mark.timeout(600)
async def test_ten_thousand_damaged_payloads_give_no_server_error_and_each_a_code(hub: RunningHub, zalo: Zalo) -> None:
    chance = random.Random(SEED)
    pid = await asyncio.to_thread(hub.pid, "intake")
    codes: dict[tuple[int, str], int] = {}
    originals = [path.read_bytes() for path in PAYLOADS]
    assert len(originals) > 40, "the catalogue's payloads are the seed corpus"
    work: asyncio.Queue[bytes] = asyncio.Queue()
    for number in range(MUTATIONS):
        work.put_nowait(mutate(originals[number % len(originals)], chance))

    async def send(http: aiohttp.ClientSession) -> None:
        while not work.empty():
            body = work.get_nowait()
            status, answer = await post(http, str(hub.state.webhook), body, zalo.headers(body))
            key = (status, str((answer or {}).get("code")))
            codes[key] = codes.get(key, 0) + 1

    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(send(http))

    print(f"\nseed {SEED}:", dict(sorted(codes.items(), key=lambda item: -item[1])))
    assert sum(codes.values()) == MUTATIONS
    assert all(status == 200 and code != "None" for status, code in codes), codes
    assert await asyncio.to_thread(hub.pid, "intake") == pid, "intake must not have died"
