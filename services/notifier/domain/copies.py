"""Copies of a broadcast: what one person of the audience gets, and what became of it. Pure.

The audience is cut into slices of the space of person hashes; what a slice holds is a chunk. Slices are a function of
their number, so two builders make the same ones, and reading one needs bounds and no position.

Source: docs/architecture/broadcasts.md.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from services.notifier.domain.audience import NOBODY, Had
from services.notifier.domain.lanes import Lane, Policy
from services.notifier.domain.next_step import Fail, Park, Sent, Step, TryAgain
from shared.ids import ID_LENGTH, deterministic_id

CopyState = Literal["queued", "sending", "sent", "failed", "uncertain", "skipped"]
"""queued -> sending -> sent | failed | uncertain | skipped; sending -> queued for a proven failure; uncertain -> sent
by a proof or by the late answer itself. A person without a row yet is queued, or sending: then the wave names them."""

CHUNK_CONTACTS = 8_000
"""Contacts read at once for a chunk of an audience that is a small part of all."""
_SPACE = 16**ID_LENGTH


@dataclass(frozen=True, slots=True)
class Slice:
    """Persons from `first` on and before `end`."""

    number: int
    first: str
    end: str


def slice_count(*, contacts: int, expected: int, persons: int) -> int:
    """Into how many slices to cut an audience.

    Args:
        contacts: how many there are in all, roughly.
        expected: people of the audience, roughly; 0 where nobody counted them.
        persons: of a chunk on average; slices of hashes differ by some ten percent.
    """
    return max(1, -(-(expected or contacts) // persons), -(-contacts // CHUNK_CONTACTS))


def slice_of(number: int, count: int) -> Slice:
    """The slice of this number, from 0, of so many."""
    return Slice(number, _bound(number, count), _bound(number + 1, count))


def _bound(number: int, count: int) -> str:
    # "g" is behind every hex digit: the last slice holds all that is left.
    return "g" if number == count else format(_SPACE * number // count, f"0{ID_LENGTH}x")


def copy_id(broadcast_id: str, person: str) -> str:
    """The one id that a person's copy of a broadcast can have."""
    return deterministic_id("copy", broadcast_id, person)


def chunk_digest(persons: Sequence[str]) -> str:
    """Names exactly these persons, in order."""
    return hashlib.sha256("\n".join(persons).encode()).hexdigest()


def audience_digest(chunk_digests: Iterable[str]) -> str:
    """Names exactly the persons of all chunks, in the order of their numbers."""
    return hashlib.sha256("\n".join(chunk_digests).encode()).hexdigest()


@dataclass(frozen=True)
class NewChunk:
    """The persons of one slice whom the audience means."""

    broadcast_id: str
    part: Slice
    persons: tuple[str, ...]


@dataclass(frozen=True)
class Chunk:
    """A chunk in one worker's hands.

    Attributes:
        owner: the claim; each wave, and all that follows, is fenced with it.
    """

    id: str
    broadcast_id: str
    part: Slice
    persons: tuple[str, ...]
    owner: str


@dataclass(frozen=True, slots=True)
class Row:
    """What the ledger knows of one person's copy."""

    person: str
    state: CopyState
    attempt: int
    failures: int
    due_at: datetime | None
    requested_at: datetime


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy that is about to be sent.

    Attributes:
        keys: all contacts of the person, for the caps over all pages.
        attempt: counted from 1; beyond 1 there is a row already.
        requested_at: when its first attempt was marked.
    """

    person: str
    citizen_key: str
    page: str
    oa_id: str
    user_id: str
    lane: Lane
    keys: tuple[str, ...]
    attempt: int
    failures: int
    requested_at: datetime
    phone: str | None = None


@dataclass(frozen=True)
class Wave:
    """Copies that are called at once. Named in their chunk before the calls; that is the mark of each of them.

    Attributes:
        text_sha256: of their one text, by which echoes are recognised.
        marked_at: by the database's clock.
    """

    copies: tuple[Copy, ...]
    text_sha256: str
    marked_at: datetime


@dataclass(frozen=True, slots=True)
class Skip:
    """Somebody of the audience who gets nothing, and why."""

    person: str
    citizen_key: str | None
    page: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """Marked, and given up before any call."""

    reason: str


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What one attempt came to."""

    copy: Copy
    step: Step | Skipped
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Recent:
    """Other broadcasts of a person: those they have or may have, and those that are being sent at this moment."""

    had: Had = NOBODY
    pending: int = 0


@dataclass(frozen=True)
class Counts:
    """How many persons are in which state, and why; `queued` includes those without a row."""

    states: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far a broadcast is. The states add up to the people.

    Attributes:
        in_flight: marked and not recorded: with Zalo at this moment, or a dead sender's.
        reasons: by state and reason.
    """

    people: int
    chunks: int
    chunks_done: int
    states: Mapping[CopyState, int]
    reasons: Mapping[tuple[str, str], int]

    @property
    def in_flight(self) -> int:
        """Copies of which the outcome is not written down yet."""
        return self.states.get("sending", 0)


def undecided(chunk: Chunk, rows: Mapping[str, Row]) -> list[str]:
    """Persons of a chunk who may still get their copy; `rows` by person."""
    return [person for person in chunk.persons if person not in rows or rows[person].state == "queued"]


def state_after(step: Step | Skipped) -> CopyState:
    """The state that an outcome leads to."""
    match step:
        case Sent():
            return "sent"
        case TryAgain():
            return "queued"
        case Fail():
            return "failed"
        case Park():
            return "uncertain"
        case Skipped():
            return "skipped"


def total(parts: Iterable[Counts]) -> Counts:
    """Counts of several chunks together."""
    states, reasons = Counter[str](), Counter[tuple[str, str]]()
    for part in parts:
        states.update(part.states)
        reasons.update(part.reasons)
    return Counts(states, reasons)


Verdict = Literal["send", "capped", "wait"]


def cap_verdict(recent: Recent, policy: Policy) -> tuple[Verdict, str]:
    """Whether a marked copy may go, with the caps over all pages in mind.

    Both of two broadcasts mark a person before they look at each other, so at least one sees the other's mark. Who
    sees a mark without an outcome waits for it: two at once wait for each other once, and never both send.
    """
    had, pending = recent.had, recent.pending
    if had.in_a_day >= policy.a_day:
        return "capped", "cap.day"
    if had.in_a_week >= policy.a_week:
        return "capped", "cap.week"
    if had.in_a_day + pending >= policy.a_day or had.in_a_week + pending >= policy.a_week:
        return "wait", "cap.pending"
    return "send", ""
