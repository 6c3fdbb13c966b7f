"""What one message costs each stage, beside its floor in the same process and the same minute.

Only processor time is counted, and only as a ratio of two sides taken turn and turn about, so that a slow machine
judges as a fast one does. A busy one can make a round dearer, never cheaper: the cheapest counts, and where the limit
is not kept there are more rounds; a cost that is really there is there in all of them. What Kafka, Zalo and HTTP
clients cost is not in it: `make bench` has that. docs/performance.md tells where the recorded ratios come from; record
better ones when a stage has become cheaper.
"""

import hashlib
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from shared.mongo import Document, UpdateMany
from simulator.settings import write_example_config
from tests.bench.growth import Size, a_copy, a_size
from tests.unit.intake.support import KEY, as_raw, call, payload, signed
from tests.unit.intake.test_endpoints import Intake

RECORDED = {"intake": 0.038, "router": 0.150, "notifier": 0.051}
"""The floor's processor time over ours: 1 would be no cost beside the floor's."""
LEAST_SHARE = 0.6
"""Of the recorded ratio, as the limit: twice the cost would be half of it."""
ROUNDS, MOST_ROUNDS, ITEMS = 3, 12, 200

Work = Callable[[], Awaitable[None]]


@pytest.fixture(scope="module")
async def size(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Size]:
    """A database of its own, left to the server's end; filling it has warmed everything up."""
    config = tmp_path_factory.mktemp("costs") / "zalo.yaml"
    write_example_config(config)
    async with a_size(0, mongo_uri, config, database=f"test_{uuid.uuid4().hex[:12]}") as one:
        yield one


async def has_its_price(stage: str, ours: Work, floor: Work, record_property: Any) -> bool:
    """Whether the floor's processor time over ours is what it was."""
    spent: dict[Work, list[float]] = {ours: [], floor: []}
    ratio = 0.0
    for number in range(1, MOST_ROUNDS + 1):
        for work in (ours, floor):
            started = time.process_time()
            await work()
            spent[work].append((time.process_time() - started) / ITEMS * 1e6)
        ratio = min(spent[floor]) / min(spent[ours])
        if number >= ROUNDS and ratio >= LEAST_SHARE * RECORDED[stage]:
            break
    line = (
        f"{stage}: {min(spent[ours]):.0f} µs of processor for one, its floor {min(spent[floor]):.0f} µs, ratio "
        f"{ratio:.3f} after {len(spent[ours])} rounds, recorded {RECORDED[stage]:.3f}"
    )
    record_property("told", [line])
    return ratio >= LEAST_SHARE * RECORDED[stage]


async def test_a_webhook_costs_intake_no_more_than_it_did(tmp_path: Path, record_property: Any) -> None:
    """Floor: the signature's hash, the body read as JSON, and a bare ASGI answer."""
    intake, raw = Intake(tmp_path), as_raw(payload("user_send_text"))
    headers = signed(raw)

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        body = (await receive())["body"]
        hashlib.sha256(body + KEY.encode()).hexdigest()
        json.loads(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def ours() -> None:
        for _ in range(ITEMS):
            reply = await call(intake.app, raw=raw, headers=headers)
            assert reply is not None
            assert reply.status == 200

    await ours()  # warms up

    async def floor() -> None:
        for _ in range(ITEMS):
            await call(bare, raw=raw, headers=headers)

    assert await has_its_price("intake", ours, floor, record_property)


async def test_a_message_costs_the_router_no_more_than_it_did(size: Size, record_property: Any) -> None:
    """Floor: what it reads and writes for the same messages, with the store alone."""
    store, numbers = size.store, itertools.count()
    written = {name: await store[name].find({}).to_list(None) for name in ("messages", "cases", "case_entries")}
    copies: list[dict[str, list[Document]]] = [
        {name: [a_copy(one, mark=f"{number}-") for one in documents] for name, documents in written.items()}
        for number in range(MOST_ROUNDS)
    ]

    async def floor() -> None:
        batch = copies[next(numbers)]
        await store["messages"].find({"_id": {"$in": [one["_id"] for one in batch["messages"]]}}).to_list(None)
        await (
            store["cases"].find({"open_key": {"$in": [one["citizen_key"] for one in batch["messages"]]}}).to_list(None)
        )
        for name, documents in batch.items():
            await store[name].insert_many(documents)

    async def ours() -> None:
        await size.route(ITEMS)

    assert await has_its_price("router", ours, floor, record_property)


async def test_a_reply_costs_the_notifier_no_more_than_it_did(size: Size, record_property: Any) -> None:
    """Floor: a row written, taken and finished, with the store alone."""
    rows, numbers = size.store["reply_ledger"], itertools.count()
    written = await rows.find({}).to_list(None)
    copies = [[a_copy(one, mark=f"{number}-") for one in written] for number in range(MOST_ROUNDS)]

    async def floor() -> None:
        batch = copies[next(numbers)]
        await rows.insert_many(batch)
        ids = [one["_id"] for one in batch]
        for state in ("sending", "sent"):
            await rows.bulk_write([UpdateMany({"_id": {"$in": ids}}, {"$set": {"state": state}})])

    async def ours() -> None:
        await size.reply(ITEMS)

    assert await has_its_price("notifier", ours, floor, record_property)
