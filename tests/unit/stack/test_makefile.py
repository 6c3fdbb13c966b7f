"""The Makefile is the door for people, so its list of targets must be whole and true."""

import re
import shutil
import subprocess

import pytest

from stack.settings import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
MAKE = shutil.which("make") or "make"
PROMISED = {"help", "up", "down", "reset", "logs", "status", "scale", "dev", "smoke", "test", "check"}


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MAKE, "--no-print-directory", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_make_alone_lists_every_target() -> None:
    phony = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())  # type: ignore[index]
    listed = set(re.findall(r"^  make (\S+)", make().stdout, re.MULTILINE))
    assert listed == phony
    assert listed >= PROMISED


def test_a_count_given_to_make_reaches_the_stack() -> None:
    recipe = make("--dry-run", "scale", "notifier=2", "router=3").stdout
    assert "stack scale router=3 notifier=2" in " ".join(recipe.split())


def test_an_environment_variable_is_not_taken_for_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("router", "asus")
    assert "asus" not in make("--dry-run", "scale", "notifier=2").stdout


def test_a_python_that_is_not_there_is_told_in_a_sentence() -> None:
    finished = make("venv", "PYTHON=python-of-tomorrow")
    assert finished.returncode != 0
    assert "There is no python-of-tomorrow on the PATH" in finished.stderr
