"""Follow the programs' logs, each line with the name of its program, across rotations and restarts."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from rich.text import Text

from stack.errors import StackError
from stack.supervision import Supervisor
from stack.terminal import Terminal

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")
LINES_BEFORE = 10
PAUSE_SECONDS = 0.3


class _Followed:
    """One log file, opened again when supervisord has rotated it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._rest = ""

    def new_lines(self) -> Iterator[str]:
        """Whole lines written since the last call; at the first call the last few."""
        if self._file is None:
            try:
                self._file = self._path.open(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                return
            yield from self._file.read().splitlines()[-LINES_BEFORE:]
            return
        yield from self._read()
        try:
            rotated = self._path.stat().st_ino != _inode(self._file) or self._path.stat().st_size < self._file.tell()
        except FileNotFoundError:
            return
        if rotated:
            self._file.close()
            self._file = self._path.open(encoding="utf-8", errors="replace")
            yield from self._read()

    def _read(self) -> Iterator[str]:
        assert self._file is not None  # noqa: S101 - for the type checker; new_lines() has opened it
        *whole, self._rest = (self._rest + self._file.read()).split("\n")
        yield from whole


def follow(supervisor: Supervisor, names: Sequence[str], terminal: Terminal) -> None:
    """Print what the programs log until interrupted.

    Args:
        supervisor: knows where the logs are.
        names: programs; empty means all.
        terminal: where to print.

    Raises:
        StackError: there is no such log.
    """
    known = sorted(path.stem for path in supervisor.logs.glob("*.log"))
    unknown = [name for name in names if name not in known]
    if unknown or not known:
        raise StackError(
            "no_such_log",
            f"No log of {', '.join(unknown) or 'any program'} in {supervisor.logs}.",
            f"There are: {', '.join(known)}." if known else "Start the hub first: make up",
        )
    wanted = list(names) or known
    width = max(map(len, wanted))
    followed = {name: _Followed(supervisor.log_file(name)) for name in wanted}
    while True:
        quiet = True
        for number, (name, file) in enumerate(followed.items()):
            for line in file.new_lines():
                terminal.console.print(Text(f"{name:<{width}} | ", style=COLOURS[number % len(COLOURS)]) + Text(line))
                quiet = False
        if quiet:
            time.sleep(PAUSE_SECONDS)


def _inode(file: IO[str]) -> int:
    return os.fstat(file.fileno()).st_ino
