"""A running console for tests: real pages over a real socket and a real database, with a publisher that remembers."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from argon2 import PasswordHasher

from services.console.adapters.account_store import AccountStore, Passwords
from services.console.adapters.demo_accounts import demo_officers, seed_demo_accounts
from services.console.app import build_deps, build_web
from services.console.domain import Officer
from services.console.handlers import keep_publishing
from services.console.settings import ConsoleSettings
from services.console.web import ConsoleDeps, Protect
from shared.collections import create_indexes
from shared.dead_letter import DeadLetter, DeadLetters
from shared.errors import BrokerUnavailable
from shared.events import Event, OfficerActed
from shared.kafka import cloud_event_headers
from shared.mongo import Store, open_store
from shared.topics import Topic

CHEAP = PasswordHasher(time_cost=1, memory_cost=1_024, parallelism=1)
"""Checking it takes the parameters of the hash, so tests need not wait for real ones."""

PASSWORD = "mot-mat-khau-dai"
LEAD = "lanh-dao"


@dataclass
class Remembered:
    """Stands in for Kafka: remembers what was published, and can be away."""

    events: list[OfficerActed] = field(default_factory=list)
    is_away: bool = False

    async def publish(self, topic: Topic, event: Event) -> None:
        """Remember it."""
        if self.is_away:
            raise BrokerUnavailable("away")
        assert topic.name == "officer.actions.v1"
        assert isinstance(event, OfficerActed)
        self.events.append(event)


@dataclass(frozen=True)
class House:
    """A running console."""

    url: str
    deps: ConsoleDeps
    store: Store
    published: Remembered


def settings_for(uri: str, database: str, **values: Any) -> ConsoleSettings:
    """Settings for a database of a test."""
    usual: dict[str, Any] = {"hub_environment": "demo", "console_poll_seconds": 0.1}
    return ConsoleSettings(**{"mongo_uri": uri, "mongo_database": database} | usual | values)


@asynccontextmanager
async def open_house(
    settings: ConsoleSettings, *, units: tuple[str, ...] = ("tan-chanh-hiep", "thoi-an")
) -> AsyncIterator[House]:
    """Serve the pages on a free port, with accounts for some units and the lead."""
    store = open_store(settings)
    await create_indexes(store)
    deps = build_deps(settings, store)
    named = [(slug, deps.unit_name(slug, "vi")) for slug in units]
    officers: list[Officer] = demo_officers(named, lead_unit="district")
    await seed_demo_accounts(AccountStore(store), Passwords(CHEAP), officers, password=PASSWORD)
    published = Remembered()
    web = Protect(build_web(deps), is_secure=deps.is_secure)
    config = uvicorn.Config(web, host="127.0.0.1", port=0, lifespan="off", log_config=None, ws="none")
    server = uvicorn.Server(config)
    deps.live.is_stopping = lambda: server.should_exit
    tasks = [
        asyncio.create_task(server.serve()),
        asyncio.create_task(deps.live.run()),
        asyncio.create_task(keep_publishing(deps.actions, published)),
    ]
    try:
        await until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield House(f"http://127.0.0.1:{port}", deps, store, published)
    finally:
        server.should_exit = True
        await tasks[0]
        for task in tasks[1:]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.drop()
        with contextlib.suppress(Exception):
            await store.close()


async def refuse(house: House, event: OfficerActed) -> None:
    """What the router does with a decision that it cannot carry out."""
    headers = tuple((name, value.encode()) for name, value in cloud_event_headers(event, source="console").items())
    body = event.model_dump_json().encode()
    letter = DeadLetter("officer.actions.v1", 0, 7, None, headers, body, "case.unknown", "CaseUnknown")
    await DeadLetters(house.store, "router").park(letter)


async def until(condition: Callable[[], Any], *, seconds: float = 10.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while True:
            answer = condition()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return
            await asyncio.sleep(0.02)


def scratch_name(prefix: str = "console") -> str:
    """A database name that nobody else uses."""
    return f"{prefix}_{os.urandom(6).hex()}"
