"""Processes of the notifier that may die at a crash point."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from shared.crash import KILLED

ROOT = Path(__file__).resolve().parents[3]


async def run_child(module: str, *arguments: str, environment: Mapping[str, str], crash_at: str = "") -> int:
    """Run a module until it is done, or dead at the crash point; returns its exit code."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment, "CRASH_AT": crash_at},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), timeout=120)
    assert process.returncode in {0, KILLED}, output.decode()
    return process.returncode
