"""`python -m tests.bench.growth`: the same work with 0, 10,000 and 100,000 stored cases, and as many stored replies.

Each size has a database of its own on one server. The router's handler and the notifier's ledger and sender do the
same work in each, turn and turn about in changing order, so that what else the machine does cancels out. Kafka and
Zalo, which know nothing of what is stored, are left out: what grows would show larger than it is. The numbers are of
this machine on this day, never asserted.
"""

import argparse
import asyncio
import os
import platform
import secrets
import statistics
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from services.notifier.app import Rooms, build_rooms
from services.notifier.domain.outcomes import Accepted
from services.notifier.handlers.events import queue_replies
from services.notifier.handlers.send_replies import ReplySender
from services.notifier.settings import NotifierSettings
from services.router.adapters.case_store import MongoCaseStore
from services.router.adapters.data_files import (
    load_answers,
    load_choices,
    load_service_levels,
    load_understanding,
    load_unit_resolver,
)
from services.router.domain.cases import Desk
from services.router.handlers.citizen_messages import MessageDeps, assign_messages
from services.router.settings import RouterSettings
from shared.collections import create_indexes
from shared.directory import load_directory
from shared.kafka import Received
from shared.mongo import Document, Store, insert_new
from shared.telemetry import configure_logging
from shared.zalo_config import ZaloPage, load_zalo_config
from simulator.settings import write_example_config
from tests.bench import load
from tests.servers import mongo_product, running_hub
from tests.unit.notifier.fakes import FakeTokens

SIZES = (0, 10_000, 100_000)
BATCH = 200
PATTERNS = 200
"""Documents that the services wrote themselves; what is stored are copies of them."""
WAITING_EVERY = 100
"""One stored case in so many still waits for an officer; the others are closed."""
IDENTITIES = ("_id", "case_id", "code", "case_code", "citizen_key", "event_id", "message_id", "message_key", "user_id")


class AcceptsAll:
    """Zalo without the network."""

    def __init__(self) -> None:
        self.count = 0

    async def send(self, *_: Any, **__: Any) -> Accepted:
        self.count += 1
        return Accepted(uuid.uuid4().hex)


@dataclass
class Size:
    """One database with so much in it, and the services' own parts at work on it."""

    stored: int
    store: Store
    router: MessageDeps
    notifier: Rooms
    page: ZaloPage

    async def route(self, items: int) -> None:
        """Messages of as many citizens: read, decided, cases written."""
        messages = load.messages(self.page, items, run=secrets.token_hex(4))
        for start in range(0, items, BATCH):
            batch = [Received(one, 0, start) for one in messages[start : start + BATCH]]
            await assign_messages(batch, self.router)

    async def reply(self, items: int) -> None:
        """Replies to as many citizens: queued, claimed, marked, accepted, recorded."""
        rooms = self.notifier
        zalo = AcceptsAll()
        outside = replace(rooms.sender._outside, tokens=FakeTokens(), zalo=zalo)
        sender = ReplySender(outside, rooms.deps.settlement, rooms.sender._rules, rooms.sender._limits)
        deps = replace(rooms.deps, sender=sender)
        run = secrets.token_hex(4)
        replies = load.replies(self.page, [f"99{run}{number:08d}" for number in range(items)])
        loop = asyncio.create_task(sender.run())
        try:
            for start in range(0, items, BATCH):
                await queue_replies([Received(one, 0, start) for one in replies[start : start + BATCH]], deps)
            while zalo.count < items or sender.in_flight:  # noqa: ASYNC110 - the sender tells nobody that it is done
                await asyncio.sleep(0.005)
        finally:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)

    async def look(self, _: int) -> None:
        """What the metrics ask of the database every few seconds."""
        await MongoCaseStore(self.store).waiting_cases(2_000)
        await self.notifier.ledger.counts()
        await self.notifier.ledger.oldest_due(now=self.notifier.clock.now())


async def fill(size: Size) -> None:
    """Store copies of what the services wrote."""
    for work in (size.route, size.reply):
        await work(PATTERNS)
    store = size.store
    for name in ("messages", "cases", "case_entries", "reply_ledger", "contacts"):
        patterns = await store[name].find({}).to_list(None)
        if patterns:
            await _store_copies(store, name, patterns, size.stored)


def a_copy(document: Document, *, mark: str) -> Document:
    """The same document of somebody else: all that names it or its citizen begins with the mark."""
    return document | {key: mark + document[key] for key in IDENTITIES if isinstance(document.get(key), str)}


async def _store_copies(store: Store, name: str, patterns: Sequence[Document], count: int) -> None:
    for start in range(0, count, 2_000):
        copies = []
        for number in range(start, min(start + 2_000, count)):
            copy = a_copy(patterns[number % len(patterns)], mark=f"{number}-")
            if name == "cases" and number % WAITING_EVERY:
                copy |= {"state": "closed", "is_open": False, "open_key": None, "closed_at": copy["last_message_at"]}
            elif name == "cases":
                copy["open_key"] = copy["citizen_key"]
            copies.append(copy)
        await insert_new(store[name], copies)


@asynccontextmanager
async def a_size(stored: int, uri: str, config: Path, *, database: str = "growth") -> AsyncIterator[Size]:
    """A database with so much stored in it."""
    common = {
        "mongo_uri": uri,
        "mongo_database": f"{database}_{stored}",
        "log_level": "ERROR",
        "hub_environment": "demo",
    }
    own = {
        "token_encryption_key": Fernet.generate_key().decode(),
        "zalo_config_file": config,
        "page_calls_per_minute": 10_000_000,
        "app_calls_per_minute": 10_000_000,
    }
    settings = NotifierSettings.model_validate(common | own)
    rooms = build_rooms(settings)
    router = RouterSettings.model_validate(common)
    directory = load_directory(router.data_dir)

    async def nowhere(_: Sequence[Any]) -> None:
        """Kafka is left out."""

    deps = MessageDeps(
        store=MongoCaseStore(rooms.store),
        understanding=load_understanding(router.data_dir),
        responsible_unit=load_unit_resolver(router.data_dir, directory),
        directory=directory,
        desk=Desk(
            load_service_levels(router.data_dir),
            load_answers(router.data_dir, allows_unapproved=True),
            load_choices(router.data_dir, directory),
        ),
        publish_replies=nowhere,
        publish_choices=nowhere,
        now=lambda: datetime.now(UTC),
    )
    await create_indexes(rooms.store)
    async with rooms.opened():
        size = Size(stored, rooms.store, deps, rooms, load_zalo_config(config).pages[0])
        started = time.perf_counter()
        await fill(size)
        if stored:
            print(f"{stored:,} stored in {time.perf_counter() - started:.0f} s", flush=True)
        yield size
    await rooms.store.close()


async def compare(sizes: Sequence[Size], *, items: int, rounds: int) -> None:
    """The same work in each database, turn and turn about; prints a table."""
    works: dict[str, tuple[Callable[[Size, int], Any], int]] = {
        "router: messages read, assigned, in cases": (Size.route, items),
        "notifier: replies queued, claimed, marked, recorded": (Size.reply, items),
        "metrics: what waits, in cases and in the ledger": (Size.look, 1),
    }
    print(f"\n| per second, median of {rounds} | " + " | ".join(f"{one.stored:,} stored" for one in sizes) + " |")
    print("| --- |" + " ---: |" * len(sizes))
    for title, (work, count) in works.items():
        rates: dict[int, list[float]] = defaultdict(list)
        for number in range(rounds + 1):
            # Another one begins in each round, and the first round only warms up.
            for size in (*sizes[number % len(sizes) :], *sizes[: number % len(sizes)]):
                started = time.perf_counter()
                await work(size, count)
                if number:
                    rates[size.stored].append(count / (time.perf_counter() - started))
        medians = {stored: statistics.median(found) for stored, found in rates.items()}
        first = medians[sizes[0].stored]
        cells = [f"{medians[size.stored]:,.0f} ({medians[size.stored] / first:.2f})" for size in sizes]
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


async def main(items: int, rounds: int, sizes: Sequence[int]) -> None:
    """Measure on a server of its own."""
    configure_logging("bench", level="ERROR", log_format="json")
    database = os.environ.get("HUB_MONGO", "auto")
    with (
        tempfile.TemporaryDirectory(prefix="bench-growth-") as folder,
        running_hub(only=["mongo"], environment={"HUB_MONGO": database}) as hub,
    ):
        uri, config = str(hub.state.mongo), Path(folder) / "zalo.yaml"
        write_example_config(config)
        print(f"{mongo_product(uri)}, {os.cpu_count()} cores, Python {platform.python_version()}", flush=True)
        async with AsyncExitStack() as opened:
            databases = [await opened.enter_async_context(a_size(stored, uri, config)) for stored in sizes]
            await compare(databases, items=items, rounds=rounds)
        print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth", description=__doc__)
    parser.add_argument("--items", type=int, default=400, help="messages and replies of a round")
    parser.add_argument("--rounds", type=int, default=15, help="counted rounds; one more warms up")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="how much is stored")
    given = parser.parse_args()
    asyncio.run(main(given.items, given.rounds, given.sizes))
