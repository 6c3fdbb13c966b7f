import shutil
from pathlib import Path

import pytest

from stack import mongo
from stack.errors import StackError
from stack.mongo import Kind, MongoServer
from stack.terminal import Terminal


def a_server(kind: Kind, folder: Path) -> MongoServer:
    (folder / "password").write_text("p4ss", encoding="utf-8")
    return MongoServer(kind, Path("/usr/bin/server"), folder, 20_001)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mongod", "authSource=admin&replicaSet=hub&w=majority&journal=true"),
        ("wheel", "authSource=admin&retryWrites=false"),
        ("rust", "authSource=admin&w=majority&journal=true"),
    ],
)
def test_the_address_carries_the_password_and_what_this_server_needs(kind: Kind, options: str, tmp_path: Path) -> None:
    assert a_server(kind, tmp_path).uri == f"mongodb://hub:p4ss@127.0.0.1:20001/?{options}"


@pytest.mark.parametrize("kind", ["wheel", "rust"])
def test_the_stand_in_always_writes_through(kind: Kind, tmp_path: Path) -> None:
    assert "--sync-on-commit" in a_server(kind, tmp_path).command(auth=True)


@pytest.mark.parametrize("kind", ["mongod", "wheel", "rust"])
def test_the_supervised_server_asks_for_a_password(kind: Kind, tmp_path: Path) -> None:
    assert "--auth" in a_server(kind, tmp_path).program("/home").command


@pytest.mark.parametrize("kind", ["mongod", "wheel", "rust"])
def test_the_supervised_command_line_shows_no_secret(kind: Kind, tmp_path: Path) -> None:
    assert not any("p4ss" in word for word in a_server(kind, tmp_path).program("/home").command)


def test_a_real_mongod_is_preferred(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/mongod")
    assert mongo.kind_of("auto", tmp_path) == "mongod"


def test_without_mongod_the_stand_in_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert mongo.kind_of("auto", tmp_path) == "wheel"


def test_data_stays_with_the_server_that_wrote_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "kind").write_text("wheel", encoding="utf-8")
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/mongod")
    assert mongo.kind_of("auto", tmp_path) == "wheel"
    with pytest.raises(StackError) as refusal:
        mongo.kind_of("rust", tmp_path)
    assert refusal.value.code == "mongo_kind_changed"


def test_a_mongod_that_was_asked_for_and_is_not_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(StackError) as refusal:
        mongo.find_executable("mongod", tmp_path, Terminal(quiet=True))
    assert refusal.value.code == "mongod_missing"


def test_a_rust_server_without_cargo_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(StackError) as refusal:
        mongo.find_executable("rust", tmp_path, Terminal(quiet=True))
    assert refusal.value.code == "cargo_missing"


def test_a_database_that_does_not_answer_is_told_in_words() -> None:
    assert "ServerSelectionTimeoutError" in (mongo.answers("mongodb://127.0.0.1:1/") or "")
