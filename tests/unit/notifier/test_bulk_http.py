"""The transport of broadcasts: what each answer, and each silence, proves. On both event loops that run it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from services.notifier.adapters.bulk_http import Answer, BulkConnections, NoAnswer, NotWritten, Outcome

REQUEST = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n%d"
Serve = Callable[[bytes, int], bytes | None]
"""Answers a request (its body, its number); None closes the connection without an answer, b"" says nothing."""


def ok(body: bytes, _: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\n" + body


connections_made: list[int] = []
"""How many connections the last exchange made."""


async def exchange(serve: Serve, count: int, *, timeout_seconds: float = 5.0, **options: Any) -> list[Outcome]:
    """Send requests to a server that does as it is told."""
    seen = 0
    connections_made[:] = [0]

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        connections_made[0] += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                body = await reader.readexactly(2)
                answer = serve(body, seen)
                seen += 1
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if b"Connection: close" in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    filled = {"connections": 4, "connect_timeout_seconds": 1.0, "idle_seconds": 3.0, **options}
    pool = BulkConnections(f"http://127.0.0.1:{port}", **filled)
    try:
        requests = [REQUEST % (10 + number) for number in range(count)]
        return await pool.post(requests, timeout_seconds=timeout_seconds)
    finally:
        await pool.close()
        server.close()


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[list[Outcome]]], list[Outcome]]:
    def run_it(what: Any) -> list[Outcome]:
        runner: Any = uvloop.run if request.param == "uvloop" else asyncio.run
        return runner(what)  # type: ignore[no-any-return]

    return run_it


def test_each_request_gets_its_own_answer_whatever_the_number_of_connections(run: Any) -> None:
    outcomes = run(exchange(ok, 30))

    assert [outcome.body for outcome in outcomes] == [b"%d" % (10 + number) for number in range(30)]
    assert {(outcome.status, outcome.headers["retry-after"]) for outcome in outcomes} == {(200, "3")}
    assert connections_made == [4], "connections are kept"


def test_a_server_that_closes_after_each_answer_is_connected_again(run: Any) -> None:
    def closing(body: bytes, number: int) -> bytes:
        return ok(body, number).replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")

    outcomes = run(exchange(closing, 12))

    assert [outcome.body for outcome in outcomes] == [b"%d" % (10 + number) for number in range(12)]


def test_an_answer_in_pieces_is_read_whole(run: Any) -> None:
    def chunked(body: bytes, _: int) -> bytes:
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n%b\r\n1\r\n%b\r\n0\r\n\r\n" % (
            body[:1],
            body[1:],
        )

    assert [outcome.body for outcome in run(exchange(chunked, 3))] == [b"10", b"11", b"12"]


def test_a_connection_that_breaks_behind_the_request_proves_nothing_and_the_others_go_on(run: Any) -> None:
    def third_is_lost(body: bytes, number: int) -> bytes | None:
        return None if body == b"12" else ok(body, number)

    outcomes = run(exchange(third_is_lost, 6))

    assert [type(outcome) for outcome in outcomes] == [Answer, Answer, NoAnswer, Answer, Answer, Answer]


def test_silence_is_no_answer_and_what_was_not_written_is_told_apart(run: Any) -> None:
    def silent(_: bytes, __: int) -> bytes:
        return b""

    outcomes = run(exchange(silent, 3, connections=2, timeout_seconds=0.3))

    assert [type(outcome) for outcome in outcomes] == [NoAnswer, NoAnswer, NotWritten]


def test_nonsense_is_no_answer(run: Any) -> None:
    (outcome,) = run(exchange(lambda _, __: b"220 smtp ready\r\n", 1))

    assert isinstance(outcome, NoAnswer)


def test_where_nobody_listens_nothing_was_written(run: Any) -> None:
    async def to_nobody() -> list[Outcome]:
        server = await asyncio.start_server(lambda _, __: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        pool = BulkConnections(f"http://127.0.0.1:{port}", connections=2, connect_timeout_seconds=1.0, idle_seconds=3.0)
        return await pool.post([REQUEST % 10, REQUEST % 11, REQUEST % 12], timeout_seconds=2.0)

    assert all(isinstance(outcome, NotWritten) for outcome in run(to_nobody()))
