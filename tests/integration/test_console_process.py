"""The console as processes on a real Kafka and a real database: two replicas, one of them killed.

What must hold: every decision that was not undone is on the topic, none that was undone is, and a kill adds at most
the same event under the same id, which the router takes for a redelivery.
How we break it: kill -9 of one replica while decisions become due.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer

from shared.events import OfficerActed
from shared.mongo import open_store
from shared.settings import HubSettings
from shared.topics import OFFICER_ACTIONS
from tests.unit.console.house import scratch_name, until
from tests.unit.console.visitor import a_program
from tests.unit.console.world import PAGE, a_busy_night, a_code

PASSWORD = "một mật khẩu dài"


@pytest.fixture
def environment(mongo_uri: str, kafka_bootstrap: str, tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    return kept | {
        "MONGO_URI": mongo_uri,
        "MONGO_DATABASE": scratch_name(),
        "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap,
        "HUB_ENVIRONMENT": "demo",
        "HUB_HOME": str(tmp_path),
        "CONSOLE_DEMO_PASSWORD": PASSWORD,
        "PYTHONPATH": ".",
    }


def run(environment: dict[str, str], *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], env=environment, input=given, capture_output=True, text=True, timeout=120
    )


@contextmanager
def a_console(environment: dict[str, str], log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.console"],
            env=environment | {"HTTP_PORT": str(port)},
            stdout=output,
            stderr=output,
        )
        try:
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.terminate()
            process.wait(30)


async def is_ready(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/health/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


@pytest.fixture
async def topic(environment: dict[str, str]) -> AsyncIterator[AIOKafkaConsumer]:
    created = await asyncio.to_thread(run, environment, "cli", "init")
    assert created.returncode == 0, created.stdout + created.stderr
    consumer = AIOKafkaConsumer(  # type: ignore[no-untyped-call]
        OFFICER_ACTIONS.name, bootstrap_servers=environment["KAFKA_BOOTSTRAP_SERVERS"], auto_offset_reset="earliest"
    )
    await consumer.start()  # type: ignore[no-untyped-call]  # the library has no hint here
    yield consumer
    await consumer.stop()  # type: ignore[no-untyped-call]


async def test_decisions_survive_the_kill_of_a_replica_and_undone_ones_stay_undone(
    environment: dict[str, str], topic: AIOKafkaConsumer, tmp_path: Path
) -> None:
    settings = HubSettings(mongo_uri=environment["MONGO_URI"], mongo_database=environment["MONGO_DATABASE"])
    store = open_store(settings)
    await a_busy_night(store)
    with (
        a_console(environment, tmp_path / "first.log") as (first_url, first),
        a_console(environment, tmp_path / "second.log") as (second_url, _),
    ):
        await until(lambda: is_ready(first_url), seconds=60)
        await until(lambda: is_ready(second_url), seconds=60)
        decided, undone = set(), set()
        async with a_program(first_url, PAGE, PASSWORD) as one, a_program(second_url, PAGE, PASSWORD) as other:
            for number in range(24):
                program = one if number % 2 else other
                status, action = await program.call(
                    "POST",
                    f"/api/cases/{a_code((40, 41, 42)[number % 3])}/actions",
                    {"action": "reply", "text": f"trả lời {number}", "wait_seconds": 8 if number % 4 == 0 else 1},
                    **{"Idempotency-Key": f"decision-{number}"},
                )
                assert status == 202, action
                decided.add(action["action_id"])
                if number % 4 == 0:
                    status, answer = await other.call("DELETE", f"/api/actions/{action['action_id']}")
                    if status == 200:  # on a busy machine its time may be up, and then it says so
                        undone.add(action["action_id"])
                    else:
                        assert (status, answer["code"]) == (409, "action.too_late")
            first.kill()

            async def all_are_done() -> bool:
                query = {"state": {"$in": ["waiting", "publishing"]}}
                return await store["pending_actions"].find_one(query) is None

            await until(all_are_done, seconds=90)
        heard: list[OfficerActed] = []
        while True:
            batch = await topic.getmany(timeout_ms=2_000)
            if not batch:
                break
            heard += [OfficerActed.model_validate_json(r.value or b"") for records in batch.values() for r in records]
        ours = [event for event in heard if event.event_id in decided]
        assert {event.event_id for event in ours} == decided - undone
        assert undone
        by_id = {event.event_id: event for event in ours}
        assert all(event == by_id[event.event_id] for event in ours)
    await store.drop()
    await store.close()


async def test_the_first_account_of_a_real_installation_comes_from_the_command_line(
    environment: dict[str, str], topic: AIOKafkaConsumer, tmp_path: Path
) -> None:
    assert topic
    real = environment | {"HUB_ENVIRONMENT": "production"}
    arguments = ("services.console", "accounts", "save", "an.nguyen", "--unit", PAGE, "--name", "Nguyễn Văn An")
    refused = await asyncio.to_thread(run, real, *arguments, given="ngắn\n")
    assert refused.returncode == 2
    saved = await asyncio.to_thread(run, real, *arguments, given="con mèo ngồi trên mái\n")
    assert saved.returncode == 0, saved.stderr
    assert "an.nguyen" in (await asyncio.to_thread(run, real, "services.console", "accounts", "list")).stdout
    with a_console(real, tmp_path / "console.log") as (url, _):
        await until(lambda: is_ready(url), seconds=60)
        async with a_program(url, "an.nguyen", "con mèo ngồi trên mái") as program:
            assert (await program.call("GET", "/api/me"))[1]["name"] == "Nguyễn Văn An"
            closed = await asyncio.to_thread(run, real, "services.console", "accounts", "disable", "an.nguyen")
            assert closed.returncode == 0
            assert (await program.call("GET", "/api/me"))[0] == 401
        demo = {"account": PAGE, "password": PASSWORD}
        async with aiohttp.ClientSession() as session, session.post(f"{url}/api/sessions", json=demo) as answer:
            assert answer.status == 401  # no demo accounts here
    assert not (tmp_path / "demo-accounts.json").exists()
