"""Files that let one process at a time do something; the system frees them when their holder dies."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stack.terminal import Terminal


@contextmanager
def only_one(file: Path, terminal: Terminal, waiting_for: str) -> Iterator[None]:
    """Hold the lock `file`; whoever comes second is told what it waits for.

    The file itself stays: deleting it would let a third process lock a new file of the same name.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with terminal.step(f"waiting for {waiting_for}"):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
