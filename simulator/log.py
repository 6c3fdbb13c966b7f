"""Everything the simulator received and sent: bounded in memory, complete on disk, the judge of tests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, BinaryIO

import orjson

_FLUSH_SECONDS = 0.2


class Log:
    """Numbered entries, kept as JSON lines: the newest in memory, all in a file, in the order they happened.

    Args:
        path: the file; when it grows past `file_max_bytes` it becomes `<name>.1` and a new one starts.
        keep: how many entries stay in memory at least.
        file_max_bytes: size at which the file is set aside.
    """

    def __init__(self, path: Path, *, keep: int, file_max_bytes: int) -> None:
        self._path = path
        self._keep = keep
        self._file_max_bytes = file_max_bytes
        self._lines: list[bytes] = []
        self._dropped = 0
        self._unwritten: list[bytes] = []
        self._file: BinaryIO | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def last_seq(self) -> int:
        """Number of the newest entry; numbers start at 1 in each run."""
        return self._dropped + len(self._lines)

    @property
    def first_seq(self) -> int:
        """Number of the oldest entry still in memory."""
        return self._dropped + 1

    def add(self, **entry: Any) -> None:
        """Record one fact under the next number."""
        # orjson's own buffer is many times longer than the text: keep an exact copy.
        line = bytes(memoryview(orjson.dumps({"seq": self.last_seq + 1, **entry})))
        self._lines.append(line)
        if self._file is not None:
            self._unwritten.append(line)
        # Dropping a tenth at a time keeps the cost of the bound small.
        if len(self._lines) > self._keep * 11 // 10:
            drop = len(self._lines) - self._keep
            del self._lines[:drop]
            self._dropped += drop

    def read(
        self, after: int = 0, limit: int = 1000, *, any_id: str | None = None, **wanted: str | None
    ) -> tuple[list[bytes], int]:
        """Entries after a number as JSON, and the number to go on from.

        Args:
            after: number of the last entry already known.
            limit: how many entries at most.
            any_id: a message id; matches it in webhooks (msg_id) and API calls (message_id).
            wanted: members with the text they must have; None does not filter.
        """
        # A quote inside a JSON string is escaped, so these bytes can only be the member itself.
        needles = [_member(name, value) for name, value in wanted.items() if value is not None]
        either = [_member("msg_id", any_id), _member("message_id", any_id)] if any_id is not None else []
        found: list[bytes] = []
        position = max(0, after - self._dropped)
        while position < len(self._lines) and len(found) < limit:
            line = self._lines[position]
            position += 1
            if all(needle in line for needle in needles) and (not either or either[0] in line or either[1] in line):
                found.append(line)
        return found, self._dropped + position

    def clear(self) -> None:
        """Forget what is in memory; numbers and the file go on."""
        self._dropped += len(self._lines)
        self._lines.clear()

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


def _member(name: str, value: str) -> bytes:
    return orjson.dumps({name: value})[1:-1]
