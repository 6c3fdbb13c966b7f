"""A reply in the send ledger."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shared.events import ReplyContent

ReplyState = Literal["queued", "sending", "sent", "failed", "uncertain", "abandoned"]
"""queued -> sending -> sent | failed | uncertain; sending -> queued for a proven failure; uncertain -> sent by a proof
or by the late answer itself, -> abandoned by a person."""

UNFINISHED: tuple[ReplyState, ...] = ("queued", "sending", "uncertain")
EMERGENCY, ORDINARY = 0, 1
PRIORITIES = (EMERGENCY, ORDINARY)
MAX_TEXT_CHARACTERS = 2_000


@dataclass(frozen=True)
class Reply:
    """One claimed reply: what a sender needs to know.

    Attributes:
        attempt: of this claim, counted from 1.
        failures: proven failures before this attempt.
        owner: the claim; every later update is fenced with it.
    """

    id: str
    citizen_key: str
    page: str
    oa_id: str
    app_id: str
    user_id: str
    content: ReplyContent
    conversation_id: str | None
    correlation_id: str
    traceparent: str | None
    case_code: str | None
    is_emergency: bool
    interaction_at: datetime | None
    requested_at: datetime
    attempt: int
    failures: int
    owner: str


@dataclass(frozen=True)
class Candidate:
    """A reply that may be due: what choosing needs, and no text."""

    id: str
    citizen_key: str
    oa_id: str
    app_id: str
    priority: int


@dataclass(frozen=True)
class Contact:
    """What is known of a citizen at the moment of sending."""

    last_interaction_at: datetime | None = None
    withdrawn_at: datetime | None = None


def composed(content: ReplyContent) -> ReplyContent:
    """The content with its texts in NFC: decomposed Vietnamese is a quarter longer, and Zalo counts characters."""
    return content.model_copy(update={"text": unicodedata.normalize("NFC", content.text)})
