"""Make `.venv` from the locks: the part that runs on a bare Python, so it uses the standard library only.

Nothing newer than Python 3.6 is used here, so that an old Python reads this file and prints a sentence of help.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

OLDEST = (3, 11)
NEWER = ("python3.14", "python3.13", "python3.12", "python3.11")
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV_LOCK, DEV_LOCK = ROOT / "requirements" / "uv.lock", ROOT / "requirements" / "dev.lock"
STAMP = VENV / ".synced"


def main() -> None:
    """Make or update the environment; does nothing when the locks have not changed since the last time."""
    if sys.version_info[:2] < OLDEST:
        _try_a_newer_python()
    with DEV_LOCK.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once: the second waits and finds it done
        wanted = hashlib.sha256(UV_LOCK.read_bytes() + lock.read()).hexdigest()
        if STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted and _works():
            return
        started = time.monotonic()
        if not _works():
            _make_venv()
        _say("  … installing the packages of requirements/dev.lock")
        pip = (str(PYTHON), "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")
        _run(*pip, "install", "--require-hashes", "-r", str(UV_LOCK))
        uv = (str(VENV / "bin" / "uv"), "--quiet", "pip", "sync", "--require-hashes", "--python", str(PYTHON))
        _run(*uv, str(UV_LOCK), str(DEV_LOCK))
        STAMP.write_text(wanted, encoding="utf-8")
        _say(f"  ✓ .venv is ready ({time.monotonic() - started:.1f} s)")


def _try_a_newer_python() -> None:
    for name in NEWER:
        newer = shutil.which(name)
        if newer:
            os.execv(newer, [newer, *sys.argv])  # noqa: S606 - no shell is wanted
    _give_up(
        f"Python {sys.version_info[0]}.{sys.version_info[1]} is too old: the hub needs 3.11 or newer.",
        "Install one (Debian 12: apt-get install python3 python3-venv) or name it: make up PYTHON=/path/to/python3.11",
    )


def _make_venv() -> None:
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        _give_up(
            f"This Python ({sys.executable}) comes without the module {' and '.join(missing)}.",
            "Debian and Ubuntu keep it in a package of its own: apt-get install python3-venv",
        )
    _say(f"  … creating .venv with Python {sys.version.split()[0]}")
    shutil.rmtree(str(VENV), ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(VENV))


def _works() -> bool:
    """Whether .venv has a Python that starts and is new enough; a moved or half-made one does not."""
    code = "import sys; sys.exit(sys.version_info[:2] < (3, 11))"
    try:
        return subprocess.call([str(PYTHON), "-c", code], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def _run(*command: str) -> None:
    code = subprocess.call(command)
    if code != 0:
        _give_up(
            f"This command failed (exit code {code}): {' '.join(command)}",
            "Its own words are above. Packages come from the Python package index: check the network, a proxy "
            "(HTTPS_PROXY), the index that pip is set to (pip config list) and the free space; then run it again.",
        )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _give_up(message: str, advice: str) -> None:
    sys.stderr.write(f"✗ {message}\n  {advice}\n")
    sys.exit(1)


if __name__ == "__main__":
    main()
