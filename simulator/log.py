"""Everything the simulator received and sent: bounded in memory, complete on disk, the judge of tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import orjson

_FLUSH_SECONDS = 0.2
Entry = dict[str, Any]


class Log:
    """Numbered entries. The newest are kept in memory; all go to a JSONL file in the order they happened.

    Args:
        path: the file; when it grows past `file_max_bytes` it becomes `<name>.1` and a new one starts.
        keep: how many entries stay in memory at least.
        file_max_bytes: size at which the file is set aside.
    """

    def __init__(self, path: Path, *, keep: int, file_max_bytes: int) -> None:
        self._path = path
        self._keep = keep
        self._file_max_bytes = file_max_bytes
        self._entries: list[Entry] = []
        self._dropped = 0
        self._unwritten: list[bytes] = []
        self._file: BinaryIO | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def last_seq(self) -> int:
        """Number of the newest entry; numbers start at 1 in each run."""
        return self._dropped + len(self._entries)

    @property
    def first_seq(self) -> int:
        """Number of the oldest entry still in memory."""
        return self._dropped + 1

    def add(self, entry: Entry) -> None:
        """Record one fact; the entry gets its number."""
        entry["seq"] = self.last_seq + 1
        self._entries.append(entry)
        self._unwritten.append(orjson.dumps(entry))
        # Dropping a tenth at a time keeps the cost of the bound small.
        if len(self._entries) > self._keep * 11 // 10:
            drop = len(self._entries) - self._keep
            del self._entries[:drop]
            self._dropped += drop

    def read(self, after: int, limit: int, matches: Callable[[Entry], bool]) -> tuple[list[Entry], int]:
        """Entries after a number that match, and the number to go on from."""
        found: list[Entry] = []
        position = max(0, after - self._dropped)
        while position < len(self._entries) and len(found) < limit:
            entry = self._entries[position]
            if matches(entry):
                found.append(entry)
            position += 1
        return found, self._dropped + position

    def clear(self) -> None:
        """Forget what is in memory; numbers and the file go on."""
        self._dropped += len(self._entries)
        self._entries.clear()

    def open(self) -> None:
        """Open the file and start writing in the background."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab")
        self._task = asyncio.create_task(self._flush_forever())

    async def close(self) -> None:
        """Write the rest and close the file."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def flush(self) -> None:
        """Hand what was recorded to the operating system."""
        if self._file is None or not self._unwritten:
            return
        lines, self._unwritten = self._unwritten, []
        self._file.write(b"\n".join(lines) + b"\n")
        self._file.flush()
        if self._file.tell() > self._file_max_bytes:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("ab")

    async def _flush_forever(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            self.flush()
