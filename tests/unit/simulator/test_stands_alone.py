"""The simulator is a program of its own: its packages are listed, and nothing of the hub is needed to start it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = {"yaml": "pyyaml", "pydantic_settings": "pydantic-settings", "starlette": "starlette"}


def imported() -> set[str]:
    """Top-level packages that the simulator's modules import."""
    found: set[str] = set()
    for module in (ROOT / "simulator").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"simulator"}


def locked(lock: Path) -> dict[str, str]:
    """Versions by package."""
    return dict(re.findall(r"^([a-z0-9_.\-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", lock.read_text("utf-8"), re.MULTILINE))


def test_every_package_it_imports_is_in_its_own_lock() -> None:
    lock = locked(ROOT / "simulator" / "requirements.lock")
    assert {PACKAGES.get(name, name) for name in imported()} <= lock.keys()


def test_its_versions_are_those_of_the_hub() -> None:
    lock, hub = (locked(ROOT / folder) for folder in ("simulator/requirements.lock", "requirements/runtime.lock"))
    assert {name: version for name, version in lock.items() if hub.get(name) != version} == {}


def test_it_starts_in_a_folder_that_holds_nothing_else(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "simulator", tmp_path / "simulator", ignore=shutil.ignore_patterns("__pycache__"))
    run = subprocess.run(
        [sys.executable, "-m", "simulator", "--openapi"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert '"/v3.0/oa/message/cs"' in run.stdout
