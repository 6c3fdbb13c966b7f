"""The web server: uvicorn, with a way to drop a connection in mid-call and to end streams when it stops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_TRANSPORT = "simulator.transport"


class CuttableProtocol(HttpToolsProtocol):
    """HTTP/1.1 that shows its transport to the application, so that an answer can get lost on the wire."""

    def on_message_begin(self) -> None:
        """Begin a request as usual and note its transport."""
        super().on_message_begin()
        self.scope["extensions"] = {_TRANSPORT: {"transport": self.transport}}


async def cut_connection(scope: Scope, receive: Receive) -> None:
    """Drop the connection without answering; the client cannot know whether its request was applied."""
    transport: asyncio.Transport = scope["extensions"][_TRANSPORT]["transport"]
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass


class Server(uvicorn.Server):
    """Tells the application that it is about to stop before it waits for open connections."""

    def __init__(self, config: uvicorn.Config, before_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._before_exit = before_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop on SIGINT or SIGTERM."""
        self._before_exit()
        super().handle_exit(sig, frame)


def bind(host: str, port: int) -> socket.socket:
    """Open the listening socket; port 0 takes a free one.

    Raises:
        OSError: the address is taken or not ours.
    """
    # asyncio switches Nagle's algorithm off only for sockets that say they speak TCP: 40 ms an answer otherwise.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def build_server(app: ASGIApp, before_exit: Callable[[], None]) -> Server:
    """A server for one process; it writes warnings only."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=CuttableProtocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=3,
    )
    return Server(config, before_exit)
