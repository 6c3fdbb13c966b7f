"""The servers everything else is tested on: real, durable, and back by themselves after a kill -9.

What must hold: a record or document that was acknowledged before the kill is there after it; the supervisor brings
the program back; nothing of a stopped hub is left running. How we break it: kill -9 of each server and of the
supervisor itself.
"""

import os
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from stack import ports
from stack.errors import StackError
from stack.hub import Hub
from stack.settings import StackSettings
from stack.supervision import processes_of
from stack.terminal import Terminal
from tests.servers import RunningHub, running_hub

# aiokafka has hints for a part of its classes only; these have none.
_producer: Any = AIOKafkaProducer
_consumer: Any = AIOKafkaConsumer
_new_topic: Any = NewTopic


@pytest.fixture(scope="module")
def servers() -> Iterator[RunningHub]:
    with running_hub(only=["kafka", "mongo"]) as running:
        yield running


@asynccontextmanager
async def a_topic(bootstrap: str, *, copies: int = 1) -> AsyncIterator[str]:
    name = f"stack-{uuid.uuid4().hex[:8]}"
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([_new_topic(name, num_partitions=1, replication_factor=copies)])
    yield name
    await admin.close()


async def send(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = _producer(bootstrap_servers=bootstrap, enable_idempotence=True)
    await producer.start()
    for value in values:
        await producer.send_and_wait(topic, value)
    await producer.stop()


async def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = _consumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=topic)
    await consumer.start()
    values = [(await consumer.getone()).value for _ in range(count)]
    await consumer.stop()
    return values


async def test_records_are_read_as_they_were_sent(kafka_bootstrap: str) -> None:
    async with a_topic(kafka_bootstrap) as topic:
        await send(kafka_bootstrap, topic, [b"mot", b"hai"])
        assert await read(kafka_bootstrap, topic, 2) == [b"mot", b"hai"]


def test_documents_are_read_as_they_were_written(mongo_uri: str) -> None:
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        papers = client[f"stack_{uuid.uuid4().hex[:8]}"]["papers"]
        papers.insert_one({"_id": 1, "name": "căn cước"})
        assert papers.find_one({"_id": 1}) == {"_id": 1, "name": "căn cước"}
        papers.database.client.drop_database(papers.database.name)


async def test_records_acknowledged_before_a_kill_are_there_after_it(servers: RunningHub) -> None:
    bootstrap = servers.state.kafka or ""
    values = [str(number).encode() for number in range(200)]
    async with a_topic(bootstrap) as topic:
        await send(bootstrap, topic, values)
        dead = servers.kill("kafka")
        servers.wait_ready("kafka")
        assert servers.pid("kafka") not in {0, dead}
        assert await read(bootstrap, topic, 200) == values


def test_documents_acknowledged_before_a_kill_are_there_after_it(servers: RunningHub) -> None:
    name = f"stack_{uuid.uuid4().hex[:8]}"
    with MongoClient[dict[str, Any]](servers.state.mongo) as client:
        for number in range(200):
            client[name]["papers"].insert_one({"_id": number})
        dead = servers.kill("mongo")
        servers.wait_ready("mongo")
        assert servers.pid("mongo") not in {0, dead}
        assert client[name]["papers"].count_documents({}) == 200


def test_a_server_killed_for_good_stays_away_until_it_is_started(servers: RunningHub) -> None:
    servers.kill("mongo", restart=False)
    assert servers.pid("mongo") == 0
    servers.start("mongo")
    servers.wait_ready("mongo")


@pytest.mark.parametrize("password", ["", "hub:wrong@"])
def test_the_database_gives_nothing_to_a_stranger_on_this_machine(servers: RunningHub, password: str) -> None:
    address = (servers.state.mongo or "").split("@")[1].split("/")[0]
    uri = f"mongodb://{password}{address}/?retryWrites=false"
    with MongoClient[dict[str, Any]](uri) as client, pytest.raises(OperationFailure) as refusal:
        client["binhyen"]["messages"].find_one()
    assert refusal.value.code in {13, 18}  # Unauthorized, AuthenticationFailed


def test_starting_a_running_hub_again_changes_nothing(servers: RunningHub) -> None:
    before = {program: servers.pid(program) for program in servers.programs}
    state = servers.start_again()
    assert state == servers.state
    assert {program: servers.pid(program) for program in servers.programs} == before


def test_a_second_hub_on_the_same_port_is_refused_by_name(servers: RunningHub) -> None:
    with socket.socket() as stranger:
        stranger.bind((ports.HOST, 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        settings = StackSettings.load({"HUB_HOME": str(servers.home / "second"), "MONGO_PORT": str(port)})
        with pytest.raises(StackError) as refusal:
            Hub(settings, Terminal(quiet=True), {}).up(only=["mongo"])
    assert refusal.value.code == "port_taken"
    assert f"Port {port} (MONGO_PORT)" in refusal.value.message
    assert f"pid {os.getpid()}" in refusal.value.message


def test_a_hub_whose_supervisor_was_killed_comes_up_again_with_its_data() -> None:
    with running_hub(only=["mongo"]) as hub:
        with MongoClient[dict[str, Any]](hub.state.mongo) as client:
            client["stack"]["papers"].insert_one({"_id": 1})
        orphan = hub.pid("mongo")
        supervisor = psutil.Process(int((hub.home / "supervisord.pid").read_text(encoding="utf-8")))
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait(10)
        state = hub.start_again()
        assert hub.pid("mongo") not in {0, orphan}
        assert not psutil.pid_exists(orphan)
        with MongoClient[dict[str, Any]](state.mongo) as client:
            assert client["stack"]["papers"].count_documents({}) == 1


def test_a_stopped_hub_leaves_no_process_behind() -> None:
    with running_hub(only=["kafka", "mongo"]) as hub:
        home = hub.home
        assert len(processes_of(home)) >= 3
        hub.down()
        assert processes_of(home) == []


async def test_three_nodes_keep_acknowledged_records_while_one_is_dead(kafka_cluster: RunningHub) -> None:
    bootstrap = kafka_cluster.state.kafka or ""
    async with a_topic(bootstrap, copies=3) as topic:
        await send(bootstrap, topic, [b"before"])
        for node in ("kafka", "kafka-2", "kafka-3"):
            kafka_cluster.kill(node, restart=False)
            await send(bootstrap, topic, [node.encode()])
            kafka_cluster.start(node)
            kafka_cluster.wait_ready()
        assert await read(bootstrap, topic, 4) == [b"before", b"kafka", b"kafka-2", b"kafka-3"]
