"""Small files that must survive a crash whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson


def write_atomically(path: Path, document: Any, *, durable: bool = True) -> None:
    """Replace a JSON file so that a reader sees the old or the new one, never a part; owner-readable only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(orjson.dumps(document))
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)


class DamagedFileError(Exception):
    """A file of the state folder does not hold what we once wrote; the text names it."""


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object in a file, empty if there is no such file.

    Raises:
        DamagedFileError: there is a file and it is something else.
    """
    try:
        document = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except orjson.JSONDecodeError as error:
        raise DamagedFileError(f"{path} is damaged; move it away to start without it") from error
    if not isinstance(document, dict):
        raise DamagedFileError(f"{path} is damaged; move it away to start without it")
    return document


def next_run_number(path: Path) -> int:
    """Count this start of the simulator, so that nothing numbered by run repeats after a restart."""
    run = int(read_document(path).get("run", 0)) + 1
    write_atomically(path, {"run": run})
    return run
