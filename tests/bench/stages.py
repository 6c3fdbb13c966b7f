"""The stages: one service of a running hub beside its floors, turn and turn about.

Everything that is not measured stands still meanwhile, so that two cores are enough for the service, its servers and
the load.
"""

import asyncio
import json
import re
import secrets
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from cryptography.fernet import Fernet
from pydantic import SecretStr

from shared.mongo import open_store
from shared.settings import HubSettings
from shared.topics import CITIZEN_MESSAGES, DELIVERY_REPORTS, REPLIES_REQUESTED
from shared.zalo_config import ZaloConfig, load_zalo_config
from stack.ports import find_free
from tests.bench import load
from tests.bench.measure import Comparison, Floor, Round, Series, cpu_seconds, peak_mebibytes
from tests.servers import RunningHub, running_hub

DATABASE = "binhyen"
CONNECTIONS = 32
SEND_SLOTS = 64
"""Calls at once, of the notifier (its default) and of the floor."""
WAIT_SECONDS = 300.0

_admin: Any = AIOKafkaAdminClient
_new_topic: Any = NewTopic


class Bench:
    """A running hub, and what the stages need of it."""

    def __init__(self, hub: RunningHub) -> None:
        self.hub = hub
        self.zalo: ZaloConfig = load_zalo_config(Path(str(hub.state.zalo_config)))

    @property
    def kafka(self) -> str:
        """Bootstrap servers."""
        return str(self.hub.state.kafka)

    @property
    def mongo(self) -> str:
        """URI with its password."""
        return str(self.hub.state.mongo)

    @contextmanager
    def only(self, *wanted: str) -> Iterator[None]:
        """Let just these services and the servers run."""
        others = [name for name in self.hub.programs if name not in {*wanted, "kafka", "mongo"}]
        for name in others:
            self.hub.stop(name)
        try:
            yield
        finally:
            for name in others:
                self.hub.start(name)
            self.hub.wait_ready(*others)

    async def make_topic(self, prefix: str, partitions: int) -> str:
        """A topic for a floor, as large as ours."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        admin = _admin(bootstrap_servers=self.kafka)
        await admin.start()
        try:
            await admin.create_topics([_new_topic(name=name, num_partitions=partitions, replication_factor=1)])
        finally:
            await admin.close()
        return name


@contextmanager
def bench_hub(*, database: str) -> Iterator[Bench]:
    """A hub for benchmarks."""
    environment = {
        "HUB_MONGO": database,
        "LOG_LEVEL": "WARNING",
        # Zalo's limits are not what is measured.
        "SIMULATOR_RATE_LIMIT_PER_MINUTE": "0",
        "APP_CALLS_PER_MINUTE": "1000000",
        "PAGE_CALLS_PER_MINUTE": "1000000",
    }
    with running_hub(environment=environment) as hub:
        yield Bench(hub)


def counter(url: str, name: str, **labels: str) -> float:
    """The sum of a counter's samples that have these labels."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:  # noqa: S310 - our own address
        text = answer.read().decode()
    total = 0.0
    for line in text.splitlines():
        if (found := re.match(rf"{name}_total\{{(.*)\}} (\S+)$", line)) and all(
            f'{key}="{value}"' in found[1] for key, value in labels.items()
        ):
            total += float(found[2])
    return total


async def _until(reached: Callable[[], float], wanted: float) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while await asyncio.to_thread(reached) < wanted:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{reached()} of {wanted} after {WAIT_SECONDS:.0f} s")
        await asyncio.sleep(0.05)  # reading all metrics costs the service some milliseconds


async def intake(bench: Bench, *, items: int, rounds: int) -> Comparison:
    """Webhooks: verified, understood, in Kafka, acknowledged. Floor: any body into Kafka, acknowledged."""
    hub = bench.hub
    result = Comparison("intake", Series("intake"), {"bare": Series("bare ASGI and idempotent producer")})
    topic = await bench.make_topic("floor-intake", CITIZEN_MESSAGES.partitions)
    port = str(find_free(set()))
    with bench.only("intake"), Floor("intake", bench.kafka, topic, port) as floor:
        floor.line()
        sides = (
            (result.ours, f"{hub.state.intake}", hub.pid("intake")),
            (result.floors["bare"], f"http://127.0.0.1:{port}", floor.pid),
        )
        for number in range(rounds + 1):
            for series, url, pid in sides:
                requests = load.webhooks(bench.zalo, bench.zalo.pages[0], items, run=f"{secrets.randbelow(900) + 100}")
                before, started = cpu_seconds(pid), time.perf_counter()
                latencies = await load.fire(url, requests, connections=CONNECTIONS)
                seconds = time.perf_counter() - started
                if number:  # the first one warms up
                    series.rounds.append(Round(items, seconds, cpu_seconds(pid) - before, latencies))
        for series, _, pid in sides:
            series.peak_mebibytes = peak_mebibytes(pid)
    return result


async def router(bench: Bench, *, items: int, rounds: int) -> Comparison:
    """Messages: read, assigned, in a case, reply requested. Floors: bare batches; and the same reads and writes."""
    hub, group = bench.hub, secrets.token_hex(4)
    floors = {"bare": Series("bare batch consumer"), "writes": Series("the same reads and writes, bare")}
    result = Comparison("router", Series("router"), floors)
    url, page = str(hub.state.router), bench.zalo.pages[0]
    replies_topic = await bench.make_topic("floor-router", REPLIES_REQUESTED.partitions)
    with bench.only("router"):

        def handled() -> float:
            return counter(url, "hub_events_handled", topic=CITIZEN_MESSAGES.name, outcome="handled")

        async def ours() -> Round:
            messages = load.messages(page, items, run=f"{secrets.randbelow(900_000) + 100_000}")
            pid, base = hub.pid("router"), handled()
            before, started = cpu_seconds(pid), time.perf_counter()
            await load.publish(bench.kafka, CITIZEN_MESSAGES, messages, service="intake")
            await _until(handled, base + items)
            return Round(items, time.perf_counter() - started, cpu_seconds(pid) - before)

        await ours()  # warms up, and the floor has something to copy
        bare_topic = await bench.make_topic("floor-messages", CITIZEN_MESSAGES.partitions)
        writer = ("writer", bench.kafka, bare_topic, f"w{group}", bench.mongo, DATABASE, replies_topic)
        consumer = ("consumer", bench.kafka, bare_topic, f"c{group}")

        to_bare_topic = replace(CITIZEN_MESSAGES, name=bare_topic)

        async def floor_round(floor: Floor) -> Round:
            messages = load.messages(page, items, run=f"{secrets.randbelow(900_000) + 100_000}")
            before, started = cpu_seconds(floor.pid), time.perf_counter()
            await load.publish(bench.kafka, to_bare_topic, messages, service="intake")
            while int(await asyncio.to_thread(floor.line)) < items:
                pass
            return Round(items, time.perf_counter() - started, cpu_seconds(floor.pid) - before)

        # One floor at a time: two would read the same topic beside each other.
        for name, arguments in (("writes", writer), ("bare", consumer)):
            for number in range(rounds):
                if name == "writes":
                    result.ours.rounds.append(await ours())
                with Floor(*arguments[:3], f"{arguments[3]}-{number}", *arguments[4:]) as floor:
                    while floor.line() != "ready":
                        pass
                    floors[name].rounds.append(await floor_round(floor))
                    floors[name].peak_mebibytes = max(floors[name].peak_mebibytes, peak_mebibytes(floor.pid))
        result.ours.peak_mebibytes = peak_mebibytes(hub.pid("router"))
    return result


async def notifier(bench: Bench, *, items: int, rounds: int) -> Comparison:
    """Replies: into the ledger, through gate and limits, sent, recorded. Floor: the same calls and nothing else."""
    hub, page = bench.hub, bench.zalo.pages[0]
    result = Comparison("notifier", Series("notifier"), {"bare": Series("bare HTTP loop")})
    async with aiohttp.ClientSession() as http:
        body = {"page": page.page, "count": items, "prefix": "bench-", "last_interaction_hours_ago": 0}
        async with http.post(f"{hub.state.simulator}/control/followers", json=body) as answer:
            answer.raise_for_status()
        token = await _access_token(bench, page.oa_id)
        people = await _followers(http, str(hub.state.simulator), token, items)
    headers = json.dumps({"access_token": token})
    with (
        bench.only("notifier", "simulator"),
        Floor("sender", f"{hub.state.simulator}/v3.0/oa/message/cs", headers, str(SEND_SLOTS)) as floor,
    ):
        hub.wait_ready("notifier")
        floor.line()

        def sent() -> float:
            return counter(str(hub.state.notifier), "hub_sends", step="Sent")

        async def ours() -> Round:
            replies = load.replies(page, people)
            pid, base = hub.pid("notifier"), sent()
            before, started = cpu_seconds(pid), time.perf_counter()
            await load.publish(bench.kafka, REPLIES_REQUESTED, replies, service="router")
            await _until(sent, base + items)
            return Round(items, time.perf_counter() - started, cpu_seconds(pid) - before)

        async def bare() -> Round:
            before, started = cpu_seconds(floor.pid), time.perf_counter()
            floor.tell(json.dumps(people))
            await asyncio.to_thread(floor.line)
            return Round(items, time.perf_counter() - started, cpu_seconds(floor.pid) - before)

        for number in range(rounds + 1):
            for series, side in ((result.ours, ours), (result.floors["bare"], bare)):
                one = await side()
                if number:  # the first one warms up
                    series.rounds.append(one)
        result.ours.peak_mebibytes = peak_mebibytes(hub.pid("notifier"))
        result.floors["bare"].peak_mebibytes = peak_mebibytes(floor.pid)
    return result


async def echoes(bench: Bench, *, items: int, rounds: int) -> Comparison:
    """Echoes of a broadcast: from the webhook through Kafka to the copy that is known. Floor: the same, bare.

    The CPU is that of both programs of a side.
    """
    hub, page, group = bench.hub, bench.zalo.pages[0], secrets.token_hex(4)
    result = Comparison("echoes", Series("intake and notifier"), {"bare": Series("bare ASGI, consumer and driver")})
    topic = await bench.make_topic("floor-echoes", DELIVERY_REPORTS.partitions)
    port = str(find_free(set()))
    store = open_store(HubSettings(mongo_uri=SecretStr(bench.mongo), mongo_database=DATABASE))
    with (
        bench.only("intake", "notifier"),
        Floor("intake", bench.kafka, topic, port) as taker,
        Floor("noter", bench.kafka, topic, f"n{group}", bench.mongo, DATABASE) as noter,
    ):
        hub.wait_ready("notifier")
        taker.line()
        while noter.line() != "ready":
            pass
        at_the_floor = 0

        def handled() -> float:
            return counter(
                str(hub.state.notifier), "hub_events_handled", topic=DELIVERY_REPORTS.name, outcome="handled"
            )

        async def side(url: str, pids: tuple[int, int], is_over: Callable[[], Awaitable[None]]) -> Round:
            run = f"{secrets.randbelow(900) + 100}{time.time_ns() % 1_000_000:06d}"
            await load.keep_copies(store, page, items, run=run)
            requests = load.webhooks(bench.zalo, page, items, run=run, event_name="oa_send_text")
            before, started = sum(map(cpu_seconds, pids)), time.perf_counter()
            await asyncio.gather(load.fire(url, requests, connections=CONNECTIONS), is_over())
            return Round(items, time.perf_counter() - started, sum(map(cpu_seconds, pids)) - before)

        async def ours() -> Round:
            base = handled()
            return await side(
                str(hub.state.intake),
                (hub.pid("intake"), hub.pid("notifier")),
                lambda: _until(handled, base + items),
            )

        async def until_noted() -> None:
            nonlocal at_the_floor
            wanted = at_the_floor + items
            while at_the_floor < wanted:
                at_the_floor = int(await asyncio.to_thread(noter.line))

        async def bare() -> Round:
            return await side(f"http://127.0.0.1:{port}", (taker.pid, noter.pid), until_noted)

        for number in range(rounds + 1):
            for series, one in ((result.ours, ours), (result.floors["bare"], bare)):
                done = await one()
                if number:  # the first one warms up
                    series.rounds.append(done)
        result.ours.peak_mebibytes = peak_mebibytes(hub.pid("intake")) + peak_mebibytes(hub.pid("notifier"))
        result.floors["bare"].peak_mebibytes = peak_mebibytes(taker.pid) + peak_mebibytes(noter.pid)
    await store.close()
    return result


async def _access_token(bench: Bench, oa_id: str) -> str:
    """The page's token, as the notifier keeps it."""
    fernet = Fernet((bench.hub.home / "token-encryption-key").read_bytes())
    store = open_store(HubSettings(mongo_uri=SecretStr(bench.mongo), mongo_database=DATABASE))
    try:
        while True:
            found = await store["page_tokens"].find_one({"_id": oa_id})
            if found is not None and found["access_token"] is not None:
                return fernet.decrypt(bytes(found["access_token"])).decode()
            await asyncio.sleep(0.2)
    finally:
        await store.close()


async def _followers(http: aiohttp.ClientSession, simulator: str, token: str, count: int) -> list[str]:
    """Ids of people who follow the page, from Zalo's own list."""
    found: list[str] = []
    while len(found) < count:
        asked = {"data": json.dumps({"offset": len(found), "count": 50})}
        address = f"{simulator}/v3.0/oa/user/getlist"
        async with http.get(address, params=asked, headers={"access_token": token}) as answer:
            users = (await answer.json())["data"]["users"]
        if not users:
            raise RuntimeError(f"only {len(found)} followers")
        found += [user["user_id"] for user in users]
    return found[:count]
