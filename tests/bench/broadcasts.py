"""`python -m tests.bench.broadcasts`: how fast an audience is previewed, fixed, handed off, and overtaken by a reply.

One process of ours against the simulator, on a database of its own. The hand-off stands beside two bare loops against
the same simulator in the same run, turn and turn about: one of aiohttp's client, one of our own transport, both with
prepared bodies, no database and no rules. The numbers are of this machine on this day, never asserted.
"""

import argparse
import asyncio
import logging
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import uvloop
from cryptography.fernet import Fernet

from services.notifier.adapters.contact_store import person_of
from services.notifier.adapters.zalo_copies import Address, CopyClient, message_form
from services.notifier.app import Rooms, build_rooms
from services.notifier.domain.lanes import Hours
from services.notifier.handlers.events import queue_replies
from services.notifier.settings import NotifierSettings
from shared.collections import create_indexes
from shared.events import ReplyContent
from shared.ids import citizen_key, deterministic_id
from shared.kafka import Received
from shared.mongo import Document, insert_new
from simulator import ids
from simulator.settings import load_zalo_config, write_example_config
from stack.ports import find_free
from tests.factories import a_reply
from tests.servers import mongo_product, running_hub
from tests.unit.notifier.broadcast_stage import TEXT, approved

SEED, WAVE, WORKERS = 1, 250, 4
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Bench:
    """Our rooms, the simulator, and its followers."""

    rooms: Rooms
    simulator_pid: int
    database_pid: int
    url: str
    users: list[str]
    page: Any

    def address(self, user_id: str, token: str) -> Address:
        return Address(user_id, self.page.app_id, token)


@asynccontextmanager
async def simulator(folder: Path) -> AsyncIterator[tuple[int, str, Path]]:
    """A simulator without limits and without a webhook."""
    config, port = folder / "zalo.yaml", find_free(set())
    write_example_config(config)
    arguments = ["--config", str(config), "--state-dir", str(folder / "state"), "--port", str(port)]
    arguments += ["--rate-limit-per-minute", "0", "--log-entries", "2000000"]
    process = subprocess.Popen(  # noqa: ASYNC220 - once, before anything is measured
        [sys.executable, "-m", "simulator", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as http:
            for _ in range(300):
                try:
                    async with http.get(f"{url}/health/ready") as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)
        yield process.pid, url, config
    finally:
        process.terminate()
        process.wait(20)


def contact(number: int, page: Any, at: Any) -> Document:
    """A follower of the simulator's page, as the contact store keeps one."""
    citizen = f"bench-{number}"
    user_id, by_app = ids.user_id(SEED, page.oa_id, citizen), ids.user_id_by_app(SEED, page.app_id, citizen)
    return {
        "_id": citizen_key(page.oa_id, user_id),
        "person": person_of(by_app),
        "user_id_by_app": by_app,
        "oa_id": page.oa_id,
        "page": page.page,
        "user_id": user_id,
        "followed_at": at,
        "is_follower": True,
        "last_interaction_at": at,
    }


async def fill(rooms: Rooms, page: Any, first: int, end: int) -> float:
    """Let the database know followers; returns the seconds it took."""
    at, started = rooms.clock.now(), time.perf_counter()
    for start in range(first, end, 5_000):
        await insert_new(rooms.store["contacts"], [contact(n, page, at) for n in range(start, min(end, start + 5_000))])
    return time.perf_counter() - started


@asynccontextmanager
async def bench(followers: int, **settings: Any) -> AsyncIterator[Bench]:
    """Everything, with so many followers on both sides."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-broadcasts-") as name,
        running_hub(only={"mongo"}, environment={"HUB_MONGO": os.environ.get("HUB_MONGO", "auto")}) as hub,
    ):
        print(f"database: {mongo_product(str(hub.state.mongo))}", flush=True)
        async with simulator(Path(name)) as (pid, url, config):
            page = load_zalo_config(config).pages[0]
            addresses = {f"ZALO_{what}_URL": url for what in ("OA_API", "OAUTH", "UPLOAD")}
            os.environ |= addresses
            filled = {
                "mongo_uri": str(hub.state.mongo),
                "mongo_database": "bench",
                "token_encryption_key": Fernet.generate_key().decode(),
                "zalo_config_file": config,
                "page_calls_per_minute": 10_000_000,
                "app_calls_per_minute": 10_000_000,
                "broadcast_wave": WAVE,
                "broadcast_workers": WORKERS,
                "log_level": "ERROR",
            }
            rooms = build_rooms(NotifierSettings(**{**filled, **settings}))
            await create_indexes(rooms.store)
            # Caps are asked for but hold nobody back: each round goes to the same people.
            policies = tuple(
                replace(one, quiet_hours=Hours(0, 0), a_day=1_000, a_week=1_000)
                for one in rooms.runner.rulebook.lanes.policies
            )
            rooms.runner.rulebook.lanes = replace(rooms.runner.rulebook.lanes, policies=policies)
            async with rooms.opened(), aiohttp.ClientSession() as http:
                await rooms.tokens.look_after_all()
                body = {"page": page.page, "count": followers, "prefix": "bench-", "last_interaction_hours_ago": 1}
                async with http.post(f"{url}/control/followers", json=body) as answer:
                    assert answer.status == 200, await answer.text()
                seconds = await fill(rooms, page, 1, followers + 1)
                print(f"{followers:,} contacts kept in {seconds:.1f} s", flush=True)
                users = [ids.user_id(SEED, page.oa_id, f"bench-{n}") for n in range(1, followers + 1)]
                yield Bench(rooms, pid, hub.pid("mongo"), url, users, page)
            await rooms.store.close()


async def schedule(rooms: Rooms, name: str, people: int, *, is_emergency: bool = True) -> None:
    """An approved broadcast that is due, started."""
    new = replace(approved(name, at=rooms.clock.now(), people=people, is_emergency=is_emergency), version=0)
    assert await rooms.broadcasts.create(new)
    await rooms.runner.look()


async def build(rooms: Rooms, name: str, people: int) -> float:
    """Fix an audience; returns the seconds."""
    await schedule(rooms, name, people)
    (broadcast,) = [one for one in rooms.runner._running if one.id == name]
    started = time.perf_counter()
    snapshot = await rooms.runner._builder.build(broadcast)
    seconds = time.perf_counter() - started
    assert snapshot is not None
    assert snapshot.people == people, f"{snapshot.people} of {people}"
    return seconds


async def measured(what: Callable[[], Awaitable[None]], one: Bench) -> tuple[float, ...]:
    """Rate, and the processor time of us, of the simulator and of the database in µs for one copy."""
    processes = [psutil.Process(), psutil.Process(one.simulator_pid), psutil.Process(one.database_pid)]

    def spent() -> list[float]:
        return [times.user + times.system for times in (process.cpu_times() for process in processes)]

    before, started = spent(), time.perf_counter()
    await what()
    seconds, count = time.perf_counter() - started, len(one.users)
    return count / seconds, *((after - then) / count * 1e6 for after, then in zip(spent(), before, strict=True))


async def bare_aiohttp(one: Bench, token: str) -> None:
    """A bare loop of aiohttp's client: as many at once as we have under way."""
    body = message_form(ReplyContent(text=TEXT))
    users = iter(one.users)
    headers = {"access_token": token, "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as http:

        async def caller() -> None:
            for user in users:
                data = body.before + user.encode() + body.after
                async with http.post(one.url + body.path, data=data) as answer:
                    await answer.read()

        await asyncio.gather(*(caller() for _ in range(WORKERS * WAVE)))


async def bare_transport(one: Bench, token: str, client: CopyClient) -> None:
    """A bare loop of our own transport, in waves like ours."""
    form = message_form(ReplyContent(text=TEXT))
    starts = iter(range(0, len(one.users), WAVE))

    async def caller() -> None:
        for start in starts:
            await client.send(form, [one.address(user, token) for user in one.users[start : start + WAVE]])

    await asyncio.gather(*(caller() for _ in range(WORKERS)))


async def hand_off(one: Bench, name: str, *, is_emergency: bool) -> Callable[[], Awaitable[None]]:
    """A broadcast whose audience is fixed; calling the answer sends it."""
    rooms = one.rooms
    await schedule(rooms, name, len(one.users), is_emergency=is_emergency)
    await rooms.runner.build_all()
    await rooms.runner.look()

    logging.disable(logging.INFO)

    async def worker() -> None:
        while await rooms.runner.work_once():
            pass

    async def send() -> None:
        await asyncio.gather(*(worker() for _ in range(WORKERS)))

    return send


async def compare(one: Bench, rounds: int, *, is_emergency: bool) -> None:
    """Hand-off beside the bare loops; an ordinary broadcast asks for each person's caps too."""
    token = (await one.rooms.tokens.access(one.page.oa_id)).value
    rates: dict[str, list[tuple[float, ...]]] = {"aiohttp": [], "transport": [], "ours": []}
    count = len(one.users)
    for number in range(rounds + 1):
        send = await hand_off(one, f"round-{number}", is_emergency=is_emergency)
        found = {
            "aiohttp": await measured(lambda: bare_aiohttp(one, token), one),
            "transport": await measured(lambda: bare_transport(one, token, one.rooms.copy_client), one),
            "ours": await measured(send, one),
        }
        progress = await one.rooms.copies.progress(f"round-{number}")
        assert progress.states["sent"] == count, progress
        await one.rooms.runner.look()
        print(f"round {number}: " + ", ".join(f"{k} {v[0]:,.0f}/s" for k, v in found.items()), flush=True)
        if number:  # the first one warms up
            for name, numbers in found.items():
                rates[name].append(numbers)
    print("\n| hand-off | per second | our CPU µs | simulator's | database's | ours / this |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, rows in rates.items():
        rate, ours, theirs, stored = (statistics.median(column) for column in zip(*rows, strict=True))
        ratio = statistics.median(us[0] / floor[0] for us, floor in zip(rates["ours"], rows, strict=True))
        print(f"| {name} | {rate:,.0f} | {ours:,.0f} | {theirs:,.0f} | {stored:,.0f} | {ratio:.2f} |", flush=True)


async def overtake(one: Bench, replies: int, seconds: float) -> None:
    """Replies put in the middle of a broadcast that takes all it can get."""
    rooms = one.rooms
    await schedule(rooms, "overtaken", len(one.users))
    loops = [asyncio.create_task(work()) for work in (rooms.sender.run, rooms.runner.run)]
    chance = random.Random(7)
    names = [deterministic_id("bench-reply", str(n)) for n in range(replies)]
    started = time.perf_counter()
    for number, name in enumerate(names):
        await asyncio.sleep(chance.expovariate(replies / seconds))
        now = rooms.clock.now()
        reply = a_reply(
            event_id=name,
            oa_id=one.page.oa_id,
            page=one.page.page,
            user_id=one.users[chance.randrange(len(one.users))],
            content=ReplyContent(text=f"Trả lời số {number}"),
            occurred_at=now,
            interaction_at=now,
        )
        await queue_replies([Received(reply, 0, number)], rooms.deps)
    while await rooms.store["reply_ledger"].count_documents({"_id": {"$in": names}, "state": {"$ne": "sent"}}):  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    progress = await rooms.copies.progress("overtaken")
    rate = progress.states["sent"] / (time.perf_counter() - started)
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
    rows = await rooms.store["reply_ledger"].find({"_id": {"$in": names}}).to_list(None)
    waits = sorted((row["sent_at"] - row["requested_at"]).total_seconds() for row in rows)
    in_middle = progress.states["queued"] > 0
    print(
        f"{replies} replies in a broadcast of {rate:,.0f} copies/s (still going on: {in_middle}): "
        f"p50 {waits[len(waits) // 2] * 1e3:.0f} ms, p99 {waits[len(waits) * 99 // 100] * 1e3:.0f} ms, "
        f"max {waits[-1] * 1e3:.0f} ms",
        flush=True,
    )


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def build_sizes(sizes: list[int]) -> None:
    """The ledger of growing audiences, each on the same database."""
    async with bench(sizes[0]) as one:
        known = sizes[0]
        for size in sizes:
            if size > known:
                seconds = await fill(one.rooms, one.page, known + 1, size + 1)
                print(f"{size - known:,} more contacts kept in {seconds:.1f} s")
                known = size
            times = [await build(one.rooms, f"b-{size}-{n}", size) for n in range(3 if size < 200_000 else 1)]
            print(
                f"ledger of {size:,}: {min(times):.2f} s best of {len(times)} (all: "
                f"{', '.join(f'{seconds:.2f}' for seconds in times)}), {size / min(times):,.0f} persons/s, "
                f"memory of the process {_memory():.0f} MiB at most",
                flush=True,
            )
            for n in range(len(times)):
                await one.rooms.store["broadcasts"].update_one({"_id": f"b-{size}-{n}"}, {"$set": {"state": "paused"}})


async def preview(one: Bench, rounds: int) -> None:
    """What a person waits for before they can have a broadcast approved: everybody planned, caps included."""
    draft = approved("preview", at=one.rooms.clock.now(), is_emergency=False).draft
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        forecast = await one.rooms.desk.forecaster.forecast(draft)
        seconds.append(time.perf_counter() - started)
        assert forecast.people == len(one.users)
    told = ", ".join(f"{one:.2f}" for one in seconds[1:])
    print(f"preview of {len(one.users):,}: {min(seconds[1:]):.2f} s best ({told})", flush=True)


async def main(arguments: argparse.Namespace) -> None:
    print(f"{os.cpu_count()} cores, {platform.machine()}, load average {os.getloadavg()[0]:.1f} before")
    if arguments.what == "ledger":
        await build_sizes(arguments.sizes)
    elif arguments.what == "preview":
        async with bench(arguments.followers) as one:
            await preview(one, arguments.rounds)
    elif arguments.what == "hand-off":
        async with bench(arguments.followers) as one:
            await compare(one, arguments.rounds, is_emergency=arguments.emergency)
    else:
        limit = {"page_calls_per_minute": arguments.limit, "app_calls_per_minute": arguments.limit}
        async with bench(arguments.followers, **(limit if arguments.limit else {})) as one:
            await overtake(one, arguments.replies, arguments.seconds)
    print(f"load average {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.broadcasts", description=__doc__)
    parser.add_argument("what", choices=["ledger", "preview", "hand-off", "overtake"])
    parser.add_argument("--followers", type=int, default=20_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[59_881], help="audiences of `ledger`, growing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--emergency", action="store_true", help="`hand-off` of one that no cap holds back")
    parser.add_argument("--replies", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0, help="over which the replies are spread")
    parser.add_argument("--limit", type=int, default=0, help="calls a minute of page and app; 0 is none")
    uvloop.run(main(parser.parse_args()))
