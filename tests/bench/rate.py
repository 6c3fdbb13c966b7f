"""`python -m tests.bench.rate`: how near to a limit 1, 2 and 4 replicas come together, and whether they ever pass it.

Each replica is a process with its own `RateBuckets` on one database; it calls a stand-in of Zalo once for every token
it gets, as fast as it gets them. Judged by the stand-in's log of arrivals alone: calls a minute in the steady part, and
the most in any 60 seconds, beside the limit.
"""

import argparse
import asyncio
import bisect
import json
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
from aiohttp import web
from pydantic import SecretStr

from services.notifier.adapters.rate_bucket import RateBuckets
from shared.mongo import Store, open_store
from shared.settings import HubSettings
from tests.servers import mongo_product, running_hub

ROOT = Path(__file__).resolve().parents[2]
BUCKET, AT_ONCE = "app:bench", 8
SETTLE_SECONDS = 2.0
MINUTE = 60.0


def _store(uri: str, database: str) -> Store:
    return open_store(HubSettings.model_validate({"mongo_uri": SecretStr(uri), "mongo_database": database}))


async def _replica(uri: str, database: str, url: str, limit: int, seconds: float) -> None:
    """Call for every token."""
    store = _store(uri, database)
    buckets = RateBuckets(store, calls_per_minute={BUCKET: limit})
    await buckets.create()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    ends_at = time.monotonic() + seconds
    async with aiohttp.ClientSession() as http:

        async def call() -> None:
            async with http.post(url) as answer:
                await answer.read()

        while time.monotonic() < ends_at:
            grant = await buckets.take(BUCKET, AT_ONCE)
            await asyncio.gather(*(call() for _ in range(grant.tokens)))
            if grant.tokens < AT_ONCE:
                await asyncio.sleep(grant.wait_seconds)
    await store.close()


def judged(arrivals: Sequence[float], limit: int) -> dict[str, float]:
    """Calls a minute in the steady part, and the most in any minute, as shares of the limit."""
    first, last = arrivals[0] + SETTLE_SECONDS, arrivals[-1]
    steady = len(arrivals) - bisect.bisect_left(arrivals, first)
    most = max(bisect.bisect_left(arrivals, at + MINUTE) - i for i, at in enumerate(arrivals))
    return {
        "calls": len(arrivals),
        "steady_share": round(steady / (last - first) * MINUTE / limit, 4),
        "most_in_a_minute_share": round(most / limit, 4),
    }


async def measured(uri: str, replicas: int, limit: int, seconds: float) -> dict[str, float]:
    """One run with so many processes."""
    arrivals: list[float] = []

    async def note(_: web.Request) -> web.Response:
        arrivals.append(time.perf_counter())
        return web.Response()

    app = web.Application()
    app.router.add_post("/", note)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    database = f"bench_{secrets.token_hex(4)}"
    arguments = ["--replica", uri, database, url, str(limit), str(seconds)]
    children = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.rate", *arguments),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(replicas)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            await child.stdout.readline()
        for child in children:  # ready, all of them: now
            assert child.stdin is not None
            child.stdin.write(b"\n")
        await asyncio.gather(*(child.wait() for child in children))
    finally:
        for child in children:
            if child.returncode is None:
                child.kill()
        await runner.cleanup()
        store = _store(uri, database)
        await store.drop()
        await store.close()
    return {"replicas": replicas, **judged(arrivals, limit)}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rate", description=__doc__)
    parser.add_argument("--limit", type=int, default=4_000, help="calls a minute")
    parser.add_argument("--seconds", type=float, default=75.0, help="of one run; a minute at least tells the whole")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--database", default="auto", help="as HUB_MONGO")
    parser.add_argument("--replica", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.replica:
        uri, database, url, limit, seconds = arguments.replica
        asyncio.run(_replica(uri, database, url, int(limit), float(seconds)))
        return
    with running_hub(only=["mongo"], environment={"HUB_MONGO": arguments.database}) as hub:
        uri = str(hub.state.mongo)
        print(mongo_product(uri))
        for replicas in arguments.replicas:
            print(json.dumps(asyncio.run(measured(uri, replicas, arguments.limit, arguments.seconds))), flush=True)


if __name__ == "__main__":
    main()
