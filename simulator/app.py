"""Wiring: the one place that connects the simulator with its three HTTP edges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from simulator import broadcasts, control, openapi
from simulator.core import Simulator
from simulator.phone import routes as phone
from simulator.zalo_api import ZaloApi


def build_pages(simulator: Simulator | None) -> FastAPI:
    """Control API and phone page; without a simulator they can only be described."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if simulator is None:
            raise RuntimeError("there is no simulator behind these pages")
        await simulator.start()
        delivering = asyncio.create_task(broadcasts.keep_delivering(simulator))
        yield
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)
        await simulator.stop()

    pages = FastAPI(
        title="Zalo OA simulator",
        version="1",
        summary="A stand-in for Zalo Official Accounts: Zalo's own paths, and a control API",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,  # the stock page loads scripts from elsewhere
        redoc_url=None,
        openapi_url="/control/openapi.json",
        lifespan=lifespan,
    )
    pages.state.simulator = simulator
    pages.include_router(control.router)
    phone.install(pages)

    @pages.get("/health/live", tags=["health"])
    @pages.get("/health/ready", tags=["health"])
    async def health(request: Request) -> dict[str, Any]:
        """Whether it serves."""
        simulator = control.simulator_of(request)
        return {"status": "ok", "run": simulator.run, "pages": len(simulator.world.pages)}

    pages.openapi = lambda: openapi.document(pages)  # type: ignore[method-assign] # FastAPI's documented way
    return pages


def build_app(simulator: Simulator) -> ASGIApp:
    """The ASGI application: Zalo's paths in front on a short way, control API and phone page behind."""
    pages = build_pages(simulator)
    api = ZaloApi(simulator)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and api.handles(scope["path"]):
            await api(scope, receive, send)
        else:
            await pages(scope, receive, send)

    return application
