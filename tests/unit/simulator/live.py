"""A simulator on a free port and a hub that only listens, for tests that speak HTTP to both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml
from aiohttp import web

from simulator.app import build_app
from simulator.core import Simulator
from simulator.server import bind, build_server
from simulator.settings import SimulatorSettings

APP_ID = "1000000000000000001"
APP_SECRET = "app-secret"
OA_KEY = "oa-secret-key"
WARD, DISTRICT = "tan-chanh-hiep", "district"
OA_IDS = {WARD: "4000000000000000008", DISTRICT: "4000000000000000015"}


def write_config(folder: Path) -> Path:
    path = folder / "zalo.yaml"
    document = {
        "oa_api_url": "http://127.0.0.1:1",
        "apps": [{"app_id": APP_ID, "app_secret": APP_SECRET, "oa_secret_keys": [OA_KEY, "older-key"]}],
        "pages": [
            {
                "page": WARD,
                "oa_id": OA_IDS[WARD],
                "app_id": APP_ID,
                "name": "Công an phường",
                "refresh_token": "first-8",
            },
            {
                "page": DISTRICT,
                "oa_id": OA_IDS[DISTRICT],
                "app_id": APP_ID,
                "name": "Công an quận",
                "refresh_token": "first-15",
            },
        ],
    }
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    return path


def settings_for(folder: Path, **changes: Any) -> SimulatorSettings:
    return SimulatorSettings(
        **{"config": write_config(folder), "state_dir": folder / "state", "time_scale": 0.0001, **changes}
    )


async def eventually(holds: Callable[[], bool], *, seconds: float = 10) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0.005)


@dataclass
class Received:
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        return dict(orjson.loads(self.raw))

    @property
    def event_name(self) -> str:
        return str(self.body["event_name"])


@dataclass
class Receiver:
    """A hub that notes what it gets and answers what the test wants."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    delay_of: Callable[[int], float] = lambda _number: 0.0

    def named(self, event_name: str) -> list[Received]:
        return [one for one in self.received if one.event_name == event_name]

    async def handle(self, request: web.Request) -> web.Response:
        raw = await request.read()
        await asyncio.sleep(self.delay_of(len(self.received)))
        self.received.append(Received({name.lower(): value for name, value in request.headers.items()}, raw))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@asynccontextmanager
async def listening() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/webhooks/zalo", receiver.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"http://{host}:{port}/webhooks/zalo"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@dataclass
class Live:
    """A running simulator and a client of it."""

    simulator: Simulator
    url: str
    http: aiohttp.ClientSession

    async def post(self, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        async with self.http.post(self.url + path, json=body if body is not None else {}, **options) as answer:
            assert answer.status == 200, (answer.status, await answer.text())
            return dict(await answer.json())

    async def get(self, path: str, **options: Any) -> dict[str, Any]:
        async with self.http.get(self.url + path, **options) as answer:
            assert answer.status == 200, (answer.status, await answer.text())
            return dict(await answer.json())

    async def refresh(self, refresh_token: str) -> dict[str, Any]:
        form = {"refresh_token": refresh_token, "app_id": APP_ID, "grant_type": "refresh_token"}
        async with self.http.post(
            self.url + "/v4/oa/access_token", data=form, headers={"secret_key": APP_SECRET}
        ) as answer:
            return dict(await answer.json())

    async def token(self) -> str:
        return str((await self.refresh("first-8"))["access_token"])

    async def write(self, text: str, citizen: str = "0901", **more: Any) -> dict[str, Any]:
        return await self.post("/control/messages", {"page": WARD, "citizen": citizen, "text": text, **more})

    async def send(self, token: str, user_id: str, message: Any, **headers: str) -> dict[str, Any]:
        body = {
            "recipient": {"user_id": user_id},
            "message": {"text": message} if isinstance(message, str) else message,
        }
        return await self.post("/v3.0/oa/message/cs", body, headers={"access_token": token, **headers})

    async def log(self, **filters: str) -> list[dict[str, Any]]:
        return list((await self.get("/control/log", params=filters))["items"])


@asynccontextmanager
async def running(settings: SimulatorSettings) -> AsyncIterator[Live]:
    listener = bind("127.0.0.1", 0)
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    simulator = Simulator(settings)
    server = build_server(build_app(simulator), simulator.closing.set)
    # What uvicorn's serve() does, without its signal handlers and its waits of tenths of seconds.
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup(sockets=[listener])
    try:
        async with aiohttp.ClientSession() as http:
            yield Live(simulator, simulator.public_url, http)
    finally:
        simulator.closing.set()
        for one in server.servers:
            one.close()
        listener.close()
        for connection in list(server.server_state.connections):
            connection.shutdown()
        await server.lifespan.shutdown()
