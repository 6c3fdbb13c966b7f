"""Prometheus over the local hub asks what the containers' Prometheus asks."""

import json
import subprocess
from pathlib import Path

import pytest

from stack.errors import StackError
from stack.observe import configuration, observe, targets
from stack.settings import StackSettings
from stack.state import HubState
from stack.supervision import write_private
from stack.terminal import Terminal

STATE = HubState(
    kafka="k",
    mongo="m",
    intake="http://127.0.0.1:1",
    router="http://127.0.0.1:2",
    notifier=None,
    simulator=None,
    webhook=None,
    zalo_config=None,
    supervisor="s",
    instances={"router": ["http://127.0.0.1:2", "http://127.0.0.1:3"], "intake": ["http://127.0.0.1:1"]},
)


def test_every_instance_is_asked_under_its_services_name() -> None:
    assert targets(STATE) == [
        {"targets": ["127.0.0.1:1"], "labels": {"service_name": "intake"}},
        {"targets": ["127.0.0.1:2", "127.0.0.1:3"], "labels": {"service_name": "router"}},
    ]


def test_the_rules_are_those_of_the_containers(tmp_path: Path) -> None:
    content = configuration(tmp_path)

    assert [Path(name).name for name in content["rule_files"]] == ["alerts.yml"]
    assert all(Path(name).is_file() for name in content["rule_files"])
    assert content["global"]["scrape_interval"] == "5s"
    assert content["scrape_configs"][0]["job_name"] == "hub", "the alerts ask for this job"


def test_prometheus_accepts_it(promtool: str, tmp_path: Path) -> None:
    write_private(tmp_path / "targets.json", json.dumps(targets(STATE)))
    write_private(tmp_path / "prometheus.yml", json.dumps(configuration(tmp_path)))

    judged = subprocess.run([promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True)

    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_without_a_hub_there_is_nothing_to_observe(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="no hub"):
        observe(StackSettings.load({"HUB_HOME": str(tmp_path)}), Terminal(quiet=True), port=None)
