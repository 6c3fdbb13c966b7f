"""Kafka's administrative side: topics, their settings, offsets and lag."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaError,
    NotCoordinatorForGroupError,
    TopicAlreadyExistsError,
    for_code,
)

from cli.errors import CommandError, ExitCode
from cli.topic_drift import TopicState

REQUEST_TIMEOUT_MS = 10_000

# aiokafka has hints for a part of its classes only; these constructors have none.
_new_topic: Any = NewTopic
_config_resource: Any = ConfigResource
_consumer: Any = AIOKafkaConsumer
_NO_GROUP_YET = (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError)


@dataclass(frozen=True)
class GroupLag:
    """How far one consumer group is behind on one topic.

    Attributes:
        lag: records not yet committed, over all partitions.
        partitions_without_offset: where the group has never committed.
        members: consumers of the group that are there now.
    """

    group: str
    topic: str
    lag: int
    partitions_without_offset: int
    members: int


class KafkaAdmin:
    """A connection for administration; use it as an async context manager."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._servers = bootstrap_servers.split(",")
        self._admin: Any = AIOKafkaAdminClient(
            bootstrap_servers=self._servers, client_id="hub-cli", request_timeout_ms=REQUEST_TIMEOUT_MS
        )

    async def __aenter__(self) -> Self:
        try:
            await self._admin.start()
        except (KafkaError, OSError) as error:
            await self._admin.close()
            raise CommandError(
                "kafka_unreachable",
                f"Kafka does not answer at {','.join(self._servers)} ({type(error).__name__}).",
                "Start the hub with `make up`, or set KAFKA_BOOTSTRAP_SERVERS to a cluster that runs.",
                exit_code=ExitCode.UNREACHABLE,
            ) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._admin.close()

    async def broker_count(self) -> int:
        """Brokers that are in the cluster now."""
        return len((await self._admin.describe_cluster())["brokers"])

    async def default_replication_factor(self) -> int:
        """What the cluster itself gives to a new topic."""
        cluster = await self._admin.describe_cluster()
        node_id = str(cluster["brokers"][0]["node_id"])
        resource = _config_resource(ConfigResourceType.BROKER, node_id, {"default.replication.factor": ""})
        [answer] = await self._admin.describe_configs([resource])
        return int(_config_values(answer)[node_id].get("default.replication.factor", 1))

    async def topic_states(self, names: Sequence[str]) -> dict[str, TopicState]:
        """The real state of those of the named topics that exist."""
        described = {topic["topic"]: topic for topic in await self._admin.describe_topics()}
        present = [name for name in names if name in described]
        if not present:
            return {}
        resources = [_config_resource(ConfigResourceType.TOPIC, name) for name in present]
        configs: dict[str, dict[str, str]] = {}
        for answer in await self._admin.describe_configs(resources):
            configs |= _config_values(answer)
        states = {}
        for name in present:
            partitions = described[name]["partitions"]
            states[name] = TopicState(
                partitions=len(partitions),
                replication_factor=min((len(p["replicas"]) for p in partitions), default=0),
                partitions_without_leader=sum(p["leader"] < 0 for p in partitions),
                partitions_under_replicated=sum(len(p["isr"]) < len(p["replicas"]) for p in partitions),
                configs=configs[name],
            )
        return states

    async def create_topic(
        self, name: str, *, partitions: int, replication_factor: int, configs: dict[str, str]
    ) -> bool:
        """Create a topic.

        Returns:
            False when somebody else had created it.

        Raises:
            CommandError: Kafka refused.
        """
        new = _new_topic(name, partitions, replication_factor, topic_configs=configs)
        answer = await self._admin.create_topics([new])
        for topic, code, *message in answer.topic_errors:
            if not code:
                continue
            error = for_code(code)
            if error is TopicAlreadyExistsError:
                return False
            raise CommandError(
                "topic_refused",
                f"Kafka refused to create {topic}: {error.__name__} {message[0] if message else ''}".rstrip(),
                "The replication factor must not exceed the number of brokers; see `hub init --help`.",
            )
        return True

    async def lags(self, readers: Sequence[tuple[str, str]]) -> list[GroupLag]:
        """How far groups are behind.

        Args:
            readers: pairs of consumer group and topic; topics that do not exist are left out.
        """
        described = {topic["topic"]: topic for topic in await self._admin.describe_topics()}
        topics = sorted({topic for _, topic in readers if topic in described})
        partitions = [
            TopicPartition(topic, partition["partition"])
            for topic in topics
            for partition in described[topic]["partitions"]
        ]
        first, last = await self._offset_range(partitions)
        groups = sorted({group for group, _ in readers})
        committed = dict(zip(groups, await asyncio.gather(*map(self._committed, groups)), strict=True))
        members = dict(zip(groups, await asyncio.gather(*map(self._members, groups)), strict=True))
        by_topic: dict[str, list[TopicPartition]] = defaultdict(list)
        for partition in partitions:
            by_topic[partition.topic].append(partition)
        answer = []
        for group, topic in readers:
            if topic not in by_topic:
                continue
            offsets = committed[group]
            answer.append(
                GroupLag(
                    group=group,
                    topic=topic,
                    # An offset older than the oldest record means that retention took what the group had not read.
                    lag=sum(last[p] - max(offsets.get(p, 0), first[p]) for p in by_topic[topic]),
                    partitions_without_offset=sum(p not in offsets for p in by_topic[topic]),
                    members=members[group],
                )
            )
        return answer

    async def _offset_range(
        self, partitions: Sequence[TopicPartition]
    ) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        if not partitions:
            return {}, {}
        consumer = _consumer(
            bootstrap_servers=self._servers, client_id="hub-cli", request_timeout_ms=REQUEST_TIMEOUT_MS
        )
        await consumer.start()
        try:
            return await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        finally:
            await consumer.stop()

    async def _committed(self, group: str) -> dict[TopicPartition, int]:
        try:
            offsets = await self._admin.list_consumer_group_offsets(group)
        except _NO_GROUP_YET:
            return {}  # a fresh cluster has no coordinator before the first group comes
        return {partition: kept.offset for partition, kept in offsets.items() if kept.offset >= 0}

    async def _members(self, group: str) -> int:
        try:
            [answer] = await self._admin.describe_consumer_groups([group])
        except _NO_GROUP_YET:
            return 0
        return sum(len(described[5]) for described in answer.groups)


def _config_values(answer: Any) -> dict[str, dict[str, str]]:
    """Settings by resource name from an answer of any version (error, text, kind, name, entries)."""
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4] if entry[1] is not None}
        for resource in answer.resources
    }
