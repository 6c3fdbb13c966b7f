"""A real service process, without servers, that misbehaves when it is asked to: `… watchdog_child PORT`."""

import asyncio
import os
import re
import signal
import sys
import time
from typing import Any
from urllib.parse import parse_qs

from shared.kafka import Progress, build_broker
from shared.mongo import open_store
from shared.service import build_service, serve
from shared.settings import HubSettings

progress = Progress()


def block() -> None:
    """The loop stands still, and other threads go on."""
    time.sleep(60)


def backtrack() -> None:
    """The loop stands still, and so does every other thread: the interpreter's lock is never given back."""
    re.match(r"(a+)+$", "a" * 64 + "b")


async def busy() -> None:
    """The loop is late all the time, and goes on."""
    until = time.monotonic() + 4.5
    while time.monotonic() < until:
        time.sleep(0.4)  # noqa: ASYNC251 - blocking is what is tested
        await asyncio.sleep(0)


def hang() -> None:
    """A batch was taken and does not end."""
    progress.begin()


async def work() -> None:
    """Events wait all the time, and one batch after another is taken: here they fail one after another."""
    progress.waiting_events = 5
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        progress.begin()
        await asyncio.sleep(0.4)
        progress.end()
    progress.waiting_events = 0


async def stop_slowly() -> None:
    """Told to stop while a batch is in hand that takes its time."""
    progress.begin()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(2.5)


async def misbehave(scope: Any, _: Any, send: Any) -> None:
    what = globals()[parse_qs(scope["query_string"].decode())["how"][0]]()
    if what is not None:
        await what
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def main(port: int) -> None:
    settings = HubSettings.model_validate(
        {
            "http_port": port,
            "kafka_bootstrap_servers": "127.0.0.1:1",
            "mongo_uri": "mongodb://127.0.0.1:1",
            # More than the second that one look counts at most: after a pause it may come before the loop's next turn.
            "watchdog_loop_seconds": 2.0,
            "watchdog_consumer_seconds": 1.5,
        }
    )
    app = build_service(
        "router",
        settings,
        broker=build_broker(settings, service="router"),
        store=open_store(settings),
        progress={"group": progress},
        routes=[("/misbehave", misbehave)],
    )
    serve(app, settings)


if __name__ == "__main__":
    main(int(sys.argv[1]))
