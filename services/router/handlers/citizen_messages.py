"""A citizen's messages become cases and answers.

Order of the effects, each repeatable: the plans are stored first (the inbox: `_id` is the event_id), then the cases
and their history, then choices and replies are published, last Kafka's offset is committed. After a crash at any
point the batch is delivered again; what has a plan is carried out from the plan, never decided twice. See
docs/architecture/router.md.
"""

import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Protocol

from services.router.domain.assignment import BASIS_STRENGTH, Assignment, ResponsibleUnit, failed_assignment
from services.router.domain.cases import Case, Citizen, Decision, Desk, opened_cases
from services.router.domain.memory import Remembered, person_of
from services.router.domain.pieces import TOGETHER, Piece, joined, pieces_before, read_together
from services.router.domain.plans import Plan, PlannedMessage, carry_over, to_plan
from services.router.domain.understanding import MessageContext, Reading, Understanding, failed_reading
from shared.crash import crash_point
from shared.directory import Directory, DirectoryView
from shared.events import CitizenChose, CitizenMessageReceived, ReplyRequested
from shared.kafka import Received
from shared.telemetry import get_logger

log = get_logger()


class CaseStore(Protocol):
    """What this handler needs of the database; every call is repeatable."""

    async def plans_of(self, event_ids: Sequence[str]) -> dict[str, Plan]:
        """The plans of messages that were decided before."""
        ...

    async def open_cases(self, citizen_keys: Sequence[str]) -> list[Case]:
        """The open cases of these citizens."""
        ...

    async def cases_with_ids(self, case_ids: Sequence[str]) -> list[Case]:
        """Cases by id, open or not."""
        ...

    async def closed_cases(self, citizen_keys: Sequence[str], *, since: datetime, until: datetime) -> list[Case]:
        """Cases of these citizens that were closed, with their last message in between."""
        ...

    async def recent_replies(
        self, citizen_keys: Sequence[str], *, since: datetime, until: datetime
    ) -> dict[str, dict[str, datetime]]:
        """When each citizen last got which template outside of a case."""
        ...

    async def recent_texts(self, citizen_keys: Sequence[str], *, since: datetime, until: datetime) -> list[Piece]:
        """What these citizens sent in between, as it was decided."""
        ...

    async def remembered(self, persons: Sequence[str]) -> dict[str, Remembered]:
        """What these persons let us remember."""
        ...

    async def take_numbers(self, day: date, count: int) -> range:
        """Numbers for case codes of a day that nobody else gets; gaps are allowed."""
        ...

    async def record(self, planned: Sequence[PlannedMessage]) -> None:
        """Store messages with their plans, in order.

        Raises:
            CaseMoved: somebody else decided one of them meanwhile; read again.
        """
        ...

    async def carry_out(self, plans: Sequence[Plan], stored: Mapping[str, int]) -> None:
        """Write cases and history.

        Raises:
            CaseMoved: a case is not as it was read; read again.
        """
        ...


@dataclass(frozen=True)
class MessageDeps:
    """What the handler works with."""

    store: CaseStore
    understanding: Understanding
    responsible_unit: ResponsibleUnit
    directory: Directory
    desk: Desk
    publish_replies: Callable[[Sequence[ReplyRequested]], Awaitable[None]]
    publish_choices: Callable[[Sequence[CitizenChose]], Awaitable[None]]
    now: Callable[[], datetime]


async def assign_messages(received: Sequence[Received[CitizenMessageReceived]], deps: MessageDeps) -> None:
    """Decide every message of a batch, carry the decisions out and request the replies; repeating it adds nothing.

    Raises:
        StoreUnavailable: transient; Kafka redelivers the batch.
        BrokerUnavailable: transient; the replies are published again under the same ids.
        CaseMoved: another replica was faster; Kafka redelivers the batch and it is read afresh.
    """
    messages = list({one.event.event_id: one.event for one in received}.values())
    known = await deps.store.plans_of([message.event_id for message in messages])
    citizens, stored = await _citizens_of(messages, known, deps)
    views = _Views(deps.directory, deps.desk)
    unread = [message for message in messages if message.event_id not in known]
    heard = await _heard(unread, deps)
    await _remember(unread, citizens, deps)
    readings: dict[str, tuple[Reading, Assignment]] = {}
    bubbles = _bubbles_of(unread, heard, citizens, views)
    for bubble, read in zip(bubbles, _read_all(bubbles, deps.understanding), strict=True):
        message = bubble.message
        pieces = pieces_before(message, heard.get(message.citizen_key, ()))
        reading, assignment = _understand(bubble, read, pieces, citizens[message.citizen_key], views, deps)
        readings[message.event_id] = (reading, assignment)
        heard.setdefault(message.citizen_key, []).append(_as_piece(message, reading))
    await _load_for(readings, messages, citizens, stored, deps)

    decisions: list[Decision] = []
    case_of = {piece.event_id: piece.case_id for pieces in heard.values() for piece in pieces}
    for message in messages:
        citizen = citizens[message.citizen_key]
        if message.event_id in known:
            carry_over(known[message.event_id], citizen)
        else:
            reading, assignment = readings[message.event_id]
            view = views.of(message)
            before = (case_of[p.event_id] for p in reversed(pieces_before(message, heard[message.citizen_key])))
            follows = next((case_id for case_id in before if case_id is not None), None)
            decisions.append(deps.desk.decide(message, reading, assignment, citizen, view, follows=follows))
            case_of[message.event_id] = decisions[-1].case_id
    planned = await _plan(decisions, citizens, deps)
    await deps.store.record(planned)
    crash_point("router.after_record")

    by_id = known | {p.plan.event_id: p.plan for p in planned}
    plans = [by_id[message.event_id] for message in messages]
    await deps.store.carry_out(plans, stored)
    crash_point("router.after_carry_out")
    if choices := [plan.choice for plan in plans if plan.choice is not None]:
        await deps.publish_choices(choices)  # before the reply that says so
    await deps.publish_replies([plan.reply for plan in plans if plan.reply is not None])
    crash_point("router.after_publish")
    _log(planned, plans)


class _Views:
    """The directory on the day of each message."""

    def __init__(self, directory: Directory, desk: Desk) -> None:
        self._directory = directory
        self._desk = desk
        self._by_day: dict[date, DirectoryView] = {}

    def of(self, message: CitizenMessageReceived) -> DirectoryView:
        """A late message is judged by the units of the day on which it was sent."""
        day = self._desk.levels.local_day(message.sent_at)
        if day not in self._by_day:
            self._by_day[day] = self._directory.as_of(day)
        return self._by_day[day]


async def _citizens_of(
    messages: Sequence[CitizenMessageReceived], known: Mapping[str, Plan], deps: MessageDeps
) -> tuple[dict[str, Citizen], dict[str, int]]:
    """The citizens with their open cases, and the version of every case as it is stored now."""
    citizens = {message.citizen_key: Citizen() for message in messages}
    cases = await deps.store.open_cases(list(citizens))
    touched = {step.case_id for plan in known.values() for step in plan.steps} - {case.case_id for case in cases}
    if touched:  # an interrupted plan may name a case that is closed by now
        cases += await deps.store.cases_with_ids(sorted(touched))
    stored = _put(cases, citizens)
    return citizens, stored


def _put(cases: Iterable[Case], citizens: Mapping[str, Citizen]) -> dict[str, int]:
    versions = {}
    for case in cases:
        if case.citizen_key in citizens:
            citizens[case.citizen_key].cases.setdefault(case.case_id, case)
            versions[case.case_id] = case.citizen_version
    return versions


async def _heard(messages: Sequence[CitizenMessageReceived], deps: MessageDeps) -> dict[str, list[Piece]]:
    """What the citizens of a batch sent shortly before, by citizen."""
    heard: dict[str, list[Piece]] = {}
    if messages:
        since = min(m.sent_at for m in messages) - TOGETHER
        until = max(m.sent_at for m in messages) + timedelta(seconds=1)
        keys = sorted({m.citizen_key for m in messages})
        for piece in await deps.store.recent_texts(keys, since=since, until=until):
            heard.setdefault(piece.citizen_key, []).append(piece)
    return heard


async def _remember(
    messages: Sequence[CitizenMessageReceived], citizens: Mapping[str, Citizen], deps: MessageDeps
) -> None:
    """What the writers let us remember, on whatever page they said so."""
    if messages:
        person = {message.citizen_key: person_of(message) for message in messages}
        known = await deps.store.remembered(sorted(set(person.values())))
        for citizen_key, name in person.items():
            citizens[citizen_key].remembered = known.get(name, Remembered())


def _as_piece(message: CitizenMessageReceived, reading: Reading | None = None) -> Piece:
    category = reading.category if reading else "other"
    return Piece(message.event_id, message.citizen_key, message.sent_at, message.text, category, message.location)


@dataclass(frozen=True, slots=True)
class _Bubble:
    """A message, what is known around it, and what it says together with the bubbles before it.

    Attributes:
        whole: the message itself where nothing came before it.
    """

    message: CitizenMessageReceived
    whole: CitizenMessageReceived
    context: MessageContext

    @property
    def texts(self) -> tuple[str, ...]:
        """What is read of it: the message alone, and with what came before."""
        text, whole = self.message.text, self.whole.text
        return (text, whole) if text and whole != text else (text,)


def _bubbles_of(
    messages: Sequence[CitizenMessageReceived],
    heard: Mapping[str, Sequence[Piece]],
    citizens: Mapping[str, Citizen],
    views: _Views,
) -> list[_Bubble]:
    said = {key: list(pieces) for key, pieces in heard.items()}
    bubbles = []
    for message in messages:
        before = said.setdefault(message.citizen_key, [])
        pieces = pieces_before(message, before)
        page_unit = views.of(message).unit_of_page(message.page)
        context = MessageContext(
            kind=message.kind,
            sent_at=message.sent_at,
            page_unit=page_unit.slug if page_unit else None,
            has_open_case=bool(citizens[message.citizen_key].cases),
        )
        bubbles.append(_Bubble(message, joined(message, pieces) if pieces else message, context))
        before.append(_as_piece(message))
    return bubbles


def _read_all(bubbles: Sequence[_Bubble], understanding: Understanding) -> list[tuple[Reading, ...] | None]:
    """The readings of each bubble's texts. A rule or a model that fails must not cost a message: None, and a log line.

    All are read at once; if that fails, one by one, so that the fault of one message touches no other.
    """
    asked = [(text, bubble.context) for bubble in bubbles for text in bubble.texts]
    try:
        readings = iter(understanding.read_all(asked))
        return [tuple([next(readings) for _ in bubble.texts]) for bubble in bubbles]
    except Exception:  # noqa: BLE001 - whatever it is, it is met again below
        return [_read_one(bubble, understanding) for bubble in bubbles]


def _read_one(bubble: _Bubble, understanding: Understanding) -> tuple[Reading, ...] | None:
    try:
        return tuple(understanding.read_all([(text, bubble.context) for text in bubble.texts]))
    except Exception as error:  # noqa: BLE001 - whatever it is, a person reads the message
        log.error("understanding.failed", event_id=bubble.message.event_id, **_where(error))  # noqa: TRY400 - see _where
        return None


def _understand(
    bubble: _Bubble,
    read: tuple[Reading, ...] | None,
    pieces: Sequence[Piece],
    citizen: Citizen,
    views: _Views,
    deps: MessageDeps,
) -> tuple[Reading, Assignment]:
    """Choose the reading, and assign. A map that fails must not cost a message: it stays with the unit of its page."""
    message, whole = bubble.message, bubble.whole
    view = views.of(message)
    if read is None:
        reading = failed_reading()
    else:
        alone, *together = read
        reading = read_together(alone, together[0], pieces) if together else alone
    try:
        home_ward = citizen.remembered.home_ward
        assignment = deps.responsible_unit(message, reading, view, home_ward=home_ward)
        if pieces and BASIS_STRENGTH[assignment.basis] < BASIS_STRENGTH["place"]:
            assignment = deps.responsible_unit(whole, reading, view, home_ward=home_ward)
    except Exception as error:  # noqa: BLE001 - whatever it is, the page's unit takes it
        log.error("assignment.failed", event_id=message.event_id, **_where(error))  # noqa: TRY400 - see _where
        assignment = failed_assignment(message, view)
    return reading, assignment


def _where(error: Exception) -> dict[str, str]:
    """Kind and place of a fault; its text may quote the message, so it is not logged."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown"
    return {"error": type(error).__name__, "at_line": place}


async def _load_for(
    readings: Mapping[str, tuple[Reading, Assignment]],
    messages: Sequence[CitizenMessageReceived],
    citizens: Mapping[str, Citizen],
    stored: dict[str, int],
    deps: MessageDeps,
) -> None:
    """Load what only some messages need: closed cases to reopen, and what was said outside of cases."""
    windows = deps.desk.levels.windows
    at = {m.event_id: m for m in messages}
    wants_person = [
        at[e]
        for e, (reading, _) in readings.items()
        if reading.asks_for_person and not citizens[at[e].citizen_key].cases
    ]
    if wants_person:
        since = min(m.received_at for m in wants_person) - timedelta(hours=windows.reopen_hours)
        until = max(m.received_at for m in wants_person) + timedelta(hours=1)
        keys = sorted({m.citizen_key for m in wants_person})
        stored |= _put(await deps.store.closed_cases(keys, since=since, until=until), citizens)
    small_talk = [at[e] for e, (reading, _) in readings.items() if reading.category in {"greeting", "other"}]
    if small_talk:
        since = min(m.received_at for m in small_talk) - timedelta(hours=windows.greeting_hours)
        until = max(m.received_at for m in small_talk) + timedelta(hours=1)
        keys = sorted({m.citizen_key for m in small_talk})
        for key, given in (await deps.store.recent_replies(keys, since=since, until=until)).items():
            citizens[key].recent_replies.update(given)


async def _plan(
    decisions: Sequence[Decision], citizens: Mapping[str, Citizen], deps: MessageDeps
) -> list[PlannedMessage]:
    """Draw numbers for the new cases, one draw a day, and write the plans."""
    codes = {case.case_id: case.code for citizen in citizens.values() for case in citizen.cases.values() if case.code}
    new_by_day: dict[date, list[str]] = {}
    for case in opened_cases(decisions):
        new_by_day.setdefault(deps.desk.levels.local_day(case.opened_at), []).append(case.case_id)
    for day, case_ids in sorted(new_by_day.items()):
        numbers = await deps.store.take_numbers(day, len(case_ids))
        codes |= {i: deps.desk.levels.case_code(day, n) for i, n in zip(case_ids, numbers, strict=True)}
    now = deps.now()
    return [to_plan(decision, deps.desk, codes, now) for decision in decisions]


def _log(planned: Sequence[PlannedMessage], plans: Sequence[Plan]) -> None:
    for one in planned:
        decision, plan = one.decision, one.plan
        log.info(
            "message.assigned",
            event_id=plan.event_id,
            correlation_id=one.message.correlation_id,
            page=one.message.page,
            case_code=plan.case_code,
            unit=decision.assignment.unit,
            category=decision.reading.category,
            subtopic=decision.reading.subtopic,
            urgency=decision.reading.urgency,
            confidence=decision.reading.confidence,
            reply_id=plan.reply.event_id if plan.reply else None,
            template=plan.reply.template if plan.reply else None,
            reasons=list(decision.reasons),
        )
    log.info(
        "messages.handled",
        messages=len(plans),
        decided=len(planned),
        carried_over=len(plans) - len(planned),
        replies=sum(plan.reply is not None for plan in plans),
    )
