"""The recipient ledger in memory; held to the real one by the conformance suite."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from services.notifier.adapters.recipient_ledger import LISTED
from services.notifier.domain.audience import ContactView, Had, Terms, matches
from services.notifier.domain.copies import (
    Chunk,
    Copy,
    CopyResult,
    CopyState,
    Counts,
    NewChunk,
    Progress,
    Recent,
    Row,
    Skip,
    Skipped,
    Wave,
    chunk_digest,
    copy_id,
    state_after,
)
from services.notifier.domain.next_step import Fail, Park, Sent, TryAgain
from services.notifier.domain.settlement import NOT_SENT, OpenSend, Proof
from services.notifier.handlers.ports import Clock
from shared.errors import StoreUnavailable

DAY, WEEK = timedelta(days=1), timedelta(days=7)
STATES: tuple[CopyState, ...] = ("queued", "sending", "sent", "failed", "uncertain", "skipped")


@dataclass
class FakeRow:
    """One person's copy; also one that is under way, which the real ledger keeps in its chunk."""

    broadcast_id: str
    chunk: int
    person: str
    citizen_key: str | None
    state: CopyState
    owner: str
    attempt: int
    marked_at: datetime
    requested_at: datetime
    failures: int = 0
    reason: str | None = None
    due_at: datetime | None = None
    text_sha256: str = ""
    lane: str = ""
    message_id: str | None = None
    checks: int = 0
    settled_by: str | None = None
    moments: dict[str, datetime] = field(default_factory=dict)


@dataclass
class FakeChunk:
    """One chunk with its lease."""

    new: NewChunk
    due_at: datetime
    state: Literal["open", "done"] = "open"
    owner: str | None = None


class FakeCopies:
    """Chunks and rows.

    Attributes:
        outages: how many of the next calls fail; `True` applies the call first.
    """

    def __init__(self, clock: Clock, *, lease: timedelta) -> None:
        self.rows: dict[str, FakeRow] = {}
        self.chunks: dict[tuple[str, int], FakeChunk] = {}
        self.slices: dict[str, int] = {}
        self.outages: list[bool] = []
        self._clock = clock
        self._lease = lease

    async def _fail_before(self) -> bool:
        await asyncio.sleep(0)
        if not self.outages:
            return False
        if not self.outages.pop(0):
            raise StoreUnavailable("before")
        return True

    @staticmethod
    def _fail_after(fails: bool) -> None:
        if fails:
            raise StoreUnavailable("after")

    async def agree_on_slices(self, broadcast_id: str, wanted: int) -> int:
        return self.slices.setdefault(broadcast_id, wanted)

    async def add_chunks(self, chunks: Sequence[NewChunk]) -> None:
        for chunk in chunks:
            state: Literal["open", "done"] = "open" if chunk.persons else "done"
            self.chunks.setdefault(
                (chunk.broadcast_id, chunk.part.number), FakeChunk(chunk, self._clock.now(), state=state)
            )

    async def built(self, broadcast_id: str) -> dict[int, tuple[int, str]]:
        return {
            number: (len(chunk.new.persons), chunk_digest(chunk.new.persons))
            for (of, number), chunk in self.chunks.items()
            if of == broadcast_id
        }

    async def claim_chunk(self, broadcast_id: str, *, owner: str) -> Chunk | None:
        fails = await self._fail_before()
        now = self._clock.now()
        for (of, number), chunk in self.chunks.items():
            if of == broadcast_id and chunk.state == "open" and chunk.due_at <= now:
                chunk.owner, chunk.due_at = owner, now + self._lease
                new = chunk.new
                claimed = Chunk(f"{of}:{number}", of, new.part, new.persons, owner)
                self._leave_uncertain(self._of_chunk(claimed))
                self._fail_after(fails)
                return claimed
        return None

    def _mine(self, chunk: Chunk) -> FakeChunk | None:
        known = self.chunks[chunk.broadcast_id, chunk.part.number]
        return known if known.owner == chunk.owner and known.state == "open" else None

    def _of_chunk(self, chunk: Chunk) -> list[FakeRow]:
        return [
            row
            for row in self.rows.values()
            if (row.broadcast_id, row.chunk) == (chunk.broadcast_id, chunk.part.number)
        ]

    def _leave_uncertain(self, rows: Iterable[FakeRow]) -> None:
        for row in rows:
            if row.state == "sending":
                row.state, row.reason = "uncertain", "send.lease_expired"
                row.checks, row.due_at = 0, self._clock.now()

    async def rows_of(self, chunk: Chunk) -> list[Row]:
        self._fail_after(await self._fail_before())
        return [
            Row(row.person, row.state, row.attempt, row.failures, row.due_at, row.requested_at)
            for row in self._of_chunk(chunk)
        ]

    async def renew(self, chunk: Chunk, counts: Counts) -> bool:  # noqa: ARG002 - counters are counted when asked
        fails = await self._fail_before()
        if known := self._mine(chunk):
            known.due_at = self._clock.now() + self._lease
        self._fail_after(fails)
        return known is not None

    async def release(self, chunk: Chunk, *, due_at: datetime | None) -> bool:
        fails = await self._fail_before()
        known = self._mine(chunk)
        if known is not None:
            known.owner = None
            rows = self._of_chunk(chunk)
            if due_at is None and (len(rows) < len(chunk.persons) or any(row.state == "queued" for row in rows)):
                due_at = self._clock.now()
            known.state = "done" if due_at is None else "open"
            known.due_at = due_at or known.due_at
        self._fail_after(fails)
        return known is not None

    async def recount_unsettled(self, *, limit: int = 50) -> int:  # noqa: ARG002 - nothing is stored
        return 0

    async def skip(self, chunk: Chunk, skips: Sequence[Skip], *, now: datetime) -> None:
        for skip in skips:
            row_id = copy_id(chunk.broadcast_id, skip.person)
            known = self.rows.get(row_id)
            if known is None:
                self.rows[row_id] = FakeRow(
                    *(chunk.broadcast_id, chunk.part.number, skip.person, skip.citizen_key, "skipped", chunk.owner),
                    *(0, now, now),
                    reason=skip.reason,
                )
            elif known.state == "queued":
                known.state, known.reason = "skipped", skip.reason

    async def mark_wave(self, chunk: Chunk, wave: Wave, counts: Counts) -> bool:  # noqa: ARG002
        fails = await self._fail_before()
        known = self._mine(chunk)
        if known is not None:
            known.due_at = self._clock.now() + self._lease
            for copy in wave.copies:
                self._mark(chunk, copy, wave)
        self._fail_after(fails)
        return known is not None

    def _mark(self, chunk: Chunk, copy: Copy, wave: Wave) -> None:
        row_id = copy_id(chunk.broadcast_id, copy.person)
        row = self.rows.get(row_id)
        if row is None:
            row = self.rows[row_id] = FakeRow(
                *(chunk.broadcast_id, chunk.part.number, copy.person, copy.citizen_key, "sending", chunk.owner),
                *(copy.attempt, wave.marked_at, wave.marked_at),
            )
        row.state, row.owner, row.attempt, row.marked_at = "sending", chunk.owner, copy.attempt, wave.marked_at
        row.citizen_key, row.lane, row.text_sha256 = copy.citizen_key, copy.lane, wave.text_sha256

    async def record(self, chunk: Chunk, wave: Wave, results: Sequence[CopyResult]) -> None:  # noqa: ARG002
        fails = await self._fail_before()
        for result in results:
            self._record(chunk, result)
        self._fail_after(fails)

    def _record(self, chunk: Chunk, result: CopyResult) -> None:
        row = self.rows[copy_id(chunk.broadcast_id, result.copy.person)]
        allowed = {"sending", "uncertain"} if isinstance(result.step, Sent) else {"sending"}
        if row.owner != chunk.owner or row.attempt != result.copy.attempt or row.state not in allowed:
            return
        row.state = state_after(result.step)
        match result.step:
            case Sent(message_id):
                row.reason = None
                if message_id is not None and not self._owner_of(message_id):
                    row.message_id = message_id
            case TryAgain(at, reason, failures):
                row.due_at, row.reason, row.failures = at, reason, failures
            case Fail(reason) | Skipped(reason):
                row.reason = reason
            case Park(reason):
                row.reason, row.checks, row.due_at = reason, 0, result.ended_at

    def _owner_of(self, message_id: str) -> FakeRow | None:
        return next((row for row in self.rows.values() if row.message_id == message_id), None)

    def _marked(self, keys: Iterable[str], now: datetime) -> list[FakeRow]:
        wanted = set(keys)
        return [
            row
            for row in self.rows.values()
            if row.citizen_key in wanted
            and row.marked_at > now - WEEK
            and (row.state in {"sending", "sent", "uncertain"} or row.reason == "send.abandoned")
        ]

    async def recent(self, copies: Sequence[Copy], *, broadcast_id: str, now: datetime) -> dict[str, Recent]:
        found = {}
        for copy in copies:
            others = [row for row in self._marked(copy.keys, now) if row.broadcast_id != broadcast_id]
            certain = [row for row in others if row.state != "sending"]
            if others:
                had = Had(sum(row.marked_at > now - DAY for row in certain), len(certain))
                found[copy.person] = Recent(had, len(others) - len(certain))
        return found

    async def had(self, keys_by_person: Mapping[str, Sequence[str]], *, now: datetime) -> dict[str, Had]:
        found = {}
        for person, keys in keys_by_person.items():
            if rows := self._marked(keys, now):
                found[person] = Had(sum(row.marked_at > now - DAY for row in rows), len(rows))
        return found

    # Settling

    async def open_sends(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        return self._sends(citizen_keys, lambda row: row.state in ("sending", "uncertain"))

    async def uncertain(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        return self._sends(citizen_keys, lambda row: row.state == "uncertain")

    async def nameless(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        return self._sends(citizen_keys, lambda row: row.state == "sent" and row.message_id is None)

    def _sends(self, citizen_keys: Iterable[str], is_wanted: Callable[[FakeRow], bool]) -> list[OpenSend]:
        wanted = set(citizen_keys)
        return [
            OpenSend(
                row_id,
                row.citizen_key,
                row.text_sha256,
                row.marked_at,
                row.attempt,
                row.state,  # type: ignore[arg-type]
                row.requested_at,
                row.lane in LISTED,
            )
            for row_id, row in self.rows.items()
            if row.citizen_key in wanted and row.citizen_key is not None and is_wanted(row)
        ]

    async def owned(self, message_ids: Iterable[str]) -> set[str]:
        return {message_id for message_id in message_ids if self._owner_of(message_id)}

    async def settle(self, send: OpenSend, proof: Proof) -> bool:
        row = self.rows[send.id]
        if row.state != "uncertain" or row.attempt != send.attempt or self._owner_of(proof.message_id):
            return False
        row.state, row.reason, row.message_id, row.settled_by = "sent", None, proof.message_id, proof.kind
        return True

    async def not_taken(self, send: OpenSend, step: TryAgain | Fail, *, now: datetime) -> bool:
        row = self.rows[send.id]
        if row.state != "uncertain" or row.attempt != send.attempt:
            return False
        row.reason, row.settled_by = step.reason, "not_listed"
        if isinstance(step, Fail):
            row.state = "failed"
            return True
        row.state, row.due_at = "queued", step.at
        chunk = self.chunks[row.broadcast_id, row.chunk]
        if chunk.state == "done":
            chunk.state, chunk.due_at, chunk.owner = "open", now, None
        return True

    async def let_go(self, finished: Sequence[str], citizen_keys: Iterable[str], *, now: datetime) -> None:
        """Nothing waits behind a copy."""

    async def uncertain_due(self, *, now: datetime, limit: int) -> dict[str, tuple[str, int]]:
        due = [
            (row_id, (row.citizen_key or "", row.checks))
            for row_id, row in self.rows.items()
            if row.state == "uncertain" and row.due_at is not None and row.due_at <= now
        ]
        return dict(due[:limit])

    async def check_again(self, at: Mapping[str, tuple[int, datetime]]) -> None:
        for row_id, (checks, due_at) in at.items():
            if self.rows[row_id].state == "uncertain":
                self.rows[row_id].checks, self.rows[row_id].due_at = checks, due_at

    async def mark(self, reports: Mapping[str, Mapping[str, datetime]]) -> set[str]:
        known = set()
        for message_id, moments in reports.items():
            if row := self._owner_of(message_id):
                known.add(message_id)
                for kind, at in moments.items():
                    if kind != "echo":
                        row.moments[kind] = min(at, row.moments.get(kind, at))
        return known

    async def delivered(self, moments: Mapping[str, datetime]) -> dict[str, str]:
        citizens = {row_id: self.rows[row_id].citizen_key or "" for row_id in moments if row_id in self.rows}
        self._leave_uncertain(self.rows[row_id] for row_id in citizens)
        for row_id in citizens:
            row = self.rows[row_id]
            row.moments["received"] = min(moments[row_id], row.moments.get("received", moments[row_id]))
        return citizens

    async def abandon(self, broadcast_id: str, person: str, *, by: str, now: datetime) -> bool:  # noqa: ARG002
        row = self.rows.get(copy_id(broadcast_id, person))
        if row is None or row.state != "uncertain":
            return False
        row.state, row.reason = "failed", "send.abandoned"
        return True

    async def settle_by_person(
        self,
        broadcast_id: str,
        person: str,
        *,
        is_sent: bool,
        by: str,  # noqa: ARG002
        now: datetime,  # noqa: ARG002
    ) -> bool:
        row = self.rows.get(copy_id(broadcast_id, person))
        if row is None or row.state != "uncertain":
            return False
        row.state, row.reason = ("sent", None) if is_sent else ("failed", NOT_SENT)
        row.settled_by = "person"
        return True

    # Looking

    async def in_state(self, broadcast_id: str, state: CopyState, *, limit: int) -> list[dict[str, Any]]:
        found = [row for row in self.rows.values() if (row.broadcast_id, row.state) == (broadcast_id, state)]
        return [vars(row) for row in found[:limit]]

    async def of_person(self, person: str, broadcast_ids: Iterable[str]) -> list[dict[str, Any]]:
        row_ids = [copy_id(broadcast_id, person) for broadcast_id in broadcast_ids]
        return [vars(self.rows[row_id]) for row_id in row_ids if row_id in self.rows]

    async def progress(self, broadcast_id: str) -> Progress:
        chunks = [chunk for (of, _), chunk in self.chunks.items() if of == broadcast_id]
        rows = [row for row in self.rows.values() if row.broadcast_id == broadcast_id]
        people = sum(len(chunk.new.persons) for chunk in chunks)
        states = Counter[CopyState](row.state for row in rows)
        states["queued"] += people - len(rows)
        return Progress(
            people=people,
            chunks=len(chunks),
            chunks_done=sum(chunk.state == "done" for chunk in chunks),
            states={state: states[state] for state in STATES},
            reasons=Counter((row.state, row.reason) for row in rows if row.reason),
        )

    async def with_open_chunks(self) -> set[str]:
        return {of for (of, _), chunk in self.chunks.items() if chunk.state == "open"}

    async def next_due(self, broadcast_id: str) -> datetime | None:
        due = [chunk.due_at for (of, _), chunk in self.chunks.items() if of == broadcast_id and chunk.state == "open"]
        return min(due, default=None)


class FakeAudience:
    """Contacts by person."""

    def __init__(self) -> None:
        self.contacts: dict[str, list[ContactView]] = {}

    async def size(self) -> int:
        return sum(map(len, self.contacts.values()))

    async def in_slice(self, lower: str, upper: str) -> list[list[ContactView]]:
        return [contacts for person, contacts in sorted(self.contacts.items()) if lower <= person < upper]

    async def meant_in_slice(self, lower: str, upper: str, terms: Terms) -> list[str]:
        people = await self.in_slice(lower, upper)
        return [contacts[0].person for contacts in people if any(matches(one, terms) for one in contacts)]
