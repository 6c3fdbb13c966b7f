"""One thought in several bubbles: what a citizen sends within a minute is read together.

A later bubble may make the matter more serious or name the ward; it never makes it less.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.router.domain.understanding import PRECEDENCE, Category, Reading
from shared.events import CitizenMessageReceived, Coordinates

TOGETHER = timedelta(seconds=60)
MAX_PIECES = 8
MAX_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class Piece:
    """A message of the last minute, as it was decided."""

    event_id: str
    citizen_key: str
    sent_at: datetime
    text: str
    category: Category
    location: Coordinates | None = None
    case_id: str | None = None


def pieces_before(message: CitizenMessageReceived, heard: Iterable[Piece]) -> tuple[Piece, ...]:
    """What the same citizen sent in the minute before, in order; the newest ones where there are many."""
    near = [
        piece
        for piece in heard
        if piece.event_id != message.event_id
        and piece.citizen_key == message.citizen_key
        and message.sent_at - TOGETHER < piece.sent_at <= message.sent_at
    ]
    return tuple(sorted(near, key=lambda p: (p.sent_at, p.event_id))[-MAX_PIECES:])


def joined(message: CitizenMessageReceived, pieces: Sequence[Piece]) -> CitizenMessageReceived:
    """The message with what was written and shared before it; the newest part is never cut."""
    before = "\n".join(piece.text for piece in pieces if piece.text)
    room = max(0, MAX_CHARACTERS - len(message.text))
    text = f"{before[-room:]}\n{message.text}" if before and room else message.text
    location = message.location or next((p.location for p in reversed(pieces) if p.location is not None), None)
    return message.model_copy(update={"text": text, "location": location})


def read_together(alone: Reading, together: Reading, pieces: Sequence[Piece]) -> Reading:
    """Choose between a bubble alone and all of them together.

    Args:
        alone: the reading of the newest bubble.
        together: the reading of all of them.
        pieces: the earlier ones.
    """
    if alone.cancels or alone.asks_for_person or together.cancels or together.category in {"greeting", "other"}:
        return alone
    parts = (alone.category, *(piece.category for piece in pieces))
    is_more = PRECEDENCE.index(together.category) < min(PRECEDENCE.index(part) for part in parts)
    continues = alone.category == "other" and not alone.topics
    if not (is_more or continues):
        return alone
    return replace(
        together,
        accuses_staff=together.accuses_staff or alone.accuses_staff,
        reasons=(*together.reasons, "reading.in_pieces"),
    )
