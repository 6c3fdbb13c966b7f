"""The real notifier process between a real Kafka, a real database and a stand-in of Zalo, over real sockets.

*What must hold*: a requested reply reaches Zalo once and in the citizen's order, with one replica or two, through a
kill -9 and through an orderly stop; what nobody can know is `uncertain`, and no more than the slots of a dead process.
*How we break it*: kill -9 of one of two replicas in the middle of their work, SIGTERM of the other.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from cryptography.fernet import Fernet

from shared.events import Event, ReplyContent
from shared.ids import deterministic_id, text_digest
from shared.kafka import cloud_event_headers
from shared.mongo import Store
from shared.topics import (
    ALL_TOPICS,
    CITIZEN_CHANGES,
    CITIZEN_MESSAGES,
    DELIVERY_REPORTS,
    REPLIES_REQUESTED,
    TEMPLATES_DELIVERED,
    Topic,
)
from tests.factories import NOW, OA_ID, PAGE, a_change, a_message, a_reply, a_report, a_template_delivery
from tests.unit.notifier.samples import CITIZEN
from tests.unit.notifier.stores import fresh_store
from tests.unit.notifier.zalo_stub import APP_ID, FIRST_REFRESH_TOKEN, ZaloStub, loses_the_answer

ROOT = Path(__file__).resolve().parents[2]

# aiokafka has hints for a part of its classes only.
_admin: Any = AIOKafkaAdminClient
_new_topic: Any = NewTopic
_producer: Any = AIOKafkaProducer


@dataclass
class Replica:
    """One notifier process."""

    process: asyncio.subprocess.Process
    url: str


@dataclass
class Stage:
    """The servers, the stand-in of Zalo and the notifiers of one test."""

    store: Store
    stub: ZaloStub
    producer: Any
    http: aiohttp.ClientSession
    environment: dict[str, str]
    log_folder: Path
    replicas: list[Replica] = field(default_factory=list)

    async def start(self) -> Replica:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with (self.log_folder / f"notifier-{len(self.replicas)}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.notifier"),
                env={**self.environment, "HTTP_PORT": str(port)},
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        replica = Replica(process, f"http://127.0.0.1:{port}")
        self.replicas.append(replica)
        await eventually(lambda: self.is_ready(replica))
        return replica

    async def ready(self, replica: Replica) -> dict[str, Any]:
        async with self.http.get(f"{replica.url}/health/ready") as answer:
            facts: dict[str, Any] = await answer.json()
            return facts

    async def is_ready(self, replica: Replica) -> bool:
        assert replica.process.returncode is None, "the notifier ended by itself"
        try:
            return bool((await self.ready(replica))["ready"])
        except (aiohttp.ClientError, OSError):
            return False

    async def publish(self, topic: Topic, *events: Event) -> None:
        for event in events:
            headers = [(n, v.encode()) for n, v in cloud_event_headers(event, source="/test").items()]
            await self.producer.send(
                topic.name, event.model_dump_json().encode(), key=event.partition_key.encode(), headers=headers
            )
        await self.producer.flush()

    async def states(self) -> dict[str, int]:
        counts: dict[str, int] = defaultdict(int)
        for row in await self.store["reply_ledger"].find({}, {"state": 1}).to_list(None):
            counts[row["state"]] += 1
        return dict(counts)


async def eventually(condition: Callable[[], Awaitable[bool]], *, seconds: float = 150.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)


async def create_topics(bootstrap: str) -> None:
    admin = _admin(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        there = set(await admin.list_topics())
        new = [_new_topic(topic.name, topic.partitions, 1) for topic in ALL_TOPICS if topic.name not in there]
        if new:
            await admin.create_topics(new)
    finally:
        await admin.close()


@asynccontextmanager
async def a_stage(kafka: str, mongo: str, log_folder: Path, **settings: str) -> AsyncIterator[Stage]:
    await create_topics(kafka)
    producer = _producer(bootstrap_servers=kafka, enable_idempotence=True)
    await producer.start()
    async with fresh_store(mongo, "motor") as store, ZaloStub() as stub, aiohttp.ClientSession() as http:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ZALO_", "KAFKA_", "MONGO_"))},
            "PYTHONPATH": str(ROOT),
            "HUB_ENVIRONMENT": "demo",
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "MONGO_URI": mongo,
            "MONGO_DATABASE": store["any"].database.name,  # type: ignore[attr-defined]
            "TOKEN_ENCRYPTION_KEY": Fernet.generate_key().decode(),
            "ZALO_OA_API_URL": stub.url,
            "ZALO_OAUTH_URL": stub.url,
            "ZALO_UPLOAD_URL": stub.url,
            "ZALO_APPS": json.dumps([{"app_id": APP_ID, "app_secret": "s", "oa_secret_keys": ["k"]}]),
            "ZALO_PAGES": json.dumps(
                [{"page": PAGE, "oa_id": OA_ID, "app_id": APP_ID, "refresh_token": f"{FIRST_REFRESH_TOKEN}-{OA_ID}"}]
            ),
            **settings,
        }
        stage = Stage(store, stub, producer, http, environment, log_folder)
        try:
            yield stage
        finally:
            for replica in stage.replicas:
                if replica.process.returncode is None:
                    replica.process.kill()
                    await replica.process.wait()
            await producer.stop()


@pytest.fixture
async def stage(kafka_bootstrap: str, mongo_uri: str, tmp_path: Path) -> AsyncIterator[Stage]:
    settings = {
        "APP_CALLS_PER_MINUTE": "1000000",
        "PAGE_CALLS_PER_MINUTE": "1000000",
        "SEND_SLOTS": "8",
        "SEND_LEASE_SECONDS": "10",
        "ZALO_TIMEOUT_SECONDS": "3",
    }
    async with a_stage(kafka_bootstrap, mongo_uri, tmp_path, **settings) as one:
        yield one


def replies(run: str, *, citizens: int, each: int) -> list[Event]:
    return [
        a_reply(
            event_id=deterministic_id(run, str(citizen), str(number)),
            user_id=f"2{citizen:018}",
            content=ReplyContent(text=f"{run} {number:03}"),
        )
        for number in range(each)
        for citizen in range(citizens)
    ]


async def test_events_of_every_topic_have_their_effect(stage: Stage) -> None:
    replica = await stage.start()
    text = "Mời bác đến trụ sở"
    withdrawn = a_change(change="withdrawn", user_id="2000000000000000009")
    stage.stub.behaviours.append(loses_the_answer)
    reply = a_reply(event_id=deterministic_id(stage.environment["MONGO_DATABASE"]), content=ReplyContent(text=text))

    await stage.publish(CITIZEN_MESSAGES, a_message(sent_at=NOW))
    await stage.publish(CITIZEN_CHANGES, withdrawn)
    await stage.publish(REPLIES_REQUESTED, reply, reply)

    async def is_uncertain() -> bool:
        return (await stage.states()).get("uncertain") == 1

    await eventually(is_uncertain)
    echo = a_report(message_ids=("zalo-1",), text_sha256=text_digest(text), reported_at=datetime.now(UTC))
    await stage.publish(DELIVERY_REPORTS, echo)

    async def is_settled() -> bool:
        row = await stage.store["reply_ledger"].find_one({"_id": reply.event_id})
        return row is not None and row["state"] == "sent" and row.get("echoed_at") is not None

    await eventually(is_settled)
    copy = {"_id": "b" * 32, "broadcast_id": "b1", "chunk": 0, "person": "p", "citizen_key": CITIZEN, "state": "sent"}
    await stage.store["recipients"].insert_one({**copy, "message_key": f"copy {copy['_id']}"})
    delivery = a_template_delivery(event_id=deterministic_id(reply.event_id), tracking_id=copy["_id"])
    await stage.publish(TEMPLATES_DELIVERED, delivery)

    async def is_delivered() -> bool:
        row = await stage.store["recipients"].find_one({"_id": copy["_id"]})
        return row is not None and row.get("received_at") == NOW

    await eventually(is_delivered)
    assert [call.text for call in stage.stub.calls] == [text]
    contact = await stage.store["contacts"].find_one({"_id": CITIZEN})
    assert contact is not None
    assert contact["last_interaction_at"] == NOW
    gone = await stage.store["contacts"].find_one({"_id": withdrawn.citizen_key})
    assert gone is not None
    assert gone["withdrawn_at"] == NOW

    facts = await stage.ready(replica)
    assert facts["ledger"]["uncertain"] == 0
    (page,) = facts["pages"]
    assert (page["page"], page["state"], page["can_send"]) == (PAGE, "ok", True)
    assert "access-" not in json.dumps(facts)
    async with stage.http.get(f"{replica.url}/metrics") as metrics:
        assert "hub_sends_total" in await metrics.text()


async def test_two_replicas_send_each_reply_once_and_in_order_through_kill_and_stop(stage: Stage) -> None:
    run = stage.environment["MONGO_DATABASE"]
    asked = replies(run, citizens=25, each=12)
    victim, survivor = await stage.start(), await stage.start()
    publishing = asyncio.create_task(stage.publish(REPLIES_REQUESTED, *asked))

    async def a_part_is_sent() -> bool:
        return len(stage.stub.applied) >= 60

    await eventually(a_part_is_sent)
    victim.process.kill()
    await victim.process.wait()
    await publishing

    async def more_is_sent() -> bool:
        return len(stage.stub.applied) >= 150

    await eventually(more_is_sent)
    survivor.process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(survivor.process.wait(), timeout=150)
    assert survivor.process.returncode in {0, -signal.SIGTERM}  # uvicorn ends with the signal that stopped it
    of_victim = (await stage.states()).get("sending", 0) + (await stage.states()).get("uncertain", 0)
    assert of_victim <= 8, "the orderly stop left something unrecorded"
    await stage.start()

    async def is_done() -> bool:
        states = await stage.states()
        return states.get("sent", 0) + states.get("uncertain", 0) == len(asked)

    await eventually(is_done, seconds=150)
    applied: dict[str, list[str]] = defaultdict(list)
    for call in stage.stub.applied:
        applied[call.user_id].append(call.text)
    assert all(len(texts) == len(set(texts)) for texts in applied.values()), "Zalo got a reply twice"
    assert all(texts == sorted(texts) for texts in applied.values()), "a citizen's replies were reordered"
    states = await stage.states()
    assert states.get("uncertain", 0) <= 8, "more is uncertain than the dead process had slots"
    assert len(stage.stub.applied) >= len(asked) - states.get("uncertain", 0)
