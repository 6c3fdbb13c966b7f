import pytest

from cli.topic_drift import TopicState, declared_configs, drift_of
from shared.topics import CITIZEN_MESSAGES


def state(*, partitions: int = 12, replication_factor: int = 3, **configs: str) -> TopicState:
    declared = declared_configs(CITIZEN_MESSAGES, replication_factor=3)
    return TopicState(
        partitions, replication_factor, 0, 0, declared | {k.replace("_", "."): v for k, v in configs.items()}
    )


def test_a_topic_that_is_as_declared_has_no_drift() -> None:
    assert drift_of(CITIZEN_MESSAGES, state(), replication_factor=3) == []


@pytest.mark.parametrize(("copies", "in_sync"), [(1, "1"), (2, "1"), (3, "2"), (5, "4")])
def test_all_copies_but_one_must_acknowledge(copies: int, in_sync: str) -> None:
    configs = declared_configs(CITIZEN_MESSAGES, replication_factor=copies)

    assert configs["min.insync.replicas"] == in_sync
    assert configs["unclean.leader.election.enable"] == "false"
    assert configs["retention.ms"] == str(14 * 24 * 3_600 * 1_000)


def test_more_partitions_than_declared_are_no_drift() -> None:
    assert drift_of(CITIZEN_MESSAGES, state(partitions=24), replication_factor=3) == []


@pytest.mark.parametrize(
    ("actual", "what", "is_dangerous"),
    [
        (state(partitions=1), "partitions", True),
        (state(replication_factor=1), "replication factor", True),
        (state(retention_ms="1000"), "retention.ms", True),
        (state(retention_ms="99999999999"), "retention.ms", False),
        (state(retention_ms="-1"), "retention.ms", False),
        (state(min_insync_replicas="1"), "min.insync.replicas", True),
        (state(min_insync_replicas="3"), "min.insync.replicas", False),
        (state(unclean_leader_election_enable="true"), "unclean.leader.election.enable", True),
        (state(cleanup_policy="compact"), "cleanup.policy", True),
    ],
)
def test_a_difference_is_named_and_weighed(actual: TopicState, what: str, is_dangerous: bool) -> None:
    [drift] = drift_of(CITIZEN_MESSAGES, actual, replication_factor=3)

    assert (drift.what, drift.is_dangerous) == (what, is_dangerous)
    assert str(drift).startswith(f"citizen.messages.v1: {what} is ")
