"""HTTP edge: takes one request in, within its limits, and hands it to the handler. A raw ASGI callable, for speed."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from services.intake.channels.zalo.signature import NotVerified
from services.intake.domain import Disposition
from services.intake.handlers.webhooks import Answer, Delivery, WebhookDeps, accept_webhook, refused
from services.intake.metrics import WEBHOOKS
from shared.telemetry import get_logger

log = get_logger()

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

PATH = "/webhooks/zalo"

DRAINED_BYTES = 8 * 1024 * 1024
"""After an early answer this much of the body is still read and dropped, within the read deadline: closing at once
would reset the connection, and the sender would never see why."""

_READY_TEXT = b"Binh Yen webhook: send events with POST.\n"


class _Gone(Exception):
    """The sender closed the connection before the body was complete."""


class _TooLarge(Exception):
    """The body is over the limit."""


class WebhookEndpoint:
    """`POST /webhooks/zalo`, for all pages. A GET is answered, since tools that check the address may send one."""

    def __init__(self, deps: WebhookDeps, *, body_limit_bytes: int, body_read_seconds: float) -> None:
        self._deps = deps
        self._body_limit_bytes = body_limit_bytes
        self._body_read_seconds = body_read_seconds

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request. Every answer to a POST is JSON with a reason code."""
        began_at = time.monotonic()
        method = scope["method"]
        if method in ("GET", "HEAD"):
            WEBHOOKS.labels(Disposition.IGNORED, "method.get").inc()
            await _reply(send, 200, _READY_TEXT, content_type=b"text/plain; charset=utf-8")
            return
        headers = _headers(scope)
        early = self._judge_head(method, headers)
        if isinstance(early, Answer):
            await self._refuse_early(early, receive, send, began_at)
            return
        try:
            async with asyncio.timeout(self._body_read_seconds):
                raw = await self._read(receive)
        except _TooLarge:
            await self._refuse_early(self._too_large(), receive, send, began_at)
        except TimeoutError:
            answer = refused(408, "body.too_slow", f"The body took longer than {self._body_read_seconds:g} s.")
            await _reply(send, answer.status, _json(answer), close=True)
        except _Gone:
            refused(499, "body.broken_off", "")
        else:
            delivery = Delivery(
                raw=raw,
                signature=early,
                timestamp_headers=headers.get(b"x-zevent-timestamp", ()),
                repeat=_first(headers, b"num_retry") or _first(headers, b"num-retry"),
                server=_first(headers, b"x-zevent-server"),
                began_at=began_at,
            )
            answer = await accept_webhook(delivery, self._deps)
            await _reply(send, answer.status, _json(answer))

    def _judge_head(self, method: str, headers: Mapping[bytes, list[bytes]]) -> bytes | Answer:
        """Judge what can be judged before the body.

        Returns:
            The signature, or the refusal.
        """
        if method != "POST":
            return refused(405, "method.not_allowed", "Send events with POST.")
        encodings = b",".join(headers.get(b"content-encoding", ())).strip().lower()
        if encodings not in (b"", b"identity"):
            return refused(415, "body.encoding_refused", "Send the body as it is, without content encoding.")
        length = _first(headers, b"content-length").strip()
        if length.isdigit() and (len(length) > 15 or int(length) > self._body_limit_bytes):
            return self._too_large()
        signature = self._deps.signatures.read_header(headers.get(b"x-zevent-signature", ()))
        if isinstance(signature, NotVerified):
            return refused(401, signature.code, "X-ZEvent-Signature: mac=<sha256 hex> is needed.")
        return signature

    def _too_large(self) -> Answer:
        return refused(413, "body.too_large", f"At most {self._body_limit_bytes} bytes.")

    async def _read(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        total = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            part = message.get("body", b"")
            total += len(part)
            if total > self._body_limit_bytes:
                raise _TooLarge
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    async def _refuse_early(self, answer: Answer, receive: Receive, send: Send, began_at: float) -> None:
        """Answer at once, then drop what is still coming, so that the answer arrives."""
        body = _json(answer)
        await send(_start(answer.status, body, b"application/json", close=True))
        await send({"type": "http.response.body", "body": body, "more_body": True})
        remaining_seconds = self._body_read_seconds - (time.monotonic() - began_at)
        try:
            async with asyncio.timeout(max(0.0, remaining_seconds)):
                await _drain(receive)
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drain(receive: Receive) -> None:
    dropped = 0
    more = True
    while more and dropped < DRAINED_BYTES:
        message = await receive()
        dropped += len(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)


def _headers(scope: Mapping[str, Any]) -> dict[bytes, list[bytes]]:
    headers: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.lower(), []).append(value)
    return headers


def _first(headers: Mapping[bytes, list[bytes]], name: bytes) -> bytes:
    values = headers.get(name)
    return values[0] if values else b""


def _json(answer: Answer) -> bytes:
    return json.dumps({"code": answer.code, "message": answer.message}).encode()


def _start(status: int, body: bytes, content_type: bytes, *, close: bool) -> dict[str, Any]:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    if status == 405:
        headers.append((b"allow", b"POST, GET, HEAD"))
    if close:
        headers.append((b"connection", b"close"))
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _reply(
    send: Send, status: int, body: bytes, *, content_type: bytes = b"application/json", close: bool = False
) -> None:
    await send(_start(status, body, content_type, close=close))
    await send({"type": "http.response.body", "body": body})
