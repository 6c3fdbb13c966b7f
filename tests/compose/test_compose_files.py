"""What the compose files promise, read as data; no engine needed."""

from functools import cache
from typing import Any

import pytest
import yaml

from cli.settings import CliSettings
from services.intake.settings import IntakeSettings
from services.notifier.settings import NotifierSettings
from shared.service import BROKER_STOP_SECONDS
from tests.compose.harness import BROKERS, ROOT, SERVICES

LONG_RUNNING = {*SERVICES, *BROKERS, "mongo", "proxy", "simulator"}
ONCE = {"init", "mongo-setup"}
TOOLS = {"hub", "secrets"}
HTTP_GRACE_SECONDS = 15
"""`timeout_graceful_shutdown` of shared/service.py: requests in hand, before the consumers stop."""


class _Loader(yaml.SafeLoader):
    """Understands compose's `!override`."""


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return list(loader.construct_sequence(node))


_Loader.add_constructor("!override", _sequence)


@cache
def production() -> dict[str, Any]:
    document: dict[str, Any] = yaml.load((ROOT / "docker-compose.yml").read_text("utf-8"), _Loader)  # noqa: S506
    return document


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = production()["services"]
    return found


def test_every_service_is_known_to_this_test() -> None:
    assert set(services()) == LONG_RUNNING | ONCE | TOOLS


@pytest.mark.parametrize("name", sorted(LONG_RUNNING | ONCE))
def test_a_container_has_no_rights_that_it_does_not_need(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", sorted(LONG_RUNNING))
def test_a_long_running_container_has_limits_a_health_check_and_comes_back(name: str) -> None:
    service = services()[name]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"]
    assert service["logging"]["options"]["max-size"]


def test_nothing_stands_in_the_way_of_scaling_and_only_the_proxy_publishes() -> None:
    assert [name for name, service in services().items() if "container_name" in service or "hostname" in service] == []
    assert [name for name, service in services().items() if "ports" in service] == ["proxy"]
    assert all(port.startswith("${HUB_BIND:-127.0.0.1}:") for port in services()["proxy"]["ports"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_time_to_stop(name: str) -> None:
    assert int(services()[name]["stop_grace_period"].removesuffix("s")) >= BROKER_STOP_SECONDS + HTTP_GRACE_SECONDS + 10


def test_secrets_come_from_files_only() -> None:
    for name, service in services().items():
        for variable, value in service.get("environment", {}).items():
            if {"PASSWORD", "SECRET", "KEY", "TOKEN", "URI"} & set(variable.split("_")):
                assert variable.endswith("_FILE"), f"{name}: {variable}"
                assert str(value).startswith("/run/secrets/"), f"{name}: {variable}"
    assert all(set(secret) == {"file"} for secret in production()["secrets"].values())


def test_every_setting_given_to_a_service_is_one_it_knows() -> None:
    known = {
        "intake": IntakeSettings.model_fields,
        "notifier": NotifierSettings.model_fields,
        "init": CliSettings.model_fields,
        "hub": CliSettings.model_fields,
    }
    common = {"zalo_config_file", "token_encryption_key"}  # settings classes of other rooms
    for name, fields in known.items():
        for variable in services()[name]["environment"]:
            field = variable.lower()
            assert {field, field.removesuffix("_file")} & {*fields, *common}, f"{name}: {variable}"


def test_kafka_keeps_three_copies_of_which_two_count() -> None:
    for broker in BROKERS:
        settings = services()[broker]["environment"]
        assert settings["KAFKA_DEFAULT_REPLICATION_FACTOR"] == 3
        assert settings["KAFKA_MIN_INSYNC_REPLICAS"] == 2
        assert settings["KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR"] == 3
        assert settings["KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR"] == 3
        assert settings["KAFKA_TRANSACTION_STATE_LOG_MIN_ISR"] == 2
        assert settings["KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE"] == "false"
        assert services()[broker]["volumes"] == [f"{broker}:/var/lib/kafka/data"]


def test_images_are_pinned_to_a_version() -> None:
    for name, service in services().items():
        _, _, tag = service["image"].partition(":")
        assert any(character.isdigit() for character in tag), f"{name}: {service['image']}"


def test_without_a_registry_nothing_is_pulled() -> None:
    override = yaml.load((ROOT / "docker-compose.air-gapped.yml").read_text("utf-8"), _Loader)["services"]  # noqa: S506
    for name, service in services().items():
        policy = override.get(name, {}).get("pull_policy", service.get("pull_policy"))
        assert policy == "never" or "build" in service, f"{name} would be pulled"


def test_the_proxy_cuts_slow_clients_and_looks_for_new_replicas() -> None:
    text = (ROOT / "deploy" / "proxy" / "haproxy.cfg").read_text("utf-8")
    assert "timeout http-request 5s" in text
    assert "option http-buffer-request" in text
    assert "server-template replica 1-10 intake:8080" in text
