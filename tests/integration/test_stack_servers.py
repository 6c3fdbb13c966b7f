"""The servers that everything else is tested on: real ones, durable, and back by themselves after a kill."""

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pymongo import MongoClient


async def test_a_record_sent_to_the_test_kafka_is_read_again(kafka_bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("stack-servers-1", num_partitions=1, replication_factor=1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, enable_idempotence=True)
    await producer.start()
    await producer.send_and_wait("stack-servers-1", b"xin chao")
    await producer.stop()
    consumer = AIOKafkaConsumer(
        "stack-servers-1", bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest", group_id="stack-servers"
    )
    await consumer.start()
    record = await consumer.getone()
    await consumer.stop()
    assert record.value == b"xin chao"


def test_the_test_database_takes_writes_from_nobody_without_the_password(mongo_uri: str) -> None:
    with MongoClient[dict[str, object]](mongo_uri) as client:
        client["stack_servers"]["papers"].insert_one({"_id": 1})
        assert client["stack_servers"]["papers"].count_documents({}) == 1
