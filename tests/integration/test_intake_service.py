"""The real intake process between a real Kafka and a real database, over real sockets.

What must hold: a webhook answered 200 is in Kafka or on its way there, each citizen's in order, whatever dies. How we
break it: kill -9 of Kafka, then of the database too, of intake itself while its spool is full, and an end at each of
its crash points.
"""

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from services.intake.adapters.spool_store import SpoolStore
from services.intake.domain import Outgoing
from shared import topics
from shared.collections import create_indexes
from shared.crash import KILLED
from shared.events import CitizenMessageReceived
from shared.mongo import Store, open_store
from shared.settings import HubSettings
from shared.topics import Topic
from tests.factories import a_message
from tests.servers import KAFKA_TITLE, RunningHub, mongo_product, running_hub
from tests.unit.intake.support import APP_ID, KEY, NEXT_KEY, OA_ID, as_raw, payload, signature_of

ROOT = Path(__file__).resolve().parents[2]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 100

# aiokafka has hints for a part of its classes only.
_admin: Any = AIOKafkaAdminClient
_new_topic: Any = NewTopic
_consumer: Any = AIOKafkaConsumer


@dataclass
class Intake:
    """One running intake process and the servers under it."""

    servers: RunningHub
    url: str
    store: Store
    http: aiohttp.ClientSession
    process: subprocess.Popen[bytes]

    async def post(self, body: Any, *, sign: bool = True, **headers: str) -> tuple[int, str]:
        raw = as_raw(body)
        if sign:
            headers |= {"X-ZEvent-Signature": "mac=" + signature_of(raw), "X-ZEvent-Timestamp": "1764000000000"}
        async with self.http.post(f"{self.url}/webhooks/zalo", data=raw, headers=headers) as answer:
            return answer.status, (await answer.json())["code"]

    async def health(self) -> dict[str, Any]:
        async with self.http.get(f"{self.url}/health/ready") as answer:
            facts: dict[str, Any] = await answer.json()
            return facts


def a_webhook(text: str, *, message_id: str, user_id: str = "2000000000000000417") -> dict[str, Any]:
    body = payload("user_send_text")
    return {**body, "sender": {"id": user_id}, "message": {"text": text, "msg_id": message_id}}


async def eventually(condition: Any, *, within_seconds: float = 150.0) -> Any:
    """Wait until an asynchronous question has a true answer, and give it back."""
    async with asyncio.timeout(within_seconds):
        while True:
            try:
                if answer := await condition():
                    return answer
            except (aiohttp.ClientError, OSError):
                pass  # not there yet
            await asyncio.sleep(0.05)


async def read_all(bootstrap: str, topic: Topic) -> list[Any]:
    """Every record of a topic up to its present end."""
    consumer = _consumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        records: list[Any] = []
        while any([await consumer.position(one) < ends[one] for one in partitions]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records.extend(batch)
        return records
    finally:
        await consumer.stop()


def citizen_texts(records: list[Any]) -> dict[str, list[str]]:
    """The texts of each citizen in the order of Kafka, each event's first occurrence."""
    texts: dict[str, list[str]] = {}
    seen = set()
    for record in records:
        event = CitizenMessageReceived.model_validate_json(record.value)
        if event.event_id not in seen:
            seen.add(event.event_id)
            texts.setdefault(event.user_id, []).append(event.text)
    return texts


@contextmanager
def intake_process(
    servers: RunningHub, config: Path, database: str, **more: str
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert servers.state.kafka is not None
    assert servers.state.mongo is not None
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("ZALO_", "KAFKA_", "MONGO_"))},
        "PYTHONPATH": str(ROOT),
        "HUB_ENVIRONMENT": "demo",
        "KAFKA_BOOTSTRAP_SERVERS": servers.state.kafka,
        "MONGO_URI": servers.state.mongo,
        "MONGO_DATABASE": database,
        "HTTP_PORT": str(port),
        "ZALO_CONFIG_FILE": str(config),
        "ATTACHMENT_RETRY_WAITS_SECONDS": "[0.1]",
        **more,
    }
    log = (config.parent / "intake.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "services.intake"], env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("intake") / "zalo.json"
    app = {"app_id": APP_ID, "app_secret": "x", "oa_secret_keys": [KEY, NEXT_KEY]}
    page = {"page": "tan-chanh-hiep", "oa_id": OA_ID, "app_id": APP_ID}
    file.write_text(json.dumps({"apps": [app], "pages": [page]}))
    return file


@pytest.fixture(scope="module")
def servers() -> Iterator[RunningHub]:
    with running_hub(only=["kafka", "mongo"]) as running:
        yield running


@pytest.fixture(autouse=True)
def servers_in_the_report(request: pytest.FixtureRequest, servers: RunningHub) -> None:
    request.node.user_properties.append(
        ("servers", [f"{KAFKA_TITLE} (embedded, 1 node)", f"{mongo_product(servers.state.mongo or '')} (embedded)"])
    )


@pytest.fixture(scope="module")
async def initialised(servers: RunningHub) -> AsyncIterator[Store]:
    admin = _admin(bootstrap_servers=servers.state.kafka)
    await admin.start()
    await admin.create_topics(
        [_new_topic(topic.name, num_partitions=topic.partitions, replication_factor=1) for topic in topics.ALL_TOPICS]
    )
    await admin.close()
    store = open_store(
        HubSettings.model_validate({"mongo_uri": SecretStr(servers.state.mongo or ""), "mongo_database": "intake_test"})
    )
    await create_indexes(store)
    yield store
    await store.close()


@pytest.fixture(scope="module")
async def intake(servers: RunningHub, initialised: Store, config: Path) -> AsyncIterator[Intake]:
    async with aiohttp.ClientSession() as http:
        with intake_process(servers, config, "intake_test") as (process, url):
            running = Intake(servers, url, initialised, http, process)
            await eventually(lambda: is_ready(running))
            yield running


async def is_ready(intake: Intake) -> bool:
    return bool((await intake.health())["ready"])


async def spooled(intake: Intake) -> int:
    return await intake.store["webhook_spool"].count_documents({})


# These come first: they want to be the only intake there is.


async def died_at_its_crash_point(process: subprocess.Popen[bytes]) -> bool:
    return await asyncio.to_thread(process.wait, 120) == KILLED


async def test_a_webhook_that_is_kept_but_not_answered_is_taken_again_and_counts_once(
    servers: RunningHub, initialised: Store, config: Path
) -> None:
    body = a_webhook("giữa chừng", message_id="crash-1", user_id="3200000000000000001")
    async with aiohttp.ClientSession() as http:
        with intake_process(servers, config, "intake_test", CRASH_AT="intake.after_keep") as (process, url):
            intake = Intake(servers, url, initialised, http, process)
            await eventually(lambda: is_ready(intake))
            with pytest.raises(aiohttp.ClientError):
                await intake.post(body)
            assert await died_at_its_crash_point(process)
        with intake_process(servers, config, "intake_test") as (process, url):
            intake = Intake(servers, url, initialised, http, process)
            await eventually(lambda: is_ready(intake))
            assert await intake.post(body, num_retry="1") == (200, "message.accepted")

    records = await read_all(servers.state.kafka or "", topics.CITIZEN_MESSAGES)
    of_citizen = [record for record in records if record.key.endswith(b"3200000000000000001")]
    assert len(of_citizen) == 2
    assert citizen_texts(of_citizen) == {"3200000000000000001": ["giữa chừng"]}


async def test_a_relay_that_dies_before_it_forgets_publishes_again_in_the_same_order(
    servers: RunningHub, initialised: Store, config: Path
) -> None:
    spool = SpoolStore(initialised)
    messages = [a_message(text=f"chờ {n}", user_id="3300000000000000001") for n in range(3)]
    await spool.add([Outgoing(topics.CITIZEN_MESSAGES, one) for one in messages], datetime.now(UTC))

    with intake_process(servers, config, "intake_test", CRASH_AT="intake.relay.after_publish") as (process, _):
        assert await died_at_its_crash_point(process)
    assert not await spool.is_empty()
    with intake_process(servers, config, "intake_test"):
        await eventually(spool.is_empty)

    records = await read_all(servers.state.kafka or "", topics.CITIZEN_MESSAGES)
    of_citizen = [record for record in records if record.key.endswith(b"3300000000000000001")]
    assert len(of_citizen) == 6
    assert citizen_texts(of_citizen) == {"3300000000000000001": ["chờ 0", "chờ 1", "chờ 2"]}


async def test_a_picture_whose_worker_dies_after_the_upload_is_fetched_again_and_kept_once(
    servers: RunningHub, initialised: Store, config: Path
) -> None:
    jobs, files = initialised["attachments"], initialised["attachments.files"]
    async with a_site() as base, aiohttp.ClientSession() as http:
        body = payload("user_send_image")
        image = {"type": "image", "payload": {"url": f"{base}/photo.png"}}
        body["message"] = {"msg_id": "crash-photo", "attachments": [image]}
        with intake_process(servers, config, "intake_test", CRASH_AT="intake.attachment.after_upload") as (
            process,
            url,
        ):
            intake = Intake(servers, url, initialised, http, process)
            await eventually(lambda: is_ready(intake))
            await intake.post(body)
            assert await died_at_its_crash_point(process)
        job = await jobs.find_one({"message_id": "crash-photo"})
        assert job is not None
        assert (job["state"], job["attempts"]) == ("pending", 1)
        # The claim of the dead worker would end by itself a minute later.
        await jobs.update_one({"_id": job["_id"]}, {"$set": {"due_at": datetime.now(UTC)}})
        with intake_process(servers, config, "intake_test"):

            async def stored() -> dict[str, Any] | None:
                return await jobs.find_one({"_id": job["_id"], "state": "stored"})

            assert (await eventually(stored))["attempts"] == 2

            async def is_one_file() -> bool:
                return await files.count_documents({"metadata.attachment_id": job["_id"]}) == 1

            await eventually(is_one_file)


async def test_https_is_served_directly_with_a_certificate(
    servers: RunningHub, initialised: Store, config: Path, tmp_path: Path
) -> None:
    certificate, key = a_certificate(tmp_path)
    tls = ssl.create_default_context(cafile=str(certificate))
    files = {"TLS_CERTIFICATE_FILE": str(certificate), "TLS_PRIVATE_KEY_FILE": str(key)}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as http:
        with intake_process(servers, config, "intake_test", **files) as (process, url):
            intake = Intake(servers, url.replace("http:", "https:"), initialised, http, process)
            await eventually(lambda: is_ready(intake))

            assert await intake.post(payload("follow")) == (200, "follower.accepted")


def a_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate_file, key_file


@asynccontextmanager
async def a_site() -> AsyncIterator[str]:
    """A web site with a picture, a page that is none, and a redirect into a cloud's own network."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/redirect.png":
            return web.Response(status=302, headers={"Location": "http://169.254.169.254/latest/"})
        return web.Response(body=PNG if request.path == "/photo.png" else b"<html><script>")

    app = web.Application()
    app.router.add_get("/{name}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_webhook_is_in_kafka_when_it_is_answered(intake: Intake) -> None:
    body = a_webhook("xin chào", message_id="kafka-1", user_id="2000000000000000001")

    assert await intake.post(body) == (200, "message.accepted")

    records = await read_all(intake.servers.state.kafka or "", topics.CITIZEN_MESSAGES)
    (record,) = [one for one in records if CitizenMessageReceived.model_validate_json(one.value).text == "xin chào"]
    event = CitizenMessageReceived.model_validate_json(record.value)
    headers = {name: value.decode() for name, value in record.headers}
    assert record.key.decode() == f"{OA_ID}:2000000000000000001"
    assert headers["ce_id"] == event.event_id
    assert headers["ce_type"] == event.ce_type
    assert headers["traceparent"].split("-")[1] == event.correlation_id


async def test_what_is_not_understood_is_found_by_its_reason(intake: Intake) -> None:
    raw = b'{"event_name":"user_send_text","sender":{"id":{"$ne":null}},"x":"\xc4\x91"}'

    assert await intake.post(raw) == (200, "event.no_page")
    assert await intake.post(b"\xff\x00 no json") == (200, "body.not_json")

    for reason, body in (("event.no_page", raw), ("body.not_json", b"\xff\x00 no json")):
        document = await eventually(lambda reason=reason: intake.store["webhook_records"].find_one({"reason": reason}))
        assert bytes(document["raw"]) == body


async def test_five_megabytes_get_their_answer_over_a_real_socket(intake: Intake) -> None:
    assert await intake.post(b'{"x":"' + b"y" * 5_000_000 + b'"}') == (413, "body.too_large")


async def test_an_unsigned_body_gets_its_answer(intake: Intake) -> None:
    assert await intake.post(b"y" * 300_000, sign=False) == (401, "signature.missing")


async def test_a_half_sent_body_is_given_up(intake: Intake) -> None:
    host, port = intake.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /webhooks/zalo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nX-ZEvent-Signature: " + b"a" * 64)
    writer.write(b'\r\n\r\n{"half":')

    answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"body.too_slow" in answer
    writer.close()


async def test_a_picture_is_fetched_and_what_is_no_picture_has_its_reason(intake: Intake) -> None:
    async with a_site() as base:
        body = payload("user_send_image")
        links = [f"{base}/{name}" for name in ("photo.png", "page.png", "redirect.png")]
        images = [{"type": "image", "payload": {"url": link}} for link in links]
        body["message"] = {"msg_id": "photos-1", "attachments": images}

        assert await intake.post(body) == (200, "message.accepted")

        async def finished() -> list[dict[str, Any]] | None:
            jobs = await intake.store["attachments"].find({"message_id": "photos-1"}).sort([("index", 1)]).to_list(9)
            return jobs if len(jobs) == 3 and all(job["state"] != "pending" for job in jobs) else None

        jobs = await eventually(finished)
    assert [(job["state"], job["reason"]) for job in jobs] == [
        ("stored", "attachment.stored"),
        ("failed", "attachment.type_refused"),
        ("failed", "attachment.address_refused"),
    ]
    stream = await intake.store.files("attachments").open_download_stream(jobs[0]["file_id"])
    assert await stream.read() == PNG


async def test_without_kafka_webhooks_are_spooled_and_relayed_in_order_by_themselves(
    intake: Intake, config: Path, record_property: Any
) -> None:
    citizens = [f"30000000000000000{n:02}" for n in range(5)]
    await asyncio.to_thread(intake.servers.kill, "kafka", restart=False)

    slowest = 0.0
    for number in range(12):
        started = time.monotonic()
        answers = await asyncio.gather(
            *(intake.post(a_webhook(f"tin {number}", message_id=f"spool-{c}-{number}", user_id=c)) for c in citizens)
        )
        slowest = max(slowest, time.monotonic() - started)
        assert answers == [(200, "message.accepted")] * len(citizens)
    record_property("slowest_answer_seconds", round(slowest, 3))
    assert await spooled(intake) == 60

    # A new process, as after a kill -9, goes on where the old one stopped, and takes webhooks before Kafka is back.
    intake.process.kill()
    await asyncio.to_thread(intake.process.wait)
    with intake_process(intake.servers, config, "intake_test") as (process, url):
        again = Intake(intake.servers, url, intake.store, intake.http, process)

        async def keeps_without_kafka() -> bool:
            answers = [
                await again.post(a_webhook("còn chờ", message_id=f"early-{citizen}", user_id=citizen))
                for citizen in citizens
            ]
            return answers == [(200, "message.accepted")] * len(citizens)

        await eventually(keeps_without_kafka)
        await asyncio.to_thread(intake.servers.start, "kafka")
        await asyncio.to_thread(intake.servers.wait_ready, "kafka")
        await eventually(lambda: is_ready(again))
        for citizen in citizens:
            assert await again.post(a_webhook("sau cùng", message_id=f"last-{citizen}", user_id=citizen)) == (
                200,
                "message.accepted",
            )

        async def is_drained() -> bool:
            return await spooled(again) == 0

        await eventually(is_drained)

    texts = citizen_texts(await read_all(intake.servers.state.kafka or "", topics.CITIZEN_MESSAGES))
    for citizen in citizens:
        assert texts[citizen] == [*(f"tin {number}" for number in range(12)), "còn chờ", "sau cùng"]


async def test_without_kafka_and_database_the_sender_is_told_to_come_again(
    servers: RunningHub, initialised: Store, config: Path
) -> None:
    async with aiohttp.ClientSession() as http:
        with intake_process(servers, config, "intake_test") as (process, url):
            intake = Intake(servers, url, initialised, http, process)
            await eventually(lambda: is_ready(intake))
            for program in ("kafka", "mongo"):
                await asyncio.to_thread(servers.kill, program, restart=False)
            body = a_webhook("cứu với", message_id="both-1", user_id="3100000000000000001")

            answers = [await intake.post(body) for _ in range(3)]

            assert answers == [(503, "hub.unavailable")] * 3
            for program in ("mongo", "kafka"):
                await asyncio.to_thread(servers.start, program)
            await asyncio.to_thread(servers.wait_ready, "kafka", "mongo")

            async def is_taken() -> bool:
                return await intake.post(body) == (200, "message.accepted")

            await eventually(is_taken)

            async def is_in_kafka() -> list[str] | None:
                records = await read_all(servers.state.kafka or "", topics.CITIZEN_MESSAGES)
                return citizen_texts(records).get("3100000000000000001")

            assert await eventually(is_in_kafka) == ["cứu với"]
