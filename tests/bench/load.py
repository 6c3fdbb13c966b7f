"""Loads: signed webhooks over plain sockets, messages straight into Kafka."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from aiokafka import AIOKafkaProducer

from cli.webhook_event import event_body, sign
from shared.events import CitizenMessageReceived, Event, ReplyContent, ReplyRequested
from shared.ids import citizen_key
from shared.kafka import cloud_event_headers
from shared.mongo import Document, Store, insert_new
from shared.topics import Topic
from shared.zalo_config import ZaloConfig, ZaloPage
from tests.bench.floors import TEXT
from tests.factories import a_message, a_reply

_producer: Any = AIOKafkaProducer  # aiokafka has hints for a part of its classes only

# As in the first year of the real pages: mostly questions, some tips, hardly an emergency.
TEXTS = (
    "làm căn cước cần giấy tờ gì vậy ạ",
    "đăng ký tạm trú cho người thuê trọ thì làm ở đâu",
    "em muốn hỏi thủ tục nhập hộ khẩu thường trú",
    "vneid mức 2 làm bao lâu thì có",
    "cho hỏi giờ làm việc của công an phường",
    "xin chào",
    "cảm ơn cán bộ nhiều",
    "ở TCH 21 hay có thanh niên tụ tập nẹt pô ban đêm",
    "nhà bên cạnh mở karaoke ồn ào tới 1 giờ sáng",
    "tối qua nhà tôi bị trộm lấy xe máy",
    "xác nhận cư trú CT07 xin ở đâu",
    "đăng ký xe máy cũ sang tên cần gì",
)


def user_id(run: str, number: int) -> str:
    """Of a citizen of `webhooks`."""
    return f"77{run}{number:08d}"


def message_id(run: str, number: int) -> str:
    """Of a message of `webhooks`."""
    return f"bench{run}{number:08d}"


def webhooks(
    zalo: ZaloConfig, page: ZaloPage, count: int, *, run: str, event_name: str = "user_send_text"
) -> list[bytes]:
    """Signed webhooks of as many citizens, as complete HTTP/1.1 requests."""
    key = next(app for app in zalo.apps if app.app_id == page.app_id).oa_secret_keys[0].get_secret_value()
    now_ms = int(time.time() * 1_000)
    requests = []
    for number in range(count):
        body = event_body(
            event_name,
            app_id=page.app_id,
            oa_id=page.oa_id,
            user_id=user_id(run, number),
            text=TEXTS[number % len(TEXTS)],
            message_id=message_id(run, number),
            timestamp_ms=now_ms,
        )
        signature = sign(body, app_id=page.app_id, timestamp=str(now_ms), secret_key=key)
        head = (
            "POST /webhooks/zalo HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\n"
            f"X-ZEvent-Signature: {signature}\r\nX-ZEvent-Timestamp: {now_ms}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


async def keep_copies(store: Store, page: ZaloPage, count: int, *, run: str) -> None:
    """Let the ledger of broadcasts know the messages of which `webhooks` brings the echoes."""
    now = datetime.now(UTC)
    documents: list[Document] = [
        {
            "_id": f"{run}{number}",
            "broadcast_id": run,
            "chunk": number // 700,
            "person": uuid.uuid4().hex,
            "citizen_key": citizen_key(page.oa_id, user_id(run, number)),
            "page": page.page,
            "lane": "consultation",
            "state": "sent",
            "attempt": 1,
            "marked_at": now,
            "sent_at": now,
            "message_key": message_id(run, number),
        }
        for number in range(count)
    ]
    await insert_new(store["recipients"], documents)


async def fire(url: str, requests: Sequence[bytes], *, connections: int) -> list[float]:
    """Send requests over kept connections, each when the one before it is answered.

    Returns:
        Seconds of each, from the first byte out to the last byte in.

    Raises:
        RuntimeError: one was not answered with 200.
    """
    address = urlsplit(url)
    waiting = iter(requests)
    seconds: list[float] = []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for request in waiting:
            started = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"not accepted: {head.splitlines()[0].decode()}")
            length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            seconds.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))
    return seconds


def messages(page: ZaloPage, count: int, *, run: str) -> list[CitizenMessageReceived]:
    """Messages of as many citizens, as intake would publish them."""
    now = datetime.now(UTC)
    return [
        a_message(
            text=TEXTS[number % len(TEXTS)],
            event_id=uuid.uuid4().hex,
            page=page.page,
            oa_id=page.oa_id,
            user_id=f"88{run}{number:08d}",
            message_id=f"bench-{run}-{number}",
            sent_at=now,
            received_at=now,
            occurred_at=now,
        )
        for number in range(count)
    ]


def replies(page: ZaloPage, user_ids: Sequence[str]) -> list[ReplyRequested]:
    """Answers for as many citizens, as the router would ask for them."""
    now = datetime.now(UTC)
    return [
        a_reply(
            event_id=uuid.uuid4().hex,
            page=page.page,
            oa_id=page.oa_id,
            user_id=user_id,
            occurred_at=now,
            interaction_at=now,
            content=ReplyContent(text=TEXT),
        )
        for user_id in user_ids
    ]


async def publish(bootstrap: str, topic: Topic, events: Sequence[Event], *, service: str) -> None:
    """Put events onto a topic, as its owner would, in Kafka's batches."""
    producer = _producer(bootstrap_servers=bootstrap, enable_idempotence=True, linger_ms=5, compression_type="lz4")
    await producer.start()
    try:
        sent = [
            await producer.send(
                topic.name,
                value=event.model_dump_json(exclude_none=True).encode(),
                key=event.partition_key.encode(),
                headers=[
                    (name, value.encode()) for name, value in cloud_event_headers(event, source=f"/{service}").items()
                ],
            )
            for event in events
        ]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
