import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from stack import bootstrap


@pytest.fixture
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """A checkout without .venv; commands are noted instead of run."""
    commands: list[tuple[str, ...]] = []

    def note(*command: str) -> None:
        commands.append(command)
        (tmp_path / ".venv").mkdir(exist_ok=True)

    for name, path in {"VENV": ".venv", "PYTHON": ".venv/bin/python", "STAMP": ".venv/.synced"}.items():
        monkeypatch.setattr(bootstrap, name, tmp_path / path)
    monkeypatch.setattr(bootstrap, "_run", note)
    return commands


def test_packages_are_installed_by_their_hashes(in_a_new_folder: list[tuple[str, ...]]) -> None:
    bootstrap.main()
    installs = [command for command in in_a_new_folder if "install" in command or "sync" in command]
    assert len(installs) == 2
    assert all("--require-hashes" in command for command in installs)


def test_unchanged_locks_install_nothing(
    in_a_new_folder: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap.main()
    in_a_new_folder.clear()
    monkeypatch.setattr(bootstrap, "_works", lambda: True)
    bootstrap.main()
    assert in_a_new_folder == []


def test_an_environment_that_was_moved_away_from_its_python_is_made_again(
    in_a_new_folder: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap.main()
    in_a_new_folder.clear()
    monkeypatch.setattr(bootstrap, "_works", lambda: False)
    bootstrap.main()
    assert any("venv" in command for command in in_a_new_folder)


def test_an_old_python_without_a_newer_one_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(SystemExit):
        bootstrap.main()
    printed = capsys.readouterr().err
    assert "Python 3.9 is too old" in printed
    assert "PYTHON=" in printed


def test_an_old_python_hands_over_to_a_newer_one_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name == "python3.12" else None)

    def take_over(path: str, arguments: list[str]) -> None:
        started.append((path, arguments))
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", take_over)
    with pytest.raises(SystemExit):
        bootstrap.main()
    assert started[0][0] == "/usr/bin/python3.12"


def test_a_python_without_venv_is_told_which_package_has_it(
    in_a_new_folder: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else find(name))
    with pytest.raises(SystemExit):
        bootstrap.main()
    assert "python3-venv" in capsys.readouterr().err
    assert in_a_new_folder == []
