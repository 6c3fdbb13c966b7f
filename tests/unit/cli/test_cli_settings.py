import json
from pathlib import Path

import pytest

from cli import settings
from cli.errors import CommandError, ExitCode
from cli.settings import hub_home, instances, load_settings

STATE = {
    "version": 1,
    "kafka": "127.0.0.1:1111",
    "mongo": "mongodb://hub:secret-word@127.0.0.1:2222/",
    "intake": "http://127.0.0.1:3333",
    "router": "http://127.0.0.1:4444",
    "notifier": None,
    "simulator": "http://127.0.0.1:5555",
    "webhook": "http://127.0.0.1:3333/webhooks/zalo",
    "instances": {"router": ["http://127.0.0.1:4444", "http://127.0.0.1:4445"]},
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "MONGO_URI", "MONGO_URI_FILE", "SIMULATOR_URL", "INTAKE_URL", "ROUTER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    monkeypatch.setenv("HUB_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_addresses_come_from_what_make_up_wrote_down(home: Path) -> None:
    (home / "state.json").write_text(json.dumps(STATE))

    found = load_settings()

    assert found.kafka_bootstrap_servers == "127.0.0.1:1111"
    assert found.simulator_url == "http://127.0.0.1:5555"
    assert found.notifier_url == "http://127.0.0.1:8003"
    assert "console" not in found.service_urls
    assert "secret-word" not in repr(found)


def test_the_environment_wins_over_the_file_and_dot_env_stands_between(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "state.json").write_text(json.dumps(STATE))
    (home.parent / ".env").write_text("INTAKE_URL=http://from-dot-env\nROUTER_URL=http://from-dot-env\nOTHER=1\n")
    monkeypatch.setenv("ROUTER_URL", "http://from-environment")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "")

    found = load_settings()

    assert found.intake_url == "http://from-dot-env"
    assert found.router_url == "http://from-environment"
    assert found.kafka_bootstrap_servers == "127.0.0.1:1111", "an empty variable counts as not given"


def test_without_a_file_the_defaults_hold() -> None:
    assert load_settings().simulator_url is None


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"version": 2}'])
def test_a_file_that_cannot_be_understood_says_what_to_do(home: Path, content: str) -> None:
    (home / "state.json").write_text(content)

    with pytest.raises(CommandError, match="state_") as raised:
        load_settings()
    assert raised.value.exit_code is ExitCode.CONFIGURATION
    assert "make up" in raised.value.advice


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_DRIVER", "mysql")

    with pytest.raises(CommandError, match="MONGO_DRIVER"):
        load_settings()


def test_every_instance_of_a_scaled_service_is_known(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "state.json").write_text(json.dumps(STATE))
    assert instances(load_settings())["router"] == ["http://127.0.0.1:4444", "http://127.0.0.1:4445"]

    monkeypatch.setenv("ROUTER_URL", "http://elsewhere")
    assert instances(load_settings())["router"] == ["http://elsewhere"]


def test_the_home_may_be_named_in_dot_env(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUB_HOME")
    assert hub_home() == home.parent / ".hub"

    (home.parent / ".env").write_text("HUB_HOME=elsewhere\n")
    assert hub_home() == home.parent / "elsewhere"
