"""Walks the brokers of all services as `app.py` builds them: the topics' declarations are what really happens."""

import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from pydantic_settings import BaseSettings

from shared import kafka
from shared.collections import ALL_COLLECTIONS
from shared.topics import ALL_TOPICS

ROOT = Path(__file__).resolve().parents[3]
SERVICES = sorted(path.parent.name for path in (ROOT / "services").glob("*/subscribers.py"))
PEOPLE = {"officers"}
"""Owners that are no service: what people do at the console and the command line."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    file = tmp_path_factory.mktemp("zalo") / "zalo.yaml"
    app = {"app_id": "1", "app_secret": "s", "oa_secret_keys": ["k"]}
    page = {"page": "tan-chanh-hiep", "oa_id": "8", "app_id": "1", "refresh_token": "t"}
    file.write_text(yaml.safe_dump({"apps": [app], "pages": [page]}), "utf-8")
    patch = pytest.MonkeyPatch()
    patch.setenv("ZALO_CONFIG_FILE", str(file))
    patch.setenv("TOKEN_ENCRYPTION_KEY", Fernet.generate_key().decode())
    yield
    patch.undo()


def subscribers_of(service: str) -> list[Any]:
    """The service's subscribers, built but not started."""
    settings_module = importlib.import_module(f"services.{service}.settings")
    [settings_class] = [
        member
        for member in vars(settings_module).values()
        if isinstance(member, type)
        and issubclass(member, BaseSettings)
        and member.__module__ == settings_module.__name__
    ]
    wiring = importlib.import_module(f"services.{service}.app")
    brokers: list[KafkaBroker] = []

    def remembering(*arguments: Any, **options: Any) -> KafkaBroker:
        brokers.append(kafka.build_broker(*arguments, **options))
        return brokers[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wiring, "build_broker", remembering)
        wiring.build_app(settings_class())
    return [subscriber for broker in brokers for subscriber in broker.subscribers]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_reads_exactly_what_the_topics_say(service: str) -> None:
    reads = {(name, one.group_id) for one in subscribers_of(service) for name in one.topic_names_for_subscribe}

    assert reads == {(topic.name, group) for topic in ALL_TOPICS for group in topic.readers.get(service, ())}


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("service", SERVICES)
async def test_every_subscriber_keeps_the_delivery_rules(service: str) -> None:
    for subscriber in subscribers_of(service):
        assert subscriber.ack_policy is AckPolicy.NACK_ON_ERROR, "an offset must not be committed before the effect"
        assert type(subscriber).__name__.startswith("Batch"), "one message at a time cannot keep up with a surge"
        assert subscriber._no_reply, "a foreign header must not make us publish"
        arguments = subscriber._connection_args
        assert arguments["auto_offset_reset"] == "earliest", "a new group must not skip what is there"
        assert arguments["rebalance_timeout_ms"] == kafka.REBALANCE_TIMEOUT_MS > 1_000 * kafka.DRAIN_SECONDS
        assert isinstance(subscriber._listener, kafka.Progress), "a rebalance must wait for the batch in hand"


def test_every_reader_of_a_topic_is_a_service_with_subscribers() -> None:
    assert {reader for topic in ALL_TOPICS for reader in topic.readers} == set(SERVICES)


def test_each_topic_has_one_owner_that_exists_and_at_least_one_reader() -> None:
    services = {path.name for path in (ROOT / "services").iterdir() if path.is_dir()} | PEOPLE
    for topic in ALL_TOPICS:
        assert topic.owner in services, topic.name
        assert any(topic.readers.values()), topic.name


def test_a_consumer_group_reads_one_topic() -> None:
    # With two topics in one group a rebalance of one would stop the other as well.
    groups = [group for topic in ALL_TOPICS for groups in topic.readers.values() for group in groups]

    assert len(groups) == len(set(groups))


def test_topic_names_carry_their_version() -> None:
    for topic in ALL_TOPICS:
        assert re.search(r"\.v[1-9]$", topic.name), topic.name


def test_a_topic_is_kept_longer_than_any_holiday() -> None:
    assert all(topic.retention.days >= 14 for topic in ALL_TOPICS)


def test_indexes_have_names_of_their_own_and_collections_one_owner() -> None:
    names = [spec.name for spec in ALL_COLLECTIONS]
    assert len(names) == len(set(names))
    for spec in ALL_COLLECTIONS:
        indexes = [index.name for index in spec.indexes]
        assert len(indexes) == len(set(indexes)), spec.name
