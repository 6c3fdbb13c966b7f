from pathlib import Path

import pytest

from shared.errors import ConfigurationError
from shared.settings import HubSettings, read_secret_files


def test_a_secret_comes_from_the_file_that_its_variable_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "uri"
    file.write_text("mongodb://user:Mật-khẩu@host/\r\n", "utf-8")
    monkeypatch.setenv("MONGO_URI_FILE", str(file))

    assert HubSettings().mongo_uri.get_secret_value() == "mongodb://user:Mật-khẩu@host/"


def test_a_file_wins_over_the_plain_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "uri"
    file.write_text("mongodb://from-file/", "utf-8")
    monkeypatch.setenv("MONGO_URI", "mongodb://from-variable/")
    monkeypatch.setenv("MONGO_URI_FILE", str(file))

    assert HubSettings().mongo_uri.get_secret_value() == "mongodb://from-file/"


def test_variables_of_other_programs_with_the_same_ending_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/at/all.pem")
    monkeypatch.setenv("SOME_TOOL_CONFIG_FILE", "/nowhere/either")

    assert HubSettings().mongo_database == "binhyen"


def test_a_missing_secret_file_is_named_with_its_variable() -> None:
    with pytest.raises(ConfigurationError, match=r"MONGO_URI_FILE names a file that cannot be read: /no/such/file"):
        read_secret_files({"MONGO_URI_FILE": "/no/such/file"}, names={"mongo_uri"})


def test_a_secret_file_that_is_no_text_is_a_configuration_error(tmp_path: Path) -> None:
    file = tmp_path / "uri"
    file.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read_secret_files({"MONGO_URI_FILE": str(file)}, names={"mongo_uri"})


def test_a_secret_is_not_shown_when_the_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_URI", "mongodb://user:secret-word@host/")

    assert "secret-word" not in repr(HubSettings())
