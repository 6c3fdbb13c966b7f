"""Wiring: the one place that connects the simulator with its three HTTP edges."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from simulator import control
from simulator.core import Simulator
from simulator.phone import routes as phone
from simulator.zalo_api import ZaloApi


def build_app(simulator: Simulator) -> ASGIApp:
    """The ASGI application: Zalo's paths in front on a short way, control API and phone page behind."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await simulator.start()
        yield
        await simulator.stop()

    pages = FastAPI(
        title="Zalo OA simulator",
        version="1",
        summary="Control API of a stand-in for Zalo Official Accounts",
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
    async def health() -> dict[str, Any]:
        return {"status": "ok", "run": simulator.run, "pages": len(simulator.world.pages)}

    api = ZaloApi(simulator)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and api.handles(scope["path"]):
            await api(scope, receive, send)
        else:
            await pages(scope, receive, send)

    return application
