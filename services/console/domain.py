"""Rules of the officers' page: who sees what, what is urgent, what may be done. Pure: no I/O, no clock."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Literal

from shared.events import Language

Role = Literal["officer", "duty", "commander", "lead"]
Action = Literal["reply", "hand_over", "close", "reopen", "correct"]
Urgency = Literal["emergency", "high", "normal"]
QueueView = Literal["open", "waiting", "closed"]

LOCAL_TIME = timezone(timedelta(hours=7), "+07")
"""Vietnam has one zone and no summer time."""

MAX_REPLY_CHARACTERS = 2_000
MAX_NOTE_CHARACTERS = 2_000
MIN_PASSWORD_CHARACTERS = 12
MAX_PASSWORD_CHARACTERS = 256

CATEGORIES = ("emergency", "crime_report", "security_tip", "procedure", "complaint", "greeting", "other")
SUBTOPICS = (
    "permanent_residence",
    "temporary_residence",
    "stay_notice",
    "temporary_absence",
    "residence_confirmation",
    "citizen_id_issue",
    "citizen_id_place",
    "citizen_id_lookup",
    "vneid_account",
    "vehicle_registration",
    "other_procedure",
)
URGENCIES: tuple[Urgency, ...] = ("emergency", "high", "normal")


# -- who -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scope:
    """Whose cases may be read; every repository needs one.

    Attributes:
        units: slugs; None is every unit, for the district lead.
    """

    units: frozenset[str] | None

    def allows(self, unit: str) -> bool:
        """Whether a case of this unit may be seen."""
        return self.units is None or unit in self.units

    def narrowed_to(self, unit: str | None) -> "Scope":
        """The same scope looking at one unit only; a unit outside of it leaves nothing to see."""
        if not unit:
            return self
        return Scope(frozenset({unit}) if self.allows(unit) else frozenset())


@dataclass(frozen=True)
class Officer:
    """Who is signed in."""

    account: str
    name: str
    unit: str
    role: Role


def scope_of(officer: Officer) -> Scope:
    """The district lead sees every unit, everybody else their own."""
    return Scope(None if officer.role == "lead" else frozenset({officer.unit}))


@dataclass(frozen=True)
class Session:
    """One sign-in."""

    session_id: str
    kind: Literal["browser", "api"]
    officer: Officer
    csrf: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    address: str = ""
    user_agent: str = ""


def session_is_over(session: Session, *, now: datetime, idle_seconds: int) -> bool:
    """Used up by its absolute end or by not being used."""
    return now >= session.expires_at or now - session.last_seen_at >= timedelta(seconds=idle_seconds)


def password_fault(password: str, *, account: str) -> str | None:
    """Why a password cannot be taken, as the key of the text to show; long beats complicated (NIST SP 800-63B)."""
    if len(password) < MIN_PASSWORD_CHARACTERS:
        return "password.too_short"
    if len(password) > MAX_PASSWORD_CHARACTERS:
        return "password.too_long"
    if len(set(password.lower())) <= 4 or account.lower() in password.lower():
        return "password.too_simple"
    return None


# -- when ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TimeLeft:
    """Time to a deadline in the one unit a person would say it in.

    Attributes:
        key: of the text: `deadline.left.minutes`, `deadline.over.hours` …; `now` is less than a minute
        level: `over`, `soon` or `calm`, for the eye.
    """

    key: str
    number: int
    level: Literal["over", "soon", "calm"]


SOON = timedelta(minutes=30)


def time_left(due_at: datetime, now: datetime) -> TimeLeft:
    """Say how long there is, or how long it is overdue: “còn 12 phút”, “quá hạn 2 giờ”."""
    distance = due_at - now
    direction = "over" if distance < timedelta() else "left"
    level: Literal["over", "soon", "calm"] = "over" if direction == "over" else "soon" if distance <= SOON else "calm"
    minutes = int(abs(distance).total_seconds() // 60)
    if minutes == 0:
        return TimeLeft(f"deadline.{direction}.now", 0, level)
    if minutes < 60:
        return TimeLeft(f"deadline.{direction}.minutes", minutes, level)
    if minutes < 48 * 60:
        return TimeLeft(f"deadline.{direction}.hours", minutes // 60, level)
    return TimeLeft(f"deadline.{direction}.days", minutes // (24 * 60), level)


@dataclass(frozen=True)
class WindowRule:
    """What Zalo allows after a citizen's last interaction, from a day on; data, because Zalo changes it."""

    valid_from: date
    free: timedelta
    allowed: timedelta


def window_rule_on(day: date, rules: Sequence[WindowRule]) -> WindowRule:
    """The rule that holds on a day; before the first one, the first one."""
    in_order = sorted(rules, key=lambda rule: rule.valid_from)
    return next((rule for rule in reversed(in_order) if rule.valid_from <= day), in_order[0])


@dataclass(frozen=True)
class Contact:
    """What is known of a citizen for answering them.

    Attributes:
        withdrawn_at: when they asked to have their data erased; ends our right to write until they write again.
        language: the one they chose for answers and news; None of who never did.
    """

    last_interaction_at: datetime | None = None
    withdrawn_at: datetime | None = None
    language: Language | None = None


@dataclass(frozen=True)
class ReplyWindow:
    """What sending now would meet.

    Attributes:
        kind: `free`; `paid` counts against the page's package; `closed` and `withdrawn` until the citizen writes again.
        until: when this kind ends; None where it does not end by itself.
    """

    kind: Literal["free", "paid", "closed", "withdrawn"]
    until: datetime | None


def reply_window(contact: Contact, *, now: datetime, rule: WindowRule) -> ReplyWindow:
    """Decide what the consultation window allows; an interaction nobody knows of opens nothing."""
    last = contact.last_interaction_at
    if contact.withdrawn_at is not None and (last is None or contact.withdrawn_at >= last):
        return ReplyWindow("withdrawn", None)
    if last is None or now >= last + rule.allowed:
        return ReplyWindow("closed", None)
    if now < last + rule.free:
        return ReplyWindow("free", last + rule.free)
    return ReplyWindow("paid", last + rule.allowed)


# -- what ------------------------------------------------------------------------------------------------------------


DECISIONS_SHOWN = timedelta(days=2)
"""So long a published decision is shown from here while the ledger, the history or the case does not have it."""


@dataclass(frozen=True)
class Departure:
    """The newest decision that takes a case off its queue, while the router has not carried it out.

    Attributes:
        to_unit: whose case it will be; None where it ends.
        is_refused: the router could not carry it out, so the case stays where it is.
    """

    action_id: str
    to_unit: str | None
    is_refused: bool


@dataclass(frozen=True)
class CaseSummary:
    """One line of the queue."""

    code: str
    unit: str
    page: str
    category: str
    subtopic: str | None
    urgency: str
    is_open: bool
    waits_for: Literal["officer", "citizen"]
    opened_at: datetime
    last_message_at: datetime
    due_at: datetime | None
    closed_at: datetime | None = None
    excerpt: str = ""
    message_count: int = 0
    departure: Departure | None = None

    @property
    def is_burning(self) -> bool:
        """An emergency that waits for a person."""
        return self.is_open and self.urgency == "emergency" and self.waits_for == "officer"


@dataclass(frozen=True)
class Citizen:
    """Who wrote, as one page sees them."""

    channel: str
    page: str
    oa_id: str
    user_id: str
    user_id_by_app: str | None = None


@dataclass(frozen=True)
class Case:
    """A case with what was decided about it and why.

    Attributes:
        correlation_id: of the story that the case belongs to; what an officer does goes on with it.
        reasons: reason codes.
        doubts: reason codes of what a person should check.
        evidence: what was found in the text: words of our own lists, places.
        confidence: of the reading, 0 to 1.
    """

    summary: CaseSummary
    citizen: Citizen
    correlation_id: str
    reasons: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    confidence: float | None = None

    @property
    def code(self) -> str:
        """What people quote."""
        return self.summary.code

    @property
    def unit(self) -> str:
        """Who answers for it."""
        return self.summary.unit


@dataclass(frozen=True)
class Place:
    """A point the citizen shared."""

    latitude: float
    longitude: float


@dataclass(frozen=True)
class Picture:
    """One attachment of a message, as far as it is fetched.

    Attributes:
        state: `ready` can be shown; `waiting` is being fetched; `failed` could not be kept.
    """

    attachment_id: str
    kind: str
    state: Literal["ready", "waiting", "failed"]
    content_type: str | None = None
    name: str | None = None
    size_bytes: int | None = None

    @property
    def is_image(self) -> bool:
        """Whether a browser may show it in the page."""
        return self.state == "ready" and self.content_type in SHOWN_IN_PAGE


SHOWN_IN_PAGE = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
"""What is served as an image; anything else is only offered for download, so that no upload runs as a page of ours."""

Mark = Literal["undo", "waiting", "sent", "received", "seen", "uncertain", "failed"]


@dataclass(frozen=True)
class Line:
    """One bubble of the conversation.

    Attributes:
        language: that a citizen's text was read as.
    """

    line_id: str
    side: Literal["citizen", "bot", "officer"]
    at: datetime
    text: str = ""
    language: Language | None = None
    kind: str = "text"
    place: Place | None = None
    pictures: tuple[Picture, ...] = ()
    author: str | None = None
    mark: Mark | None = None
    failure: str | None = None
    due_at: datetime | None = None


@dataclass(frozen=True)
class Entry:
    """One line of the case's history.

    Attributes:
        what: key of what happened.
        by: account of the officer, None where the hub did it by itself.
        changes: field, old and new value.
        note: what an officer wrote for colleagues.
    """

    at: datetime
    what: str
    by: str | None = None
    reasons: tuple[str, ...] = ()
    changes: tuple[tuple[str, str | None, str | None], ...] = ()
    note: str = ""


def reply_language(contact: Contact, lines: Sequence[Line]) -> Language:
    """What to answer in: the language that the citizen chose, else the one of the last text they wrote in this case.

    Args:
        contact: of the citizen.
        lines: of the case, oldest first.
    """
    if contact.language is not None:
        return contact.language
    written = (line.language for line in reversed(lines) if line.side == "citizen" and line.text)
    return next((language for language in written if language is not None), "vi")


def mark_of(state: str, *, received: bool, seen: bool) -> Mark:
    """What became of a reply: the ledger's state in the words of the page."""
    if seen:
        return "seen"
    if received:
        return "received"
    if state in {"sent", "delivered"}:
        return "sent"
    if state == "uncertain":
        return "uncertain"
    if state in {"failed", "abandoned"}:
        return "failed"
    return "waiting"


def queue_order(cases: Sequence[CaseSummary]) -> list[CaseSummary]:
    """Emergencies on top, then what is due first; without a deadline last."""
    return sorted(
        cases,
        key=lambda case: (
            not case.is_burning,
            case.due_at is None,
            case.due_at or case.last_message_at,
            case.opened_at,
        ),
    )


# -- texts -----------------------------------------------------------------------------------------------------------


def as_sent(text: str) -> str:
    """A reply as it will be sent: NFC, one kind of line end, no control characters, no blank ends."""
    lines = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in lines if c == "\n" or unicodedata.category(c) not in {"Cc", "Cs"}).strip()


def reply_fault(text: str, window: ReplyWindow) -> str | None:
    """Why a reply cannot be sent, as the key of the text to show; None when it can.

    Args:
        text: after `as_sent`.
        window: what the moment allows.
    """
    if not text:
        return "reply.empty"
    if len(text) > MAX_REPLY_CHARACTERS:
        return "reply.too_long"
    if window.kind in {"closed", "withdrawn"}:
        return f"reply.window_{window.kind}"
    return None


# -- what may be done ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decision:
    """What an officer wants, before it is checked."""

    action: Action
    text: str = ""
    closes_case: bool = False
    to_unit: str | None = None
    category: str | None = None
    subtopic: str | None = None
    urgency: Urgency | None = None


def decision_fault(decision: Decision, case: CaseSummary, *, window: ReplyWindow, units: frozenset[str]) -> str | None:
    """Why a decision cannot be taken, as the key of the text to show; None when it can.

    Args:
        decision: with its text after `as_sent`.
        case: as it is now.
        window: for a reply.
        units: that exist today.
    """
    match decision.action:
        case "reply":
            return reply_fault(decision.text, window)
        case "hand_over":
            return _hand_over_fault(decision, case, units)
        case "close":
            return None if case.is_open else "close.closed_already"
        case "reopen":
            return "reopen.open_already" if case.is_open else None
        case "correct":
            return _correction_fault(decision, case, units)


def _hand_over_fault(decision: Decision, case: CaseSummary, units: frozenset[str]) -> str | None:
    if not case.is_open:
        return "hand_over.closed"
    if decision.to_unit not in units:
        return "hand_over.no_unit"
    if decision.to_unit == case.unit:
        return "hand_over.same_unit"
    return "note.too_long" if len(decision.text) > MAX_NOTE_CHARACTERS else None


def _correction_fault(decision: Decision, case: CaseSummary, units: frozenset[str]) -> str | None:
    if decision.to_unit is not None and decision.to_unit not in units:
        return "hand_over.no_unit"
    if decision.category is not None and decision.category not in CATEGORIES:
        return "correct.no_category"
    if decision.subtopic is not None and decision.subtopic not in SUBTOPICS:
        return "correct.no_subtopic"
    if (decision.urgency == "emergency") != ((decision.category or case.category) == "emergency") and decision.urgency:
        return "correct.emergency_both"
    changes = (
        decision.category not in {None, case.category},
        decision.subtopic not in {None, case.subtopic},
        decision.urgency not in {None, case.urgency},
        decision.to_unit not in {None, case.unit},
    )
    return None if any(changes) else "correct.nothing_changed"
