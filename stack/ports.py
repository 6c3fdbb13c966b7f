"""Ports on the loopback address: found free, kept between runs, and named with their holder when they are taken."""

import random
import socket
from collections.abc import Callable

import psutil

from stack.errors import StackError

HOST = "127.0.0.1"

FIRST_PORT, LAST_PORT = 20_000, 32_000
"""Below the range from which systems take the ports of outgoing connections (Linux 32768, others 49152 and up): while
a killed server is away nobody else gets its port by accident, and no client can connect to itself there."""


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now; ports that only wait for old connections to fade count as free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def is_open(address: str) -> bool:
    """Whether somebody accepts connections at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except OSError:
        return False


def holder(port: int) -> psutil.Process | None:
    """The process that listens on the port, or None when the system does not tell."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return None
    for connection in connections:
        if (
            connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr[1] == port
            and connection.pid
        ):
            try:
                return psutil.Process(connection.pid)
            except psutil.Error:
                return None
    return None


def find_free(taken: set[int]) -> int:
    """A free port outside `taken`.

    Raises:
        StackError: a thousand draws found none.
    """
    draw = random.SystemRandom()
    for _ in range(1000):
        port = draw.randint(FIRST_PORT, LAST_PORT)
        if port not in taken and is_free(port):
            return port
    raise StackError(
        "no_free_port",
        f"No free port between {FIRST_PORT} and {LAST_PORT} on {HOST}.",
        "Stop programs that listen there; `ss -ltn` lists them.",
    )


def choose(
    name: str, *, fixed: int | None, remembered: int | None, taken: set[int], is_ours: Callable[[int], bool]
) -> int:
    """Choose the port of one program: the fixed one, else the one of the last run, else a free one.

    Args:
        name: the setting that fixes it, for the error.
        fixed: what the person asked for.
        remembered: what the last run used.
        taken: ports of this run's other programs.
        is_ours: whether the port is held by this hub's own running program.

    Raises:
        StackError: the fixed port belongs to somebody else.
    """
    if fixed is not None:
        if fixed in taken or not (is_free(fixed) or is_ours(fixed)):
            raise port_taken(name, fixed)
        return fixed
    if remembered is not None and remembered not in taken and (is_ours(remembered) or is_free(remembered)):
        return remembered
    return find_free(taken)


def port_taken(name: str, port: int) -> StackError:
    """The error for a port that somebody else holds, with the holder's name where the system tells it."""
    process = holder(port)
    who = "another program (the system does not tell which)"
    if process is not None:
        try:
            who = f"{process.name()} (pid {process.pid}: {' '.join(process.cmdline())[:120]})"
        except psutil.Error:
            who = f"the process with pid {process.pid}"
    return StackError(
        "port_taken",
        f"Port {port} ({name}) is already in use by {who}.",
        f"Stop that program, or choose another port: {name}=… make up (without {name} a free one is found).",
    )
