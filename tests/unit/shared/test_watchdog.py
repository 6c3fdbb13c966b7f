"""The watchdog, seen from outside: real processes that hang, that are slow, and that are being stopped."""

import asyncio
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from shared.kafka import Progress
from shared.settings import HubSettings
from shared.watchdog import CONSUMER_STANDS_STILL, LOOP_STANDS_STILL, Watchdog, Watched

PATIENCE_SECONDS = 90


@dataclass
class Child:
    """One process, and what it has printed when it is over."""

    process: asyncio.subprocess.Process
    url: str

    async def ask(self, path: str) -> int:
        """Ask it over HTTP; 0 when it ended without an answer."""

        def get() -> int:
            try:
                with urllib.request.urlopen(f"{self.url}{path}", timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 - our own
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                return error.code
            except OSError:
                return 0

        return await asyncio.to_thread(get)

    async def end(self) -> tuple[int, str]:
        output, _ = await asyncio.wait_for(self.process.communicate(), PATIENCE_SECONDS)
        return self.process.returncode or 0, output.decode()


@asynccontextmanager
async def a_child() -> AsyncIterator[Child]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.unit.shared.watchdog_child", str(port)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    running = Child(process, f"http://127.0.0.1:{port}")
    try:
        for _ in range(PATIENCE_SECONDS * 20):
            if await running.ask("/health/live") == 200:
                break
            assert process.returncode is None, (await running.end())[1]
            await asyncio.sleep(0.05)
        yield running
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def stands_still(how: str) -> tuple[int, str]:
    async with a_child() as child:
        await child.ask(f"/misbehave?how={how}")
        return await child.end()


async def goes_on() -> tuple[int, str]:
    async with a_child() as child:
        assert await child.ask("/misbehave?how=busy") == 204  # each of these takes twice the bound
        assert await child.ask("/misbehave?how=work") == 204
        child.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(3)
        child.process.send_signal(signal.SIGCONT)
        assert await child.ask("/health/live") == 200
        await child.ask("/misbehave?how=stop_slowly")
        return await child.end()


@pytest.fixture(scope="module")
async def ends() -> AsyncIterator[dict[str, asyncio.Task[tuple[int, str]]]]:
    """How each process ends. All run side by side: they are there to wait for."""
    ends = {how: asyncio.create_task(stands_still(how)) for how in ("block", "hang", "backtrack")}
    ends["go on"] = asyncio.create_task(goes_on())
    yield ends
    for end in ends.values():
        end.cancel()
    await asyncio.gather(*ends.values(), return_exceptions=True)


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("block", LOOP_STANDS_STILL, ("watchdog.exits", "event loop", "in block")),
        ("hang", CONSUMER_STANDS_STILL, ("watchdog.exits", "consumer group", "most recent call first")),
        ("backtrack", 1, ("Timeout", "in backtrack")),
    ],
)
async def test_a_process_that_stands_still_ends_itself_and_says_where(
    ends: dict[str, asyncio.Task[tuple[int, str]]], how: str, code: int, words: tuple[str, ...]
) -> None:
    ended_with, output = await ends[how]

    assert ended_with == code, output
    assert [word for word in words if word not in output] == []


async def test_a_process_that_goes_on_lives_however_slow_frozen_or_told_to_stop(
    ends: dict[str, asyncio.Task[tuple[int, str]]],
) -> None:
    ended_with, output = await ends["go on"]

    assert ended_with in (0, -signal.SIGTERM)
    assert "service.stopping" in output
    assert "watchdog" not in output


def test_events_that_wait_while_nobody_takes_them_are_work_that_stands_still() -> None:
    progress = Progress()
    progress.waiting_events = 5
    watchdog = Watchdog([Watched("consumer", progress.mark, 2.0, 87)], is_stopping=lambda: False)

    assert [watchdog.look(1.0) for _ in range(3)][:2] == [None, None]
    assert watchdog.look(1.0) is not None
    progress.begin()
    progress.end()
    assert watchdog.look(1.0) is None


def test_what_has_nothing_to_do_may_stand_still() -> None:
    mark: Hashable | None = 1
    watchdog = Watchdog([Watched("one", lambda: mark, 2.0, 86)], is_stopping=lambda: False)
    assert watchdog.look(1.0) is None
    assert watchdog.look(1.0) is None
    mark = None
    assert watchdog.look(100.0) is None
    mark = 1
    assert watchdog.look(100.0) is None  # first seen now
    assert watchdog.look(1.0) is None
    assert watchdog.look(1.0) is not None


def test_a_bound_of_0_switches_it_off() -> None:
    watchdog = Watchdog([Watched("one", lambda: 1, 0.0, 86)], is_stopping=lambda: False)

    watchdog.start()

    assert watchdog.look(1_000.0) is None


def test_the_bounds_outlast_what_is_normal() -> None:
    settings = HubSettings()

    assert settings.watchdog_consumer_seconds > 2 * 60, "longer than a rebalance and a batch that waits for MongoDB"
    assert settings.watchdog_loop_seconds > 20, "longer than Kafka waits before it gives the work to somebody else"
