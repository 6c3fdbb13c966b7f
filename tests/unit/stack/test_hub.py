import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from stack import hub as hub_module
from stack.errors import StackError
from stack.hub import Hub, Servers
from stack.settings import StackSettings
from stack.terminal import Terminal


def a_hub(home: Path, **environment: str) -> Hub:
    settings = {"HUB_HOME": str(home), "HUB_CACHE_DIR": str(home / "cache"), "KAFKA_BOOTSTRAP_SERVERS": "k:9092"}
    chosen = settings | {"MONGO_URI": "mongodb://m/"} | environment
    hub = Hub(StackSettings.load(chosen), Terminal(quiet=True), chosen)
    hub._servers = Servers(kafka_servers="k:9092", mongo_uri="mongodb://m/")
    home.mkdir(exist_ok=True)
    return hub


@pytest.fixture(autouse=True)
def known_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"LOG_LEVEL", "ZALO_APPS", "ZALO_OA_API_URL", "MONGO_URI", "TOKEN_ENCRYPTION_KEY"}
    monkeypatch.setattr(hub_module, "_service_settings", lambda: frozenset(names))


def test_services_get_the_servers_of_this_run_and_a_key_of_their_own(tmp_path: Path) -> None:
    environment = a_hub(tmp_path)._service_environment()
    assert environment["KAFKA_BOOTSTRAP_SERVERS"] == "k:9092"
    assert environment["HUB_ENVIRONMENT"] == "demo"
    assert environment["ZALO_CONFIG_FILE"] == str(tmp_path / "zalo.yaml")
    key = Path(environment["TOKEN_ENCRYPTION_KEY_FILE"])
    assert key.stat().st_mode & 0o077 == 0
    assert a_hub(tmp_path)._service_environment()["TOKEN_ENCRYPTION_KEY_FILE"] == str(key)


def test_a_persons_setting_reaches_the_services(tmp_path: Path) -> None:
    assert a_hub(tmp_path, LOG_LEVEL="DEBUG")._service_environment()["LOG_LEVEL"] == "DEBUG"


def test_what_is_no_setting_of_a_service_is_not_handed_on(tmp_path: Path) -> None:
    assert "SOMETHING_ELSE" not in a_hub(tmp_path, SOMETHING_ELSE="1")._service_environment()


def test_a_key_of_ones_own_replaces_the_generated_one(tmp_path: Path) -> None:
    environment = a_hub(tmp_path, TOKEN_ENCRYPTION_KEY="mine")._service_environment()
    assert environment["TOKEN_ENCRYPTION_KEY"] == "mine"
    assert "TOKEN_ENCRYPTION_KEY_FILE" not in environment


def test_the_real_zalo_never_leaks_into_the_demonstration(tmp_path: Path) -> None:
    assert "ZALO_OA_API_URL" not in a_hub(tmp_path, ZALO_OA_API_URL="https://zalo.example")._service_environment()


def test_without_the_simulator_the_persons_zalo_is_used_in_production(tmp_path: Path) -> None:
    given = {
        "SIMULATOR": "off",
        "ZALO_OA_API_URL": "https://zalo.example",
        "ZALO_CONFIG_FILE": str(tmp_path / "z.yaml"),
    }
    environment = a_hub(tmp_path, **given)._service_environment()
    assert environment["ZALO_OA_API_URL"] == "https://zalo.example"
    assert environment["ZALO_CONFIG_FILE"] == str(tmp_path / "z.yaml")
    assert environment["HUB_ENVIRONMENT"] == "production"


def test_every_program_has_a_port_of_its_own_and_the_webhook_is_the_first_intake(tmp_path: Path) -> None:
    hub = a_hub(tmp_path)
    hub._memory.instances["intake"] = 2
    programs = {program.name: program for program in hub._plan_hub()}
    assert set(programs) == {"simulator", "intake", "intake-2", "router", "notifier", "console"}
    ports = [program.environment["HTTP_PORT"] for name, program in programs.items() if name != "simulator"]
    assert len(set(ports)) == 5
    assert hub._webhook_url() == f"http://127.0.0.1:{programs['intake'].environment['HTTP_PORT']}/webhooks/zalo"


def test_a_changed_source_file_changes_the_programs_that_are_started_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "ROOT", tmp_path)
    file = tmp_path / "services" / "app.py"
    file.parent.mkdir()
    file.write_text("a = 1", encoding="utf-8")
    before = hub_module._build("services")
    assert hub_module._build("services") == before
    file.write_text("a = 11", encoding="utf-8")
    assert hub_module._build("services") != before


def test_a_count_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    for wanted in ({"notifier": 0}, {"kafka": 2}, {"router": 99}):
        with pytest.raises(StackError) as refusal:
            a_hub(tmp_path).scale(wanted)
        assert refusal.value.code == "scale_invalid"


def test_data_of_three_nodes_is_not_opened_by_one(tmp_path: Path) -> None:
    for node in ("1", "2", "3"):
        (tmp_path / "kafka" / node / "data").mkdir(parents=True)
        (tmp_path / "kafka" / node / "data" / "meta.properties").touch()
    with pytest.raises(StackError) as refusal:
        a_hub(tmp_path)._kafka_nodes()
    assert refusal.value.code == "kafka_nodes_changed"


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError) as refusal:
        Hub(StackSettings.load({"HUB_HOME": str(tmp_path / "file" / "hub")}), Terminal(quiet=True), {}).up()
    assert refusal.value.code == "folder_not_writable"
    assert str(tmp_path / "file") in refusal.value.message


def test_stopping_a_hub_that_never_ran_is_no_error(tmp_path: Path) -> None:
    hub = Hub(StackSettings.load({"HUB_HOME": str(tmp_path / "never")}), Terminal(quiet=True), {})
    assert not hub.down()
    assert not (tmp_path / "never").exists()


class _Answer(BaseHTTPRequestHandler):
    status, body = 200, b"{}"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def service() -> Iterator[type[_Answer]]:
    handler = type("Answer", (_Answer,), {})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        handler.port = server.server_port  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield handler
        server.shutdown()


def test_a_service_that_says_yes_is_ready(service: type[_Answer]) -> None:
    assert hub_module._is_ready(service.port) is None  # type: ignore[attr-defined]


def test_a_service_that_is_not_ready_tells_which_check_failed(service: type[_Answer]) -> None:
    service.status, service.body = 503, b'{"checks": {"kafka": "ok", "mongo": "no answer in 3 s"}}'
    assert hub_module._is_ready(service.port) == "mongo: no answer in 3 s"  # type: ignore[attr-defined]


def test_a_service_that_does_not_listen_is_told_in_words() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        assert "no answer on port" in (hub_module._is_ready(probe.getsockname()[1]) or "")
