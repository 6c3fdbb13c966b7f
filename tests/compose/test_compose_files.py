"""What the compose files promise, read as data; no engine needed."""

import json
import re
from typing import Any

import pytest
import yaml

from cli.settings import CliSettings
from services.console.settings import ConsoleSettings
from services.intake.settings import IntakeSettings
from services.notifier.settings import NotifierSettings
from shared.service import BROKER_STOP_SECONDS
from tests.compose.harness import BROKERS, ROOT, SERVICES
from tests.images import production_file

WATCHING = {"prometheus", "grafana"}
LONG_RUNNING = {*SERVICES, *BROKERS, *WATCHING, "mongo", "proxy", "simulator"}
ONCE = {"init", "mongo-setup"}
TOOLS = {"hub", "secrets"}
HTTP_GRACE_SECONDS = 15
"""`timeout_graceful_shutdown` of shared/service.py: requests in hand, before the consumers stop."""


class _Loader(yaml.SafeLoader):
    """Understands compose's `!override`."""


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return list(loader.construct_sequence(node))


_Loader.add_constructor("!override", _sequence)


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = production_file()["services"]
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


@pytest.mark.parametrize("name", sorted(LONG_RUNNING - {"proxy", *BROKERS}))
def test_a_container_is_no_root_and_says_so(name: str) -> None:
    # Kafka's and HAProxy's official images come with a user of their own; the others are told.
    user, _, _ = services()[name]["user"].partition(":")
    assert int(user) > 0


@pytest.mark.parametrize("name", sorted(LONG_RUNNING))
def test_a_long_running_container_has_limits_a_health_check_and_comes_back(name: str) -> None:
    service = services()[name]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"]
    assert service["logging"]["options"]["max-size"]
    assert int(service["stop_grace_period"].removesuffix("s")) > 10, "the engine's default is too short for most"


def test_nothing_stands_in_the_way_of_scaling_and_the_proxy_publishes_for_the_services() -> None:
    assert [name for name, service in services().items() if "container_name" in service or "hostname" in service] == []
    assert {name for name, service in services().items() if "ports" in service} == {"proxy", *WATCHING}


def test_what_is_published_is_on_loopback_unless_told_otherwise_and_its_port_can_be_chosen() -> None:
    ports = [port for service in services().values() for port in service.get("ports", ())]
    assert len(ports) == 5
    for port in ports:
        assert re.fullmatch(r"(127\.0\.0\.1|\$\{HUB_BIND:-127\.0\.0\.1\}):\$\{HUB_[A-Z]+_PORT:-\d+\}:\d+", port), port
    assert services()["prometheus"]["ports"][0].startswith("127.0.0.1:"), "it asks nobody for a password"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_time_to_stop(name: str) -> None:
    assert int(services()[name]["stop_grace_period"].removesuffix("s")) >= BROKER_STOP_SECONDS + HTTP_GRACE_SECONDS + 10


def test_secrets_come_from_files_only() -> None:
    for name, service in services().items():
        for variable, value in service.get("environment", {}).items():
            if {"PASSWORD", "SECRET", "KEY", "TOKEN", "URI"} & set(variable.split("_")):
                assert variable.endswith("_FILE"), f"{name}: {variable}"
                assert str(value).startswith("/run/secrets/"), f"{name}: {variable}"
    assert all(set(secret) == {"file"} for secret in production_file()["secrets"].values())


def test_every_setting_given_to_a_service_is_one_it_knows() -> None:
    known = {
        "intake": IntakeSettings.model_fields,
        "console": ConsoleSettings.model_fields,
        "notifier": NotifierSettings.model_fields,
        "init": CliSettings.model_fields,
        "hub": CliSettings.model_fields,
    }
    # Settings classes of other rooms, and the HTTP server's own.
    common = {"zalo_config_file", "token_encryption_key", "forwarded_allow_ips"}
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


def test_images_are_pinned_to_a_whole_version() -> None:
    for name, service in services().items():
        _, _, tag = service["image"].partition(":")
        assert re.fullmatch(r"v?\d+\.\d+\.\d+|\$\{HUB_VERSION:-\d+\.\d+\.\d+\}", tag), f"{name}: {service['image']}"


def test_without_a_registry_nothing_is_pulled() -> None:
    override = yaml.load((ROOT / "docker-compose.air-gapped.yml").read_text("utf-8"), _Loader)["services"]  # noqa: S506
    for name, service in services().items():
        if name == "grafana":  # in no package; docs/air-gapped.md says so
            continue
        policy = override.get(name, {}).get("pull_policy", service.get("pull_policy"))
        assert policy == "never" or "build" in service, f"{name} would be pulled"


def test_the_proxy_cuts_slow_clients_and_looks_for_new_replicas() -> None:
    text = (ROOT / "deploy" / "proxy" / "haproxy.cfg").read_text("utf-8")
    assert "timeout http-request 5s" in text
    assert "option http-buffer-request" in text
    assert "server-template replica 1-10 intake:8080" in text


def test_the_proxy_tells_the_console_one_address_that_an_officer_cannot_choose() -> None:
    frontend = _section("frontend officers")
    assert (
        "set-header x-forwarded-for %[req.hdr(x-forwarded-for,-1)] if { req.hdr(x-forwarded-for) -m found }" in frontend
    )
    assert "set-header x-forwarded-for %[src] unless { req.hdr(x-forwarded-for) -m found }" in frontend
    assert "deny_status 404 if { path /metrics /asyncapi.json } or { path_beg /health/ }" in frontend


def _section(name: str) -> str:
    text = (ROOT / "deploy" / "proxy" / "haproxy.cfg").read_text("utf-8")
    return next(part for part in text.split("\n\n") if name in part)


def test_prometheus_asks_every_service_by_the_name_that_compose_gives_it() -> None:
    config = yaml.safe_load((ROOT / "observability" / "prometheus.yml").read_text("utf-8"))
    (found,) = (job["dns_sd_configs"][0] for job in config["scrape_configs"])
    assert found["names"] == list(SERVICES)
    assert {services()[name]["environment"]["HTTP_PORT"] for name in SERVICES} == {str(found["port"])}
    mounted = {one["target"] for one in services()["prometheus"]["configs"]}
    assert {f"/etc/prometheus/{file}" for file in config["rule_files"]} < mounted


def test_every_file_that_is_mounted_is_there_and_is_used() -> None:
    configs = {name: ROOT / config["file"] for name, config in production_file()["configs"].items()}
    assert [name for name, file in configs.items() if not file.is_file()] == []
    assert {c["source"] for service in services().values() for c in service.get("configs", ())} == set(configs)
    assert _used_secrets() == set(production_file()["secrets"])


def _used_secrets() -> set[str]:
    named = (secret for service in services().values() for secret in service.get("secrets", ()))
    return {secret if isinstance(secret, str) else secret["source"] for secret in named}


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    folder = ROOT / "observability" / "grafana"
    source = yaml.safe_load((folder / "provisioning" / "datasources" / "prometheus.yml").read_text("utf-8"))
    (datasource,) = source["datasources"]
    assert datasource["url"] == "http://prometheus:9090"
    dashboard = json.loads((folder / "dashboards" / "hub.json").read_text("utf-8"))
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {datasource["uid"]}
    (provider,) = yaml.safe_load((folder / "provisioning" / "dashboards" / "hub.yml").read_text("utf-8"))["providers"]
    mounted = {one["target"] for one in services()["grafana"]["configs"]}
    assert f"{provider['options']['path']}/hub.json" in mounted
