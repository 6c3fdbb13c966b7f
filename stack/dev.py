"""`make dev`: the servers under the supervisor, and services and simulator together in this one process.

One event loop, so a breakpoint stops the whole hub and a message can be followed from webhook to answer.
"""

import asyncio
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvicorn
import watchfiles

from shared.service import server as service_server
from simulator.app import build_app as build_simulator_app
from simulator.core import Simulator
from simulator.server import bind, build_server
from simulator.settings import SimulatorSettings
from stack.hub import DevPlan
from stack.settings import ROOT
from stack.terminal import Terminal

WATCHED = ("services", "shared", "simulator", "data", "config")


def run_once(plan: DevPlan) -> None:
    """Run until interrupted; what a debugger starts."""
    asyncio.run(_serve(plan))


def run_reloading(terminal: Terminal) -> None:
    """Run in a child process and start it again whenever a watched file changes."""

    def report(changes: set[watchfiles.main.FileChange]) -> None:
        names = sorted({str(Path(path).relative_to(ROOT)) for _, path in changes})
        terminal.say(f"  [dim]changed: {', '.join(names[:5])}; starting again[/dim]")

    command = f"{sys.executable} -m stack dev --no-reload"
    paths = [ROOT / name for name in WATCHED if (ROOT / name).exists()]
    watchfiles.run_process(
        *paths, target=command, target_type="command", callback=report, grace_period=1, sigint_timeout=30
    )


async def _serve(plan: DevPlan) -> None:
    servers: list[tuple[uvicorn.Server, dict[str, Any]]] = []
    for service, environment in plan.services.items():
        with _environment(environment):
            settings_class = getattr(
                importlib.import_module(f"services.{service}.settings"), f"{service.capitalize()}Settings"
            )
            settings = settings_class()
        app = importlib.import_module(f"services.{service}.app").build_app(settings)
        servers.append((service_server(app, settings), {}))
    if plan.simulator is not None:
        settings = SimulatorSettings(**plan.simulator)
        simulator = Simulator(settings)
        running = build_server(build_simulator_app(simulator), simulator.closing.set)
        servers.append((running, {"sockets": [bind(settings.host, settings.port)]}))

    def stop(number: int) -> None:
        # Ctrl-C arrives twice under the file watcher, and uvicorn takes a second signal for "without good-bye": the
        # consumers would be left open. So each server hears of the end once.
        for server, _options in servers:
            if not server.should_exit:
                server.handle_exit(number, None)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    async with asyncio.TaskGroup() as group:
        for server, options in servers:
            # Each server would install signal handlers of its own and only the last one would stop.
            server.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign]
            group.create_task(_until_done(server, options, stop))


async def _until_done(server: uvicorn.Server, options: dict[str, Any], stop: Any) -> None:
    await server.serve(**options)
    stop(signal.SIGTERM)  # one that could not start takes the others with it, so that the error is seen


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Any:
    """Let settings be read from these values; several services cannot share one process's environment otherwise."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
