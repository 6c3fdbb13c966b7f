"""Many POST requests at once over kept connections, as cheaply as Python can: the transport of broadcasts.

One request is some bytes prepared by the caller, written to an idle connection, and one future; no task, no session,
no header objects. That makes about three times the calls of aiohttp's client on one core. Nothing here tries anything
again, and each answer says whether the request can have been taken: `NotWritten` proves that it was not.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast
from urllib.parse import urlsplit

import httptools

MAX_ANSWER_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class NotWritten:
    """Not one byte of the request went out."""

    why: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The request, or a part of it, went out; what became of it nobody knows."""

    why: str


Outcome: TypeAlias = Answer | NotWritten | NoAnswer


class _Batch:
    """Requests that wait for a connection, and their outcomes."""

    def __init__(self, requests: Sequence[bytes]) -> None:
        self.waiting = deque(enumerate(requests))
        self.outcomes: list[Outcome | None] = [None] * len(requests)
        self.busy: set[_Connection] = set()
        self._missing = len(requests)
        self._moved: asyncio.Future[None] | None = None

    def give(self, number: int, outcome: Outcome) -> None:
        """Note the outcome of one request."""
        self.outcomes[number] = outcome
        self._missing -= 1
        self.wake()

    @property
    def is_over(self) -> bool:
        """Whether every request has its outcome."""
        return not self._missing

    @property
    def is_starved(self) -> bool:
        """Whether requests wait and no connection works for them."""
        return bool(self.waiting) and not self.busy

    def wake(self) -> None:
        """Let the one who waits look, where there is something to do."""
        if self._moved is not None and not self._moved.done() and (self.is_over or self.is_starved):
            self._moved.set_result(None)

    async def until_moved(self, timeout_seconds: float) -> None:
        """Wait until all is over, until nobody works on what waits, or for so long."""
        if not self.is_over and not self.is_starved:
            self._moved = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._moved], timeout=timeout_seconds)


class _Connection(asyncio.Protocol):
    """One connection: at most one request under way."""

    def __init__(self, pool: "BulkConnections") -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._batch: _Batch | None = None
        self._number = -1
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._is_complete = False
        self._keeps = False
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        """Whether a request can be written."""
        return self._transport is not None and not self._transport.is_closing()

    def send_next(self, batch: _Batch) -> bool:
        """Write the next waiting request of a batch; False if none waits."""
        if self._transport is None or not batch.waiting:
            return False
        self._number, request = batch.waiting.popleft()
        self._batch = batch
        batch.busy.add(self)
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._body, self._is_complete, self._keeps = {}, bytearray(), False, False
        self._transport.write(request)
        return True

    def give_up(self, why: str) -> None:
        """The time is over: what is under way here has no answer."""
        self._end(NoAnswer(why))
        self.close()

    def close(self) -> None:
        """Close it; what is under way has no answer."""
        if self._transport is not None:
            self._transport.close()

    def _end(self, outcome: Outcome) -> None:
        batch, self._batch = self._batch, None
        if batch is not None:
            batch.busy.discard(self)
            batch.give(self._number, outcome)

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so
        self.idle_since = time.monotonic()

    def data_received(self, data: bytes) -> None:
        """Read as much of the answer as there is."""
        batch = self._batch
        if batch is None or self._parser is None:
            self.close()  # an answer to no question: whatever it is, this connection is out of step
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(NoAnswer(type(error).__name__))
            self.close()
            return
        if len(self._body) > MAX_ANSWER_BYTES:
            self._end(NoAnswer("answer too long"))
            self.close()
        elif self._is_complete:
            answer = Answer(self._parser.get_status_code(), self._headers, bytes(self._body))
            number, self._batch = self._number, None
            batch.busy.discard(self)
            if not self._keeps:
                self.close()
            elif not self.send_next(batch):
                self._pool.rest(self)
            batch.give(number, answer)

    def connection_lost(self, error: Exception | None) -> None:
        """What was under way has no answer."""
        self._end(NoAnswer(type(error).__name__ if error is not None else "closed"))
        self._transport = None
        self._pool.forget(self)

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Note a part of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """The answer is whole; only now the parser still knows whether the connection stays."""
        self._is_complete = True
        self._keeps = self._parser is not None and self._parser.should_keep_alive()


class BulkConnections:
    """Kept connections to one server.

    Args:
        url: of the server; its path is ignored.
        connections: the most at once, for all batches together.
        connect_timeout_seconds: of one connection.
        idle_seconds: a connection that rested longer is not used again: the server may be just closing it.
    """

    def __init__(self, url: str, *, connections: int, connect_timeout_seconds: float, idle_seconds: float) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._is_tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._is_tls else 80)
        self._ssl = ssl.create_default_context() if self._is_tls else None
        self._limit = connections
        self._connect_timeout = connect_timeout_seconds
        self._idle_seconds = idle_seconds
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._connecting = 0

    async def post(self, requests: Sequence[bytes], *, timeout_seconds: float) -> list[Outcome]:
        """Send whole HTTP/1.1 requests and wait for all answers.

        Args:
            requests: each with its headers, `Content-Length` among them.
            timeout_seconds: for all of them together; what has no answer by then has none.

        Returns:
            One outcome for each request, in order.
        """
        batch = _Batch(requests)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while not batch.is_over and loop.time() < deadline:
            self._start_on_idle(batch)
            why = await self._connect_more(batch) if batch.waiting else ""
            if batch.is_starved:  # no connection could be made
                for number, _ in batch.waiting:
                    batch.outcomes[number] = NotWritten(why)
                break
            await batch.until_moved(deadline - loop.time())
        for connection in list(batch.busy):
            connection.give_up("TimeoutError")
        return [outcome or NotWritten("no time left") for outcome in batch.outcomes]

    def _start_on_idle(self, batch: _Batch) -> None:
        now = time.monotonic()
        while self._idle and batch.waiting:
            connection = self._idle.pop()
            if not connection.is_open or now - connection.idle_since > self._idle_seconds:
                connection.close()
                continue
            connection.send_next(batch)

    async def _connect_more(self, batch: _Batch) -> str:
        """Open connections for the requests that wait, as far as the limit allows; why none could be made."""
        wanted = min(len(batch.waiting), self._limit - len(self._all) - self._connecting)
        if wanted <= 0:
            # A batch must be able to move, even while others hold all connections.
            wanted = 0 if batch.busy else 1
        self._connecting += wanted
        try:
            made = await asyncio.gather(*(self._connect() for _ in range(wanted)), return_exceptions=True)
        finally:
            self._connecting -= wanted
        why = ""
        for one in made:
            if isinstance(one, BaseException):
                why = type(one).__name__
                continue
            self._all.add(one)
            if not one.send_next(batch):
                self.rest(one)
        return why

    async def _connect(self) -> _Connection:
        async with asyncio.timeout(self._connect_timeout):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), self._host, self._port, ssl=self._ssl
            )
        return connection

    def rest(self, connection: _Connection) -> None:
        """Keep a connection for the next batch."""
        if connection.is_open:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)

    def forget(self, connection: _Connection) -> None:
        """A connection is closed."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    async def close(self) -> None:
        """Close all connections."""
        for connection in list(self._all):
            connection.close()
        await asyncio.sleep(0)
