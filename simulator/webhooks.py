"""Webhooks: signed once, sent with a deadline, repeated on a ladder, given up together with the app's subscription."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import aiohttp
import orjson

from simulator.clock import Clock, iso
from simulator.log import Log
from simulator.moods import Moods
from simulator.world import App

RETRY_WAITS_SECONDS = (30.0, 300.0, 900.0, 1800.0, 3600.0)

# acknowledged: HTTP 200 in time; the next three are failures that climb the ladder; the last three were never sent.
Outcome = Literal["acknowledged", "refused", "timeout", "unreachable", "unsubscribed", "silenced", "no_url"]
_FAILURES = frozenset({"refused", "timeout", "unreachable"})


def sign(app_id: str, body: bytes, timestamp: str, secret_key: str) -> str:
    """The value of X-ZEvent-Signature: SHA-256 over the plain concatenation, not an HMAC."""
    digest = hashlib.sha256(app_id.encode())
    digest.update(body)
    digest.update(timestamp.encode())
    digest.update(secret_key.encode())
    return "mac=" + digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one sending of an event ended."""

    outcome: Outcome
    status: int
    attempts: int
    ack_ms: float
    retry_in_seconds: float | None = None

    def public(self) -> dict[str, Any]:
        """The shape in answers of the control API."""
        return {
            "outcome": self.outcome,
            "status": self.status or None,
            "attempts": self.attempts,
            "ack_ms": self.ack_ms,
            "retry_in_seconds": self.retry_in_seconds,
        }


@dataclass(slots=True)
class Delivery:
    """One event on its way; body and signature stay the same over all attempts."""

    app: App
    event_name: str
    oa_id: str
    user_id: str
    msg_id: str
    text: str
    body: bytes
    headers: dict[str, str]
    attempts: int = 0
    first: asyncio.Future[Attempt] | None = None
    on_attempt: Callable[[Attempt], None] | None = None
    held: bool = False

    @property
    def lane(self) -> tuple[str, str]:
        """Events of one lane start one after another: one person on one page."""
        return (self.oa_id, self.user_id)


@dataclass(slots=True)
class _Lane:
    waiting: deque[Delivery] = field(default_factory=deque)
    busy: bool = False
    held: Delivery | None = None


class WebhookSender:
    """Sends events of all apps with bounded concurrency; a person's own events start in the order they happened."""

    def __init__(
        self,
        *,
        clock: Clock,
        log: Log,
        moods: Moods,
        concurrency: int,
        timeout_seconds: float,
        time_scale: float,
        retry_on: Literal["any_failure", "connection_failure"],
    ) -> None:
        self._clock = clock
        self._log = log
        self._moods = moods
        self._concurrency = concurrency
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self.time_scale = time_scale
        self._retry_on = retry_on
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._ready: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._retries: dict[int, tuple[asyncio.TimerHandle, Delivery]] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self.in_flight = 0

    async def start(self) -> None:
        """Open connections lazily; start the workers now."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._concurrency * 2, keepalive_timeout=20),
            timeout=self._timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._concurrency)]

    async def stop(self) -> None:
        """Stop sending; events that wait for a retry are given up."""
        for timer, _ in self._retries.values():
            timer.cancel()
        self._retries.clear()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._workers = []
        if self._session is not None:
            await self._session.close()
            self._session = None

    def prepare(self, app: App, event: dict[str, Any], *, oa_id: str, user_id: str) -> Delivery:
        """Serialise and sign an event; its `timestamp` member is the one that is signed."""
        body = bytes(
            memoryview(orjson.dumps(event))
        )  # an exact copy: thousands may wait, orjson's buffer is far longer
        timestamp = str(event.get("timestamp", ""))
        message = event.get("message")
        message = message if isinstance(message, dict) else {}
        return Delivery(
            app=app,
            event_name=str(event.get("event_name", "")),
            oa_id=oa_id,
            user_id=user_id,
            msg_id=str(message.get("msg_id", "")),
            text=str(message.get("text", "")),
            body=body,
            headers={
                "Content-Type": "application/json",
                "X-ZEvent-Timestamp": timestamp,
                "X-ZEvent-Signature": sign(app.app_id, body, timestamp, app.signing_key),
            },
        )

    def enqueue(self, delivery: Delivery) -> None:
        """Send an event after the earlier ones of the same person."""
        lane = self._lane(delivery.lane)
        lane.waiting.append(delivery)
        if lane.held is not None:
            lane.waiting.append(lane.held)
            lane.held = None
        self._wake(delivery.lane, lane)

    async def deliver(self, delivery: Delivery) -> Attempt:
        """Send an event and wait for the end of its first attempt."""
        delivery.first = asyncio.get_running_loop().create_future()
        self.enqueue(delivery)
        return await delivery.first

    @property
    def waiting_for_retry(self) -> int:
        """How many events wait on the ladder."""
        return len(self._retries)

    @property
    def queued(self) -> int:
        """How many events wait for their turn."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def retry_now(self) -> int:
        """Send all events that wait on the ladder at once, in the order they joined it."""
        waiting = list(self._retries.values())
        self._retries.clear()
        for timer, delivery in waiting:
            timer.cancel()
            self.enqueue(delivery)
        return len(waiting)

    def forget_all(self) -> None:
        """Drop everything that was not sent yet."""
        for timer, _ in self._retries.values():
            timer.cancel()
        self._retries.clear()
        for lane in self._lanes.values():
            lane.waiting.clear()
            lane.held = None

    def _lane(self, key: tuple[str, str]) -> _Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
        return lane

    def _wake(self, key: tuple[str, str], lane: _Lane) -> None:
        if not lane.busy and lane.waiting:
            lane.busy = True
            self._ready.put_nowait(key)

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            lane = self._lanes[key]
            if lane.waiting:
                self.in_flight += 1
                try:
                    await self._send(lane, lane.waiting.popleft())
                finally:
                    self.in_flight -= 1
            lane.busy = False
            self._wake(key, lane)
            if not lane.busy and lane.held is None:
                del self._lanes[key]

    async def _send(self, lane: _Lane, delivery: Delivery) -> None:
        moods = (
            {}
            if not self._moods.active or delivery.attempts or delivery.held
            else {
                mood.request.mood: mood.request for mood in self._moods.for_webhook(delivery.event_name, delivery.oa_id)
            }
        )
        if late := moods.get("webhook_late"):
            delivery.held = True
            asyncio.get_running_loop().call_later(late.seconds, self.enqueue, delivery)
            return
        if (reordered := moods.get("webhook_reordered")) and lane.held is None:
            self._hold_back(lane, delivery, reordered.seconds)
            return
        delivery.attempts += 1
        if "webhook_silent" in moods:
            attempt = Attempt("silenced", 0, delivery.attempts, 0.0)
        else:
            attempt = await self._attempt(delivery)
        if attempt.outcome in _FAILURES:
            attempt = self._climb(delivery, attempt)
        self._record(delivery, attempt)
        if attempt.outcome in _FAILURES:
            return
        if "webhook_duplicate" in moods:
            self.enqueue(delivery)

    def _hold_back(self, lane: _Lane, delivery: Delivery, seconds: float) -> None:
        """Let the person's next event overtake this one; without a next one it goes out after a while."""
        delivery.held = True
        if lane.waiting:
            lane.waiting.insert(1, delivery)
            return
        lane.held = delivery

        def release() -> None:
            if lane.held is delivery:
                lane.held = None
                lane.waiting.append(delivery)
                self._wake(delivery.lane, lane)

        asyncio.get_running_loop().call_later(seconds, release)

    async def _attempt(self, delivery: Delivery) -> Attempt:
        if not delivery.app.subscribed:
            return Attempt("unsubscribed", 0, delivery.attempts, 0.0)
        if not delivery.app.webhook_url:
            return Attempt("no_url", 0, delivery.attempts, 0.0)
        headers = delivery.headers
        if delivery.attempts > 1:
            headers = {**headers, "num_retry": str(delivery.attempts - 1)}
        outcome: Outcome
        status = 0
        started = time.perf_counter()
        try:
            status = await self._post(delivery.app.webhook_url, delivery.body, headers)
            outcome = "acknowledged" if status == 200 else "refused"
        except TimeoutError:
            outcome = "timeout"
        except (aiohttp.ClientError, OSError):
            outcome = "unreachable"
        return Attempt(outcome, status, delivery.attempts, round((time.perf_counter() - started) * 1000, 2))

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        if self._session is None:
            raise OSError("the sender is not running")
        async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
            return answer.status

    def _record(self, delivery: Delivery, attempt: Attempt) -> None:
        self._log.add(
            kind="webhook",
            at=iso(self._clock.now_ms()),
            event_name=delivery.event_name,
            msg_id=delivery.msg_id,
            app_id=delivery.app.app_id,
            oa_id=delivery.oa_id,
            user_id=delivery.user_id,
            text=delivery.text,
            outcome=attempt.outcome,
            status=attempt.status,
            attempt=attempt.attempts,
            num_retry=attempt.attempts - 1,
            ack_ms=attempt.ack_ms,
        )
        if delivery.first is not None and not delivery.first.done():
            delivery.first.set_result(attempt)
        if delivery.on_attempt is not None:
            delivery.on_attempt(attempt)

    def _climb(self, delivery: Delivery, attempt: Attempt) -> Attempt:
        """Plan the next attempt of a failed one, or give up; the answer says how long the wait will be."""
        if self._retry_on == "connection_failure" and attempt.outcome == "refused":
            return attempt
        if delivery.attempts > len(RETRY_WAITS_SECONDS):
            delivery.app.subscribed = False
            return attempt
        wait = RETRY_WAITS_SECONDS[delivery.attempts - 1] * self.time_scale
        key = id(delivery)
        self._retries[key] = (asyncio.get_running_loop().call_later(wait, self._fire, key), delivery)
        return replace(attempt, retry_in_seconds=wait)

    def _fire(self, key: int) -> None:
        _, delivery = self._retries.pop(key)
        self.enqueue(delivery)

    async def check(self, app: App) -> Attempt:
        """What the console does when a URL is saved: one signed sample whose people do not exist, no repetition."""
        event = {
            "app_id": app.app_id,
            "user_id_by_app": "3000000000000000000",
            "event_name": "user_send_text",
            "timestamp": str(self._clock.now_ms()),
            "sender": {"id": "2000000000000000000"},
            "recipient": {"id": "4999999999999999999"},
            "message": {"msg_id": "This is message id", "text": "This is testing message"},
        }
        delivery = self.prepare(app, event, oa_id="4999999999999999999", user_id="2000000000000000000")
        delivery.attempts = 1
        was_subscribed, app.subscribed = app.subscribed, True
        attempt = await self._attempt(delivery)
        app.subscribed = was_subscribed
        self._record(delivery, attempt)
        return attempt
