"""Installs the judges once: the official AsyncAPI CLI and Redocly's OpenAPI linter, pinned with hashes."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def node_tools() -> Path:
    """The folder of the installed command-line tools.

    Fails, and does not skip, where Node.js is missing: a contract nobody judged is not a judged contract.
    """
    npm = shutil.which("npm")
    if npm is None:
        pytest.fail("npm is missing; install Node.js 20 or newer (Debian: apt-get install nodejs npm)")
    stamp = HERE / "node_modules" / ".stamp"
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([npm, "ci", "--prefer-offline"], cwd=HERE, check=True, capture_output=True, text=True)
        stamp.write_text(wanted)
    return HERE / "node_modules" / ".bin"
