"""What intake's tests share: a Zalo configuration, payloads, fakes and an in-process HTTP caller."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from services.intake.channels.zalo.normalise import Webhook, decide
from services.intake.domain import Decision, Outgoing
from shared.errors import BrokerUnavailable, StoreUnavailable
from shared.events import Event
from shared.topics import Topic
from shared.zalo_config import ZaloApp, ZaloConfig, ZaloPage

PAYLOADS = Path(__file__).resolve().parents[2] / "payloads" / "zalo"
APP_ID, OTHER_APP_ID = "1000000000000000001", "1000000000000000002"
OA_ID, OTHER_OA_ID = "4000000000000000008", "4000000000000000099"
USER_ID = "2000000000000000417"
KEY, NEXT_KEY, OTHER_KEY = "khoa-bi-mat-1", "khoa-bi-mat-2", "khoa-cua-app-khac"
RECEIVED_AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)

ZALO = ZaloConfig(
    apps=(
        ZaloApp(app_id=APP_ID, app_secret=SecretStr("x"), oa_secret_keys=(SecretStr(KEY), SecretStr(NEXT_KEY))),
        ZaloApp(app_id=OTHER_APP_ID, app_secret=SecretStr("x"), oa_secret_keys=(SecretStr(OTHER_KEY),)),
    ),
    pages=(
        ZaloPage(page="tan-chanh-hiep", oa_id=OA_ID, app_id=APP_ID),
        ZaloPage(page="other-app", oa_id=OTHER_OA_ID, app_id=OTHER_APP_ID),
    ),
)
PAGES = {page.oa_id: page for page in ZALO.pages}


def payload_files() -> list[Path]:
    return sorted(PAYLOADS.glob("*.json"))


def payload(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def as_raw(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()


def decided(body: Any, *, app_id: str = APP_ID, is_template_server: bool = False, signed_at: str = "1") -> Decision:
    webhook = Webhook(as_raw(body), app_id, signed_at, is_template_server, RECEIVED_AT)
    return decide(webhook, PAGES)


def the_event(decision: Decision) -> Any:
    (outgoing,) = decision.outgoing
    return outgoing.event


def signature_of(raw: bytes, *, first: str = APP_ID, timestamp: str = "1764000000000", key: str = KEY) -> str:
    """Zalo's signature as its documents describe it; shares no code with the product."""
    return hashlib.sha256(b"".join((first.encode(), raw, timestamp.encode(), key.encode()))).hexdigest()


@dataclass
class FakePublisher:
    """Takes events until it is told to fail or to hang."""

    published: list[tuple[Topic, Event]] = field(default_factory=list)
    failure: Exception | None = None
    hangs: bool = False
    calls: int = 0

    async def publish(self, topic: Topic, event: Event) -> None:
        self.calls += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        self.published.append((topic, event))


@dataclass
class FakeSpool:
    """Takes events until it is told to fail."""

    added: list[Outgoing] = field(default_factory=list)
    failure: Exception | None = None
    calls: int = 0

    async def add(self, outgoing: Sequence[Outgoing], received_at: datetime) -> None:
        assert received_at.tzinfo is not None
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        self.added.extend(outgoing)


@dataclass
class FakeParking:
    """Keeps what can never be published."""

    parked: list[tuple[Outgoing, str]] = field(default_factory=list)

    async def park(self, outgoing: Outgoing, reason: str) -> None:
        self.parked.append((outgoing, reason))


KAFKA_IS_AWAY = BrokerUnavailable("KafkaTimeoutError")
MONGO_IS_AWAY = StoreUnavailable("ServerSelectionTimeoutError")


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        code: str = json.loads(self.body)["code"]
        return code


def chunks_of(raw: bytes, size: int = 65_536) -> Iterator[bytes]:
    for start in range(0, max(1, len(raw)), size):
        yield raw[start : start + size]


async def call(
    app: Any,
    *,
    raw: bytes = b"",
    headers: Mapping[str, str] | Sequence[tuple[str, str | bytes]] = (),
    method: str = "POST",
    path: str = "/webhooks/zalo",
    ends_with: str = "body",
) -> Reply | None:
    """Call an ASGI app as a server does.

    The body `ends_with` its end ("body"), or with "silence" that lasts, or with a "disconnect".
    """
    parts = list(chunks_of(raw))
    is_whole = ends_with == "body"
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if parts:
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts) or not is_whole}
        if ends_with == "silence":
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    pairs = headers.items() if isinstance(headers, Mapping) else headers
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [
            (name.lower().encode("latin-1"), value if isinstance(value, bytes) else value.encode("latin-1"))
            for name, value in pairs
        ],
    }
    await app(scope, receive, send)
    if not sent:
        return None
    start = sent[0]
    return Reply(
        status=start["status"],
        headers={name.decode(): value.decode() for name, value in start["headers"]},
        body=b"".join(message.get("body", b"") for message in sent[1:]),
    )


def signed(raw: bytes, *, timestamp: str = "1764000000000", **more: str) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "x-zevent-signature": "mac=" + signature_of(raw, timestamp=timestamp),
        "x-zevent-timestamp": timestamp,
        **more,
    }


async def until(condition: Callable[[], bool], *, within_seconds: float = 15.0) -> None:
    """Wait until something is true; fails when it does not become so."""
    async with asyncio.timeout(within_seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.002)
