"""What an officer's decision does to a case."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.router.domain.cases import Case
from services.router.domain.deadlines import ServiceLevels
from services.router.domain.plans import CaseEntry
from shared.events import OfficerActed, ReplyContent, ReplyRequested
from shared.ids import deterministic_id

_REASONS = {
    "reply": "officer.replied",
    "hand_over": "officer.handed_over",
    "close": "officer.closed",
    "reopen": "officer.reopened",
    "correct": "officer.corrected",
}


@dataclass(frozen=True, slots=True)
class OfficerEffect:
    """All effects of one action.

    Attributes:
        values: fields of the case to set, once for each action.
        responded_at: when the citizen got an officer's answer, if this is one; the first stays.
        reply: what the citizen is sent.
    """

    event_id: str
    case_id: str
    values: Mapping[str, Any]
    responded_at: datetime | None
    entry: CaseEntry
    reply: ReplyRequested | None


def officer_effect(action: OfficerActed, case: Case, levels: ServiceLevels, now: datetime) -> OfficerEffect:
    """Decide what follows an officer's decision. A correction never makes an emergency less urgent by itself."""
    is_reply = action.action == "reply"
    values = _values(action, case, levels)
    reply = _reply(action, case, now) if is_reply else None
    return OfficerEffect(
        event_id=action.event_id,
        case_id=case.case_id,
        values=values,
        responded_at=action.occurred_at if is_reply else None,
        entry=CaseEntry(
            entry_id=deterministic_id("entry", action.event_id, case.case_id, f"officer_{action.action}"),
            case_id=case.case_id,
            case_code=case.code,
            kind=f"officer_{action.action}",
            at=action.occurred_at,
            event_id=action.event_id,
            reasons=(_REASONS[action.action], *(("officer.closed",) if is_reply and action.closes_case else ())),
            changes=tuple(
                (name, getattr(case, name), values[name])
                for name in ("unit", "category", "urgency")
                if name in values and values[name] != getattr(case, name)
            ),
            reply_id=reply.event_id if reply else None,
            template="officer" if reply else None,
            by=action.officer,
            text=action.text or None,
        ),
        reply=reply,
    )


def _values(action: OfficerActed, case: Case, levels: ServiceLevels) -> dict[str, Any]:
    """The case's fields after the action: answering takes it off the queue until the citizen writes again."""
    match action.action:
        case "reply":
            values: dict[str, Any] = {"needs_person": False, "due_at": None, "closes_at": None}
            if action.closes_case:
                return values | _closed(action)
            return values | ({"state": "answered_by_officer"} if case.is_open else {})
        case "close":
            return {"needs_person": False, "due_at": None, "closes_at": None} | _closed(action)
        case "hand_over":
            return _waiting(action, case, levels) | _moved(action)
        case "reopen":
            return _waiting(action, case, levels) | {
                "is_open": True,
                "open_key": case.citizen_key,
                "closed_at": None,
            }
        case "correct":
            return _corrected(action, case, levels)


def _closed(action: OfficerActed) -> dict[str, Any]:
    return {"state": "closed", "is_open": False, "open_key": None, "closed_at": action.occurred_at}


def _moved(action: OfficerActed) -> dict[str, Any]:
    # No rule moves the case away again: an officer's word is the strongest basis.
    return {"unit": action.to_unit, "unit_basis": "officer"} if action.to_unit else {}


def _waiting(action: OfficerActed, case: Case, levels: ServiceLevels) -> dict[str, Any]:
    """Back in a queue: the old deadline goes on, a new one starts where none was left."""
    level = levels.level_of(case.category, case.urgency, (case.subtopic,) if case.subtopic else ())
    return {
        "state": "waiting_officer",
        "needs_person": True,
        "closes_at": None,
        "due_at": case.due_at or level.due_at(action.occurred_at, levels.working_time),
    }


def _corrected(action: OfficerActed, case: Case, levels: ServiceLevels) -> dict[str, Any]:
    category = action.category or case.category
    subtopic = action.subtopic if action.category or action.subtopic else case.subtopic
    urgency = action.urgency or case.urgency
    level = levels.level_of(category, urgency, (subtopic,) if subtopic else ())  # type: ignore[arg-type]
    values: dict[str, Any] = {
        "category": category,
        "subtopic": subtopic,
        "urgency": urgency,
        "priority": level.priority,
        **_moved(action),
    }
    if case.due_at is not None:
        values["due_at"] = min(case.due_at, level.due_at(action.occurred_at, levels.working_time))
    return values


def _reply(action: OfficerActed, case: Case, now: datetime) -> ReplyRequested:
    return ReplyRequested(
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
