"""What a topic should look like, what it looks like, and the difference."""

from dataclasses import dataclass

from shared.topics import Topic


@dataclass(frozen=True)
class TopicState:
    """A topic as the cluster has it."""

    partitions: int
    replication_factor: int
    partitions_without_leader: int
    partitions_under_replicated: int
    configs: dict[str, str]


@dataclass(frozen=True)
class Drift:
    """One difference between a topic's declaration and the cluster.

    Attributes:
        is_dangerous: whether accepted events may be lost or work cannot be shared; else it is a matter of taste.
    """

    topic: str
    what: str
    declared: str
    actual: str
    is_dangerous: bool

    def __str__(self) -> str:
        return f"{self.topic}: {self.what} is {self.actual}, declared {self.declared}"


def declared_configs(topic: Topic, *, replication_factor: int) -> dict[str, str]:
    """Settings a topic is created with.

    Args:
        topic: its declaration.
        replication_factor: copies of each record. One less must acknowledge, so that one broker may be away.
    """
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(int(topic.retention.total_seconds() * 1000)),
        "retention.bytes": "-1",
        "min.insync.replicas": str(max(1, replication_factor - 1)),
        "unclean.leader.election.enable": "false",
    }


def drift_of(topic: Topic, state: TopicState, *, replication_factor: int) -> list[Drift]:
    """Compare a topic with its declaration.

    More partitions than declared are fine: an operator may add some, and keys keep their order from then on.
    """
    found = []
    if state.partitions < topic.partitions:
        found.append(Drift(topic.name, "partitions", str(topic.partitions), str(state.partitions), True))
    if state.replication_factor < replication_factor:
        found.append(
            Drift(topic.name, "replication factor", str(replication_factor), str(state.replication_factor), True)
        )
    for name, declared in declared_configs(topic, replication_factor=replication_factor).items():
        actual = state.configs.get(name, "")
        if actual != declared:
            found.append(Drift(topic.name, name, declared, actual, _is_dangerous(name, declared, actual)))
    return found


def _is_dangerous(name: str, declared: str, actual: str) -> bool:
    match name:
        case "retention.ms":
            return actual != "-1" and int(actual or 0) < int(declared)
        case "min.insync.replicas":
            return int(actual or 0) < int(declared)
        case _:
            return True
