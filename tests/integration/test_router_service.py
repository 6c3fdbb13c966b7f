"""The router's own process between a real Kafka and a real database.

What must hold: every message published ends in one inbox document and one reply id, a citizen's codes and answers in
order, an unknown case of an officer in the dead letters. How we break it: `CRASH_AT` stops the process dead between two
effects, and it is started again.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from pydantic import SecretStr

from cli.kafka_admin import KafkaAdmin
from shared import topics
from shared.collections import create_indexes
from shared.crash import KILLED
from shared.events import CitizenMessageReceived, ReplyRequested
from shared.kafka import EventPublisher, build_broker
from shared.mongo import Store, open_store
from shared.settings import HubSettings
from tests.factories import NOW, a_message, an_officer_reply

ROOT = Path(__file__).resolve().parents[2]
_consumer: Any = AIOKafkaConsumer
QUESTION = "làm căn cước cần giấy tờ gì vậy"


@dataclass
class Around:
    """What is around the router: its servers, its database, and who publishes to it."""

    settings: HubSettings
    store: Store
    publisher: EventPublisher
    run: str

    def message(self, number: int, text: str = QUESTION, citizen: str = "1") -> CitizenMessageReceived:
        at = NOW + timedelta(minutes=2 * number)  # further apart than the bubbles of one thought
        return a_message(
            text=text,
            user_id=f"{self.run}{citizen}",
            message_id=f"{self.run}{number}",
            sent_at=at,
            received_at=at,
        )

    @asynccontextmanager
    async def router(
        self, *, crash_at: str = "", data_dir: Path = ROOT / "data"
    ) -> AsyncIterator[subprocess.Popen[bytes]]:
        """The real process."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HUB_ENVIRONMENT": "demo",
            "KAFKA_BOOTSTRAP_SERVERS": self.settings.kafka_bootstrap_servers,
            "MONGO_URI": self.settings.mongo_uri.get_secret_value(),
            "MONGO_DATABASE": self.settings.mongo_database,
            "HTTP_PORT": "0",
            "CRASH_AT": crash_at,
            "DATA_DIR": str(data_dir),
        }
        process = await asyncio.to_thread(
            subprocess.Popen, [sys.executable, "-m", "services.router"], cwd=ROOT, env=environment
        )
        try:
            yield process
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 120)

    async def replies(self) -> list[ReplyRequested]:
        """Every reply asked for in this run so far, repeated ones too."""
        consumer = _consumer(
            topics.REPLIES_REQUESTED.name,
            bootstrap_servers=self.settings.kafka_bootstrap_servers,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            ends = await consumer.end_offsets(list(consumer.assignment()))
            found = []
            while any([await consumer.position(partition) < end for partition, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += [ReplyRequested.model_validate_json(record.value) for record in records]
            return [reply for reply in found if reply.user_id.startswith(self.run)]
        finally:
            await consumer.stop()


@pytest.fixture
async def around(kafka_bootstrap: str, mongo_uri: str) -> AsyncIterator[Around]:
    run = f"r{uuid.uuid4().hex[:10]}-"
    settings = HubSettings.model_validate(
        {
            "kafka_bootstrap_servers": kafka_bootstrap,
            "mongo_uri": SecretStr(mongo_uri),
            "mongo_database": f"test_{run[:-1]}",
        }
    )
    async with KafkaAdmin(kafka_bootstrap) as admin:
        states = await admin.topic_states([topic.name for topic in topics.ALL_TOPICS])
        for topic in topics.ALL_TOPICS:
            if topic.name not in states:
                await admin.create_topic(topic.name, partitions=topic.partitions, replication_factor=1, configs={})
    store = open_store(settings)
    await create_indexes(store)
    broker = build_broker(settings, service="test")
    await broker.connect()
    yield Around(settings, store, EventPublisher(broker, service="test", timeout_seconds=10), run)
    await broker.stop()
    await store.drop()
    await store.close()


async def until(condition: Callable[[], Awaitable[bool]], *, within_seconds: float = 150) -> None:
    async with asyncio.timeout(within_seconds):
        while not await condition():  # noqa: ASYNC110 - what is awaited happens in another process
            await asyncio.sleep(0.1)


async def test_messages_become_cases_and_replies_and_an_officers_answer_follows(around: Around) -> None:
    texts = (
        QUESTION,
        "nhà em bị trộm đêm qua",
        "cháy nhà TCH 10",
        "xin chào",
        "hôm bữa em gửi cái đó lên rồi tính sao",
    )
    batch = [around.message(n, text, citizen=str(n)) for n, text in enumerate(texts)]
    async with around.router():
        await around.publisher.publish_all(topics.CITIZEN_MESSAGES, batch)
        await around.publisher.publish_all(topics.CITIZEN_MESSAGES, batch)  # a webhook came twice

        async def all_answered() -> bool:
            # The broker is shared: other suites' messages may be answered as well.
            answered = {reply.answers_event_id for reply in await around.replies()}
            return answered >= {message.event_id for message in batch}

        await until(all_answered)
        replies = {reply.answers_event_id: reply for reply in await around.replies()}
        assert [replies[m.event_id].template for m in batch] == [
            "procedure.citizen_id_issue",
            "crime_report.received",
            "emergency.fire",
            "greeting.hello",
            "unknown.to_person",
        ]
        assert [replies[m.event_id].is_emergency for m in batch] == [False, False, True, False, False]
        theft = batch[1]
        code = replies[theft.event_id].case_code
        answer = an_officer_reply(case_code=code, user_id=theft.user_id, text="Mời bác đến trụ sở.")
        stray = an_officer_reply(case_code="Q12-000000-0000", user_id=theft.user_id)
        await around.publisher.publish_all(topics.OFFICER_ACTIONS, [answer, stray])

        async def noted() -> bool:
            case = await around.store["cases"].find_one({"code": code, "state": "answered_by_officer"})
            parked = await around.store["dead_letters"].find_one({"reason": "case.unknown"})
            return case is not None and parked is not None

        await until(noted)
    officers = [reply for reply in await around.replies() if reply.origin == "officer"]
    assert {reply.event_id for reply in officers} == {answer.event_id}
    ours = {"_id": {"$in": [message.event_id for message in batch]}}
    assert await around.store["messages"].count_documents(ours) == len(batch)


@pytest.mark.parametrize("label", ["router.after_record", "router.after_carry_out", "router.after_publish"])
async def test_a_router_that_dies_between_two_effects_is_continued_by_the_next(around: Around, label: str) -> None:
    batch = [around.message(n, citizen=str(n % 5)) for n in range(25)]
    async with around.router(crash_at=label) as process:
        await around.publisher.publish_all(topics.CITIZEN_MESSAGES, batch)
        assert await asyncio.wait_for(asyncio.to_thread(process.wait), 150) == KILLED
    async with around.router():

        async def all_answered() -> bool:
            return len({reply.event_id for reply in await around.replies()}) == len(batch)

        await until(all_answered)

    assert await around.store["messages"].count_documents({}) == len(batch)
    cases = await around.store["cases"].find({}).to_list(None)
    assert len(cases) == 5
    assert {case["given"][0]["times"] for case in cases} == {5}
    assert len({case["code"] for case in cases}) == 5
    assert await around.store["case_entries"].count_documents({}) == len(batch)


async def test_a_merger_answers_each_message_from_the_unit_of_its_day(around: Around, tmp_path: Path) -> None:
    """A page of a ward that ended, the same words the evening before and the morning after, through the service."""
    data = tmp_path / "data"
    shutil.copytree(ROOT / "data", data)
    changes = data / "directory" / "changes"
    changes.mkdir(exist_ok=True)
    shutil.copy(data / "directory" / "plans" / "merger-2025.yaml", changes)
    last_evening = datetime(2025, 6, 30, 16, 59, tzinfo=UTC)
    batch = [
        a_message(
            text="nhà em bị trộm đêm qua",
            page="tan-chanh-hiep",
            user_id=f"{around.run}{number}",
            message_id=f"{around.run}{number}",
            sent_at=at,
            received_at=at,
        )
        for number, at in enumerate((last_evening, last_evening + timedelta(minutes=1)))
    ]
    async with around.router(data_dir=data):
        await around.publisher.publish_all(topics.CITIZEN_MESSAGES, batch)

        # The broker is shared: other suites' messages may become cases here as well.
        ours = {"citizen_key": {"$in": [message.citizen_key for message in batch]}}

        async def all_there() -> bool:
            return await around.store["cases"].count_documents(ours) == len(batch)

        await until(all_there)
    cases = {case["citizen_key"]: case["unit"] for case in await around.store["cases"].find(ours).to_list(None)}
    assert [cases[message.citizen_key] for message in batch] == ["tan-chanh-hiep", "trung-my-tay"]
