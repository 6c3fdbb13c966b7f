"""What an officer's answer does to a case."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.router.domain.cases import Case
from services.router.domain.plans import CaseEntry
from shared.events import OfficerReplyWritten, ReplyContent, ReplyRequested
from shared.ids import deterministic_id


@dataclass(frozen=True, slots=True)
class OfficerEffect:
    """All effects of one action.

    Attributes:
        values: fields of the case to set, once for each action.
        responded_at: the first response, if there was none before.
    """

    event_id: str
    case_id: str
    values: Mapping[str, Any]
    responded_at: datetime
    entry: CaseEntry
    reply: ReplyRequested


def officer_effect(action: OfficerReplyWritten, case: Case, now: datetime) -> OfficerEffect:
    """Answering takes the case off the queue until the citizen writes again; closing ends it."""
    values: dict[str, Any] = {"needs_person": False, "due_at": None, "closes_at": None}
    if action.closes_case:
        values |= {"state": "closed", "is_open": False, "open_key": None, "closed_at": action.occurred_at}
    elif case.is_open:
        values |= {"state": "answered_by_officer"}
    reply = ReplyRequested(
        event_id=action.event_id,  # one action, one reply: the console finds the one by the other
        occurred_at=now,
        correlation_id=action.correlation_id,
        page=case.page,
        oa_id=case.oa_id,
        user_id=case.user_id,
        user_id_by_app=case.user_id_by_app,
        case_code=case.code,
        origin="officer",
        template="officer",
        is_emergency=case.urgency == "emergency",
        content=ReplyContent(text=action.text),
        conversation_id=case.conversation_id,
        interaction_at=case.last_message_at,
    )
    entry = CaseEntry(
        entry_id=deterministic_id("entry", action.event_id, case.case_id, "officer_reply"),
        case_id=case.case_id,
        case_code=case.code,
        kind="officer_reply",
        at=action.occurred_at,
        event_id=action.event_id,
        reasons=("officer.closed",) if action.closes_case else ("officer.replied",),
        reply_id=reply.event_id,
        template="officer",
        by=action.officer,
        text=action.text,
    )
    return OfficerEffect(action.event_id, case.case_id, values, action.occurred_at, entry, reply)
