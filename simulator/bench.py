"""How much the simulator can take: `python -m simulator.bench --help`.

Starts a simulator of its own on one CPU core, a listener for its webhooks and the load on the others, fills a page
with followers, sends to them at a steady rate, and prints what both sides measured. So a hub that is measured against
the simulator can tell its own limit from the simulator's.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer

from simulator.settings import load_zalo_config, write_example_config

_READY_SECONDS = 30.0
_ECHO_SECONDS = 60.0
_TICK_SECONDS = 0.01


class _Sink(asyncio.Protocol):
    """Answers every webhook with 200 and counts it: far cheaper than a web server, so it does not disturb."""

    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with an empty buffer."""
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer as many whole requests as have come."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = re.search(rb"(?i)content-length: *(\d+)", self._buffer[:end])
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            self._buffer = self._buffer[whole:]
            _Sink.count += 1
            if isinstance(self._transport, asyncio.WriteTransport):
                self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


@dataclass(slots=True)
class Report:
    """What was measured."""

    followers: int
    followers_seconds: float
    sends: int = 0
    refused: int = 0
    seconds: float = 0.0
    wait_ms: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0
    echoes: int = 0
    echo_seconds: float = 0.0
    peak_megabytes: int = 0

    def lines(self) -> list[str]:
        """The report in words."""
        at = statistics.quantiles(self.wait_ms, n=100)
        return [
            f"followers      {self.followers} in {self.followers_seconds:.2f} s",
            f"sends          {self.sends} in {self.seconds:.1f} s, {self.refused} refused",
            f"rate           {self.sends / self.seconds:.0f} a second",
            f"answer         p50 {at[49]:.1f} ms, p99 {at[98]:.1f} ms",
            f"simulator      {100 * self.cpu_seconds / self.seconds:.0f} % of one core",
            f"               {1e6 * self.cpu_seconds / self.sends:.0f} µs a send with its echo",
            f"echoes         {self.echoes} received, the last {self.echo_seconds:.1f} s after the last send",
            f"memory         {self.peak_megabytes} MB at most",
        ]


def _pin(cores: set[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_megabytes(pid: int) -> int:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines())
    return int(status["VmHWM"].split()[0]) // 1024


@asynccontextmanager
async def _simulator(folder: Path, webhook_url: str, core: int) -> AsyncIterator[tuple[int, str]]:
    config = folder / "zalo.yaml"
    write_example_config(config)
    arguments = ["--config", str(config), "--state-dir", str(folder / "state"), "--port", "0"]
    arguments += ["--webhook-url", webhook_url, "--rate-limit-per-minute", "0"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "simulator", *arguments),
        stdout=subprocess.PIPE,
        preexec_fn=lambda: _pin({core}),  # in the child alone, which is no thread of ours
    )
    try:
        if process.stdout is None:
            raise RuntimeError("the simulator has no output")
        line = (await asyncio.wait_for(process.stdout.readline(), _READY_SECONDS)).decode()
        found = re.search(r"http://\S+(?=/)", line)
        if found is None:
            raise RuntimeError(f"the simulator did not start: {line!r}")
        yield process.pid, found[0]
    finally:
        process.terminate()
        await process.wait()


async def _post(http: aiohttp.ClientSession, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    async with http.post(path, json=body, headers=headers) as answer:
        return dict(await answer.json())


async def _ready(http: aiohttp.ClientSession) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            async with http.get("/health/ready") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.05)


async def _people(http: aiohttp.ClientSession, token: str) -> list[str]:
    """Ids of followers: as many as Zalo's list gives."""
    users: list[str] = []
    for offset in range(0, 1_000, 50):
        data = f'{{"offset": {offset}, "count": 50}}'
        async with http.get("/v3.0/oa/user/getlist", params={"data": data}, headers={"access_token": token}) as answer:
            users += [user["user_id"] for user in (await answer.json())["data"]["users"]]
    return users


async def _send_steadily(
    http: aiohttp.ClientSession, token: str, users: list[str], report: Report, *, rate: int, seconds: float
) -> None:
    """Send at a steady rate, whatever the answers take; a wait is counted from when the send was due."""
    waiting: set[asyncio.Task[None]] = set()

    async def send(number: int, due: float) -> None:
        recipient = {"user_id": users[number % len(users)]}
        body = {"recipient": recipient, "message": {"text": f"Thông báo số {number} của công an phường"}}
        answer = await _post(http, "/v3.0/oa/message/cs", body, access_token=token)
        report.wait_ms.append((time.perf_counter() - due) * 1000)
        report.refused += answer["error"] != 0

    began = time.perf_counter()
    total = int(rate * seconds)
    while report.sends < total:
        now = time.perf_counter()
        while report.sends < total and (due := began + report.sends / rate) <= now:
            task = asyncio.create_task(send(report.sends, due))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            report.sends += 1
        await asyncio.sleep(_TICK_SECONDS)
    if waiting:
        await asyncio.gather(*waiting)
    report.seconds = time.perf_counter() - began


async def _echoes(http: aiohttp.ClientSession, report: Report) -> None:
    """Wait until every send has come back as an echo."""
    last_send = time.perf_counter()
    while _Sink.count < report.sends - report.refused and time.perf_counter() < last_send + _ECHO_SECONDS:
        async with http.get("/control/state") as answer:
            webhooks = (await answer.json())["webhooks"]
        if not webhooks["queued"] and not webhooks["in_flight"]:
            break
        await asyncio.sleep(0.1)
    report.echoes, report.echo_seconds = _Sink.count, time.perf_counter() - last_send


async def measure(*, rate: int, seconds: float, followers: int) -> Report:
    """Run the measurement and report."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    if len(cores) > 1:
        _pin(set(cores[:-1]))
    sink = await asyncio.get_running_loop().create_server(_Sink, "127.0.0.1", 0)
    webhook_url = f"http://127.0.0.1:{sink.sockets[0].getsockname()[1]}/webhooks/zalo"
    with tempfile.TemporaryDirectory(prefix="simulator-bench-") as folder:
        async with _simulator(Path(folder), webhook_url, cores[-1]) as (pid, url):
            connector = aiohttp.TCPConnector(limit=256)
            async with aiohttp.ClientSession(url, connector=connector) as http:
                await _ready(http)
                config = load_zalo_config(Path(folder) / "zalo.yaml")
                app, page = config.apps[0], config.pages[0]
                form = {"grant_type": "refresh_token", "app_id": app.app_id}
                form["refresh_token"] = page.initial_refresh_token()
                async with http.post("/v4/oa/access_token", data=form, headers={"secret_key": app.app_secret}) as given:
                    token = str((await given.json())["access_token"])
                filled = {"page": page.page, "count": followers, "last_interaction_hours_ago": 1}
                report = Report(followers, float((await _post(http, "/control/followers", filled))["seconds"]))
                users = await _people(http, token)
                before = _cpu_seconds(pid)
                await _send_steadily(http, token, users, report, rate=rate, seconds=seconds)
                await _echoes(http, report)
                report.cpu_seconds = _cpu_seconds(pid) - before
                report.peak_megabytes = _peak_megabytes(pid)
    sink.close()
    return report


def main(
    rate: Annotated[int, typer.Option(min=1, help="Sends a second.")] = 2_000,
    seconds: Annotated[float, typer.Option(min=1, help="How long.")] = 15.0,
    followers: Annotated[int, typer.Option(min=50, help="Followers of the page.")] = 60_000,
) -> None:
    """Send at a steady rate to a simulator on a core of its own and print what both sides measured (Linux)."""
    typer.echo(f"Sending {rate} messages a second for {seconds:.0f} s …", err=True)
    for line in asyncio.run(measure(rate=rate, seconds=seconds, followers=followers)).lines():
        typer.echo(line)


if __name__ == "__main__":
    typer.run(main)
