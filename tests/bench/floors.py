"""What the same work costs without us: bare programs in processes of their own, on the same servers.

`python -m tests.bench.floors intake …`: an ASGI callable that puts the body into Kafka with an idempotent producer.
`… consumer`: aiokafka reads batches and commits. `… writer`: the same, and it reads and writes for each batch what the
router read and wrote for it, with the driver alone. `… noter`: reads echoes, keeps them and looks for their messages.
`… sender`: posts the same message bodies to the simulator.
"""

import asyncio
import itertools
import sys
import time
from datetime import UTC, datetime
from typing import Any

import uvicorn
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from pymongo import AsyncMongoClient

# aiokafka has hints for a part of its classes only.
_producer: Any = AIOKafkaProducer
_consumer: Any = AIOKafkaConsumer

BATCH = 500
TEXT = "Mang theo giấy tờ tùy thân."
"""What a reply of the notifier's stage says, too."""
ROUTER_COLLECTIONS = ("messages", "cases", "case_entries")


def intake(bootstrap: str, topic: str, port: str) -> None:
    """Serve until ended: 200 as soon as Kafka has the body."""
    producer: Any = None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal producer
        if scope["type"] == "lifespan":
            await receive()
            producer = _producer(
                bootstrap_servers=bootstrap, enable_idempotence=True, linger_ms=0, compression_type="lz4"
            )
            await producer.start()
            await send({"type": "lifespan.startup.complete"})
            print("ready", flush=True)
            await receive()
            await producer.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await producer.send_and_wait(topic, body, key=body[-40:])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    options: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "ws": "none", "log_config": None}
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(port),
        access_log=False,
        server_header=False,
        date_header=False,
        **options,
    )


async def consumer(bootstrap: str, topic: str, group: str) -> None:
    """Read batches and commit them; print how many there were so far."""
    async with _reading(bootstrap, topic, group) as source:
        seen = 0
        while True:
            batches = await source.getmany(timeout_ms=50, max_records=BATCH)
            if batches:
                await source.commit()
                seen += sum(map(len, batches.values()))
                print(seen, flush=True)


async def writer(bootstrap: str, topic: str, group: str, uri: str, database: str, replies_topic: str) -> None:
    """Read batches; for each event read and write what the router did for it, under other ids; publish its reply."""
    client: Any = AsyncMongoClient(uri, w="majority", journal=True)
    source_database, target = client[database], client[f"{database}_floor"]
    for name in ROUTER_COLLECTIONS:
        await _copy_indexes(source_database[name], target[name])
    written = await _what_the_router_wrote(source_database)
    producer = _producer(bootstrap_servers=bootstrap, enable_idempotence=True, linger_ms=0, compression_type="lz4")
    await producer.start()
    async with _reading(bootstrap, topic, group) as source:
        seen = 0
        numbers = itertools.count()
        while True:
            batches = await source.getmany(timeout_ms=50, max_records=BATCH)
            keys = [record.key for records in batches.values() for record in records]
            if not keys:
                continue
            batch = [next(written) for _ in keys]
            await target.messages.find({"_id": {"$in": [f"new{next(numbers)}" for _ in keys]}}).to_list(None)
            await target.cases.find({"open_key": {"$in": [key.decode() for key in keys]}}).to_list(None)
            for name in ROUTER_COLLECTIONS:
                if documents := [document for one in batch for document in one[name]]:
                    await target[name].insert_many(documents, ordered=name == "messages")
            sent = [await producer.send(replies_topic, b"x" * 900, key=keys[0]) for one in batch if one["reply"]]
            await asyncio.gather(*sent)
            await source.commit()
            seen += len(keys)
            print(seen, flush=True)


async def noter(bootstrap: str, topic: str, group: str, uri: str, database: str) -> None:
    """Read batches of echoes; for each one keep what the notifier keeps of it, and look its message up twice."""
    import orjson  # noqa: PLC0415 - only this floor and the next need it

    client: Any = AsyncMongoClient(uri, w="majority", journal=True)
    source_database, target = client[database], client[f"{database}_floor"]
    await _copy_indexes(source_database.delivery_reports, target.delivery_reports)
    async with _reading(bootstrap, topic, group) as source:
        seen = 0
        while True:
            batches = await source.getmany(timeout_ms=50, max_records=BATCH)
            bodies = [orjson.loads(record.value) for records in batches.values() for record in records]
            if not bodies:
                continue
            message_ids = [body["message"]["msg_id"] for body in bodies]
            reports = [
                {
                    "_id": f"{time.time_ns()}-{message_id}",
                    "message_id": message_id,
                    "report": "echo",
                    "citizen_key": f"{body['sender']['id']}:{body['recipient']['id']}",
                    "page": "first-page",
                    "oa_id": body["sender"]["id"],
                    "text_sha256": "0" * 64,
                    "reported_at": datetime.now(UTC),
                    "correlation_id": "0" * 32,
                }
                for message_id, body in zip(message_ids, bodies, strict=True)
            ]
            await target.delivery_reports.insert_many(reports, ordered=False)
            await target.delivery_reports.find({"message_id": {"$in": message_ids}}).to_list(None)
            await source_database.recipients.find({"message_key": {"$in": message_ids}}, {"message_key": 1}).to_list(
                None
            )
            await source.commit()
            seen += len(bodies)
            print(seen, flush=True)


async def sender(url: str, headers: str, connections: str) -> None:
    """For each line of user ids on standard input: post one message to each, over kept connections; print how many."""
    import aiohttp  # noqa: PLC0415 - only this floor needs it
    import orjson  # noqa: PLC0415

    common = orjson.loads(headers) | {"Content-Type": "application/json"}
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=int(connections))) as session:
        print("ready", flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            waiting = iter(orjson.loads(line))

            async def connection(waiting: Any = waiting) -> None:
                for user_id in waiting:
                    body = {"recipient": {"user_id": user_id}, "message": {"text": TEXT}}
                    async with session.post(url, data=orjson.dumps(body), headers=common) as answer:
                        if orjson.loads(await answer.read())["error"] != 0:
                            raise RuntimeError("refused")

            async with asyncio.TaskGroup() as group:
                for _ in range(int(connections)):
                    group.create_task(connection())
            print("done", flush=True)


async def _copy_indexes(source: Any, target: Any) -> None:
    for index in (await source.index_information()).values():
        if index["key"] != [("_id", 1)]:
            options = {key: index[key] for key in ("unique", "partialFilterExpression") if key in index}
            await target.create_index(index["key"], **options)


async def _what_the_router_wrote(database: Any) -> Any:
    """For ever: the documents of one message after another, each time with new ids and keys."""
    messages = await database.messages.find({}).sort([("_id", 1)]).limit(2_000).to_list(None)
    cases = {c["_id"]: c async for c in database.cases.find({"_id": {"$in": [m["case_id"] for m in messages]}})}
    entries: dict[str, list[dict[str, Any]]] = {}
    async for entry in database.case_entries.find({"event_id": {"$in": [m["_id"] for m in messages]}}):
        entries.setdefault(entry["event_id"], []).append(entry)

    def repeat() -> Any:
        for turn in itertools.count():
            mark = f"{time.time_ns()}-{turn}-"
            for message in messages:
                case = cases.get(message["case_id"])
                yield {
                    "messages": [{**message, "_id": mark + message["_id"], "message_id": mark + message["message_id"]}],
                    "cases": []
                    if case is None
                    else [
                        {
                            **case,
                            "_id": mark + case["_id"],
                            "code": mark + case["code"],
                            "citizen_key": mark + case["citizen_key"],
                        }
                    ],
                    "case_entries": [{**one, "_id": mark + one["_id"]} for one in entries.get(message["_id"], [])],
                    "reply": message["reply_id"] is not None,
                }

    return repeat()


class _reading:  # noqa: N801 - used like a function
    """A consumer for the time of a block; prints `ready` when it has its partitions."""

    def __init__(self, bootstrap: str, topic: str, group: str) -> None:
        self._consumer = _consumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=group,
            auto_offset_reset="latest",
            enable_auto_commit=False,
        )

    async def __aenter__(self) -> Any:
        await self._consumer.start()
        while not self._consumer.assignment():
            await self._consumer.getmany(timeout_ms=50)
        for partition in self._consumer.assignment():
            await self._consumer.position(partition)  # "latest" means from here on
        print("ready", flush=True)
        return self._consumer

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()


if __name__ == "__main__":
    program, *arguments = sys.argv[1:]
    if program == "intake":
        intake(*arguments)
    else:
        import uvloop

        programs: dict[str, Any] = {"consumer": consumer, "writer": writer, "noter": noter, "sender": sender}
        uvloop.run(programs[program](*arguments))
