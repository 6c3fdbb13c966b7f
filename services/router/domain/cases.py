"""Cases: what a message opens, joins, escalates or leaves alone. "Say it once": repeats join the open case.

Everything here is a pure function of the message, its reading, its assignment and what is known of the citizen.
The outcome (`Decision`) is complete: applying it needs no further thought, so that it can be stored first and applied
again after a crash. See docs/architecture/router.md for the order of the writes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from services.router.domain.answers import Answer, AnswerBook
from services.router.domain.assignment import BASIS_STRENGTH, Assignment
from services.router.domain.choices import Choice, Choices, WardMemory, Wish, ward_name
from services.router.domain.deadlines import ServiceLevel, ServiceLevels
from services.router.domain.memory import Memory, Remembered
from services.router.domain.pieces import TOGETHER
from services.router.domain.text import fold
from services.router.domain.understanding import INCIDENTS, PRECEDENCE, Category, Reading, Urgency
from shared.directory import DirectoryView, Unit
from shared.events import CitizenChose, CitizenMessageReceived, Language, ReplyButton, ReplyContent, ReplyRequested
from shared.ids import deterministic_id

CaseState = Literal["waiting_officer", "answered_automatically", "answered_by_officer", "closed", "closed_by_itself"]

URGENCY_ORDER: tuple[Urgency, ...] = ("emergency", "high", "normal")
MAX_REASONS = 24
MAX_BUTTON_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Given:
    """An answer that a case has had, so that an acknowledgement is not repeated."""

    template: str
    at: datetime
    times: int


@dataclass(frozen=True, slots=True)
class Case:
    """What an officer works on.

    Attributes:
        case_id: deterministic from the message that opened it and the matter.
        code: the one people quote; "" until numbers are drawn for the batch.
        matter: one open case of a citizen for each.
        unit_basis: why this unit; a stronger basis may move the case.
        due_at: None where nobody has to act.
        closes_at: when an automatically answered case is over; looked at when the case is read.
        open_key: the citizen while the case is open, else None: by it a batch finds its open cases with one index.
        asked: units between which the citizen was asked to choose, once a case.
        citizen_version: counts the citizen's changes; the guard that makes applying them repeatable.
    """

    case_id: str
    code: str
    citizen_key: str
    page: str
    oa_id: str
    user_id: str
    user_id_by_app: str | None
    conversation_id: str | None
    matter: str
    category: Category
    subtopic: str | None
    urgency: Urgency
    priority: int
    unit: str
    unit_basis: str
    state: CaseState
    is_open: bool
    needs_person: bool
    opened_at: datetime
    last_message_at: datetime
    due_at: datetime | None = None
    closes_at: datetime | None = None
    closed_at: datetime | None = None
    first_response_at: datetime | None = None
    reasons: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    given: tuple[Given, ...] = ()
    channel: str = "zalo"
    correlation_id: str = ""
    confidence: float = 0.0
    open_key: str | None = None
    citizen_version: int = 0
    asked: tuple[str, ...] = ()

    def is_over(self, at: datetime) -> bool:
        """Whether it closed itself before this moment."""
        return self.is_open and self.closes_at is not None and self.closes_at <= at


CASE_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Case))


@dataclass(frozen=True, slots=True)
class CaseChange:
    """One step of a case; `before` is None where it is opened."""

    before: Case | None
    after: Case

    def changed(self) -> dict[str, Any]:
        """The fields that differ; all of them where the case is new."""
        return {
            name: getattr(self.after, name)
            for name in CASE_FIELDS
            if self.before is None or getattr(self.before, name) != getattr(self.after, name)
        }


@dataclass(frozen=True, slots=True)
class ReplyDraft:
    """A reply before the case has its code.

    Attributes:
        question: the names to choose from under it.
        choice: what the citizen chose, by name.
        consent: asks whether a ward may be remembered.
        buttons: further ones.
    """

    template: str
    language: Language
    unit_name: str
    is_emergency: bool
    question: tuple[str, ...] = ()
    choice: str = ""
    consent: bool = False
    buttons: tuple[ReplyButton, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a case's history."""

    kind: Literal["opened", "joined", "closed_by_itself"]
    case_id: str
    reasons: tuple[str, ...]
    changes: tuple[tuple[str, str | None, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """All that follows from one message."""

    message: CitizenMessageReceived
    reading: Reading
    assignment: Assignment
    case_id: str | None
    reasons: tuple[str, ...]
    changes: tuple[CaseChange, ...] = ()
    entries: tuple[Entry, ...] = ()
    reply: ReplyDraft | None = None
    choice: Choice | None = None
    memory: Memory | None = None


@dataclass
class Citizen:
    """What is known of one citizen on one page, kept up to date while a batch is decided.

    Attributes:
        cases: open ones, and those closed a short time ago.
        recent_replies: replies outside of any case, template to time.
        remembered: the ward they let us remember.
    """

    cases: dict[str, Case] = field(default_factory=dict)
    recent_replies: dict[str, datetime] = field(default_factory=dict)
    remembered: Remembered = field(default_factory=Remembered)

    def open_cases(self) -> list[Case]:
        """The open ones, the latest first."""
        found = [case for case in self.cases.values() if case.is_open]
        return sorted(found, key=lambda c: (c.last_message_at, c.case_id), reverse=True)

    def open_for(self, matter: str) -> Case | None:
        """The open case of a matter; there is at most one."""
        return next((case for case in self.open_cases() if case.matter == matter), None)


@dataclass(frozen=True)
class Desk:
    """The rules and texts by which messages are decided."""

    levels: ServiceLevels
    answers: AnswerBook
    choices: Choices

    def decide(
        self,
        message: CitizenMessageReceived,
        reading: Reading,
        assignment: Assignment,
        citizen: Citizen,
        view: DirectoryView,
        *,
        follows: str | None = None,
    ) -> Decision:
        """Decide one message and bring `citizen` up to date, so that the next one sees it.

        Args:
            message: what was written.
            reading: what it is about, read together with the bubbles before it.
            assignment: who answers.
            citizen: what is known of the writer.
            view: the directory of the day.
            follows: the case of a bubble of the last minute.
        """
        at = message.received_at
        over = [_closed_by_itself(case, at) for case in citizen.open_cases() if case.is_over(at)]
        for change in over:
            citizen.cases[change.after.case_id] = change.after
        closing = tuple(Entry("closed_by_itself", c.after.case_id, ("case.closed_by_itself",)) for c in over)
        wish = self.choices.of(message.text, view)
        if wish is not None:
            outcome = self._wished(message, reading, assignment, wish, view, citizen)
            outcome = _kept_in_mind(outcome, citizen)
            return replace(outcome, changes=tuple(over), entries=closing)
        language = citizen.remembered.language or reading.language  # what was chosen wins over what is guessed
        asked = _case_that_asked(message, citizen, view)
        if asked is not None:
            told, unit = asked
            reading = Reading("other", confidence=1.0, reasons=("reading.answers_question",), language=reading.language)
            assignment = Assignment(unit, "told", ("unit.told",), (f"told:{unit}",))
            target: Case | str | None = told
            answer: Answer | None = Answer("question.thanks", is_direct=True)
        else:
            answer = self.answers.choose(reading, assignment, language=language)
            target = self._target(message, reading, citizen, citizen.cases.get(follows or ""))
        if target is None:
            outcome = self._without_case(message, reading, assignment, answer, citizen, view, language)
        else:
            is_piece = isinstance(target, Case) and target.case_id == follows
            outcome = self._with_case(message, reading, assignment, answer, target, view, language, is_piece=is_piece)
            for change in outcome.changes:
                citizen.cases[change.after.case_id] = change.after
            if asked is not None and outcome.reply is not None and not citizen.remembered.was_asked:
                outcome = self._with_consent_asked(outcome, outcome.reply, view.units[asked[1]])
                outcome = _kept_in_mind(outcome, citizen)
        outcome = self._with_language_offered(outcome, citizen.remembered.language)
        return replace(outcome, changes=(*over, *outcome.changes), entries=(*closing, *outcome.entries))

    def _wished(
        self,
        message: CitizenMessageReceived,
        reading: Reading,
        assignment: Assignment,
        wish: Wish,
        view: DirectoryView,
        citizen: Citizen,
    ) -> Decision:
        """A choice about broadcasts or the language: confirmed every time, and nothing of a case."""
        reading = Reading("other", confidence=1.0, reasons=("reading.is_choice",), language=reading.language)
        memory = wish.memory if isinstance(wish, WardMemory) else None
        language = citizen.remembered.language or reading.language
        if isinstance(wish, Choice) and wish.subject == "language":
            language = "en" if wish.value == "en" else "vi"
            memory = Memory("speaks", language=language)
        page_unit = view.unit_of_page(message.page)
        reply = replace(
            _draft(Answer(self.choices.template(wish)), reading, assignment.unit, view, language),
            choice=self.choices.name_of(wish, language),
            buttons=self.choices.buttons(wish, view, page_unit.slug if page_unit else None, language),
        )
        decision = _decision(message, reading, assignment, None, ["message.no_case_needed"], reply=reply)
        return replace(decision, choice=wish if isinstance(wish, Choice) else None, memory=memory)

    def _with_consent_asked(self, decision: Decision, reply: ReplyDraft, unit: Unit) -> Decision:
        """The ward was just told with a button: ask, once for a person, whether it is theirs to be remembered."""
        name, buttons = ward_name(unit, reply.language), self.choices.consent_buttons(unit, reply.language)
        reply = replace(reply, consent=True, choice=name, buttons=buttons)
        return replace(decision, reply=reply, memory=Memory("asked"), reasons=(*decision.reasons, "home.asked"))

    def _with_language_offered(self, decision: Decision, chosen: Language | None) -> Decision:
        """A button for the language: under a greeting the other one, and English where it was only guessed.

        Never in an emergency, and not beside a question.
        """
        reply = decision.reply
        if reply is None or reply.is_emergency or reply.question or reply.consent:
            return decision
        is_greeting = reply.template.startswith("greeting.")
        if not is_greeting and (chosen is not None or reply.language == "vi"):
            return decision
        offered: Language = "vi" if chosen == "en" else "en"
        return replace(decision, reply=replace(reply, buttons=(*reply.buttons, self.choices.language_button(offered))))

    # ------------------------------------------------------------------ which case

    def _target(
        self, message: CitizenMessageReceived, reading: Reading, citizen: Citizen, piece: Case | None
    ) -> "Case | str | None":
        """The case to join, the matter to open, or None where no case is needed."""
        latest = next(iter(citizen.open_cases()), None)
        if latest is not None and message.received_at - latest.last_message_at > self._hours("follow_up_hours"):
            latest = None
        if reading.cancels:
            doubted = "conversation" if reading.needs_person else None
            return citizen.open_for("incident") or latest or doubted
        if reading.asks_for_person and reading.category not in (*INCIDENTS, "complaint"):
            return latest or self._reopenable(message, citizen) or citizen.open_for("conversation") or "conversation"
        matter = matter_of(reading)
        if matter is not None:
            return citizen.open_for(matter) or (piece if _becomes(piece, reading) else None) or matter
        if latest is not None:
            return latest
        return (citizen.open_for("conversation") or "conversation") if has_content(reading) else None

    def _reopenable(self, message: CitizenMessageReceived, citizen: Citizen) -> Case | None:
        open_matters = {case.matter for case in citizen.open_cases()}
        since = message.received_at - self._hours("reopen_hours")
        closed = [
            case
            for case in citizen.cases.values()
            if not case.is_open and case.last_message_at > since and case.matter not in open_matters
        ]
        return max(closed, key=lambda c: (c.last_message_at, c.case_id), default=None)

    def _hours(self, window: str) -> timedelta:
        return timedelta(hours=getattr(self.levels.windows, window))

    # ------------------------------------------------------------------ no case

    def _without_case(
        self,
        message: CitizenMessageReceived,
        reading: Reading,
        assignment: Assignment,
        answer: Answer | None,
        citizen: Citizen,
        view: DirectoryView,
        language: Language,
    ) -> Decision:
        reasons = ["message.no_case_needed"]
        reply = None
        if answer is None:
            reasons.append("answer.not_needed")
        elif _is_recent(citizen.recent_replies.get(answer.template), message, self._hours("greeting_hours")):
            reasons.append("answer.already_given")
        else:
            reasons.append(answer.reason)
            reply = _draft(answer, reading, assignment.unit, view, language)
            citizen.recent_replies[answer.template] = message.received_at
        return _decision(message, reading, assignment, None, reasons, reply=reply)

    # ------------------------------------------------------------------ a case

    def _with_case(
        self,
        message: CitizenMessageReceived,
        reading: Reading,
        assignment: Assignment,
        answer: Answer | None,
        target: "Case | str",
        view: DirectoryView,
        language: Language,
        *,
        is_piece: bool,
    ) -> Decision:
        before = target if isinstance(target, Case) else None
        answer = _answer_in_case(answer, reading, before)
        level = self.levels.level_of(reading.category, reading.urgency, reading.topics)
        if isinstance(target, Case):
            after, reasons = self._joined(target, message, reading, assignment, answer, level, is_piece=is_piece)
        else:
            after, reasons = self._opened(target, message, reading, assignment, answer, level)
        reply = None
        if answer is None:
            reasons.append("answer.not_needed")
        elif (is_piece and _was_just_given(before, answer, message)) or (
            not answer.is_direct and self._is_given(before, answer, message, reading)
        ):
            reasons.append("answer.already_given")
        else:
            reasons.append(answer.reason)
            reply = _draft(answer, reading, after.unit, view, language)
            after = _remember(after, answer, message)
            if _may_ask(after, reading, assignment):
                reply = replace(reply, question=tuple(ward_name(view.units[slug]) for slug in assignment.candidates))
                after = replace(after, asked=assignment.candidates)
                reasons.append("unit.asked")
            if answer.closes and _times(after, answer) >= self.levels.windows.repeated_question and before:
                after = self._to_person(after, message, level)
                reasons.append("case.question_repeated")
        after = replace(
            after,
            reasons=tuple(dict.fromkeys((*after.reasons, *reading.reasons, *assignment.reasons, *reasons)))[
                -MAX_REASONS:
            ],
            citizen_version=after.citizen_version + 1,
        )
        change = CaseChange(before, after)
        entry = Entry("joined" if before else "opened", after.case_id, tuple(reasons), _told_changes(change))
        return _decision(message, reading, assignment, after.case_id, reasons, (change,), (entry,), reply)

    def _opened(
        self,
        matter: str,
        message: CitizenMessageReceived,
        reading: Reading,
        assignment: Assignment,
        answer: Answer | None,
        level: ServiceLevel,
    ) -> tuple[Case, list[str]]:
        is_answered = answer is not None and answer.closes
        at = message.received_at
        case = Case(
            case_id=deterministic_id("case", message.event_id, matter),
            code="",
            citizen_key=message.citizen_key,
            page=message.page,
            oa_id=message.oa_id,
            user_id=message.user_id,
            user_id_by_app=message.user_id_by_app,
            conversation_id=message.conversation_id,
            matter=matter,
            category=reading.category,
            subtopic=reading.subtopic,
            urgency=reading.urgency,
            priority=level.priority,
            unit=assignment.unit,
            unit_basis=assignment.basis,
            state="answered_automatically" if is_answered else "waiting_officer",
            is_open=True,
            open_key=message.citizen_key,
            needs_person=not is_answered,
            opened_at=at,
            channel=message.channel,
            correlation_id=message.correlation_id,
            confidence=reading.confidence,
            last_message_at=message.sent_at,
            due_at=None if is_answered else level.due_at(at, self.levels.working_time),
            closes_at=at + self._hours("answered_closes_after_hours") if is_answered else None,
            doubts=tuple(dict.fromkeys((*reading.doubts, *assignment.doubts))),
            evidence=tuple(dict.fromkeys((*reading.evidence, *assignment.evidence))),
        )
        return case, ["case.opened"]

    def _joined(
        self,
        case: Case,
        message: CitizenMessageReceived,
        reading: Reading,
        assignment: Assignment,
        answer: Answer | None,
        level: ServiceLevel,
        *,
        is_piece: bool,
    ) -> tuple[Case, list[str]]:
        reasons = ["case.joined"] if case.is_open else ["case.reopened"]
        at = message.received_at
        after = replace(
            case,
            is_open=True,
            open_key=case.citizen_key,
            closed_at=None,
            last_message_at=max(case.last_message_at, message.sent_at),
            conversation_id=message.conversation_id or case.conversation_id,
            doubts=tuple(dict.fromkeys((*case.doubts, *reading.doubts, *assignment.doubts)))[-MAX_REASONS:],
            evidence=tuple(dict.fromkeys((*case.evidence, *reading.evidence, *assignment.evidence)))[-MAX_REASONS:],
        )
        matter = matter_of(reading)
        has_matter = matter is not None
        if is_piece and matter is not None and _becomes(case, reading):
            after = replace(after, matter=matter)
            reasons.append("case.matter_understood")
        if has_matter and PRECEDENCE.index(reading.category) < PRECEDENCE.index(case.category):
            after = replace(after, category=reading.category, subtopic=reading.subtopic)
            reasons.append("case.escalated")
        if URGENCY_ORDER.index(reading.urgency) < URGENCY_ORDER.index(case.urgency):
            after = replace(after, urgency=reading.urgency)
        if has_matter and level.priority < case.priority:
            after = replace(after, priority=level.priority)
        after, moved = _moved(after, message, assignment, has_matter=has_matter)
        reasons += moved
        if self._wants_person(reading, answer):
            if after.state != "waiting_officer":
                reasons.append("case.handed_to_person")
            after = self._to_person(after, message, level)
        elif answer is not None and answer.closes and (case.state != "waiting_officer" or after.matter != case.matter):
            after = replace(after, needs_person=False, due_at=None)
            closes_at = at + self._hours("answered_closes_after_hours")
            after = replace(after, state="answered_automatically", closes_at=closes_at)
        return after, reasons

    def _to_person(self, case: Case, message: CitizenMessageReceived, level: ServiceLevel) -> Case:
        """A person has to act; a deadline that stands is never put off."""
        due_at = level.due_at(message.received_at, self.levels.working_time)
        if case.state == "waiting_officer" and case.due_at is not None:
            due_at = min(case.due_at, due_at)
        return replace(case, state="waiting_officer", needs_person=True, due_at=due_at, closes_at=None)

    @staticmethod
    def _wants_person(reading: Reading, answer: Answer | None) -> bool:
        """Whether somebody has to look; thanks, stickers and what was answered completely need nobody."""
        if reading.asks_for_person or reading.cancels:
            return True
        if answer is not None and answer.closes:
            return False
        return matter_of(reading) is not None or has_content(reading)

    def _is_given(self, before: Case | None, answer: Answer, message: CitizenMessageReceived, reading: Reading) -> bool:
        if before is None:
            return False
        same = [g.at for g in before.given if g.template == answer.template]
        if answer.template == FOLLOW_UP and before.state == "waiting_officer":
            same = [g.at for g in before.given]  # five bubbles of one thought need one acknowledgement
        last = max(same, default=None)
        if reading.category == "greeting":
            return _is_recent(last, message, self._hours("greeting_hours"))
        return _is_recent(last, message, timedelta(minutes=self.levels.windows.acknowledgement_minutes))


def _kept_in_mind(decision: Decision, citizen: Citizen) -> Decision:
    """Bring what is remembered up to date; what was said before a withdrawal is not remembered."""
    memory, message = decision.memory, decision.message
    if memory is None:
        return decision
    if not citizen.remembered.may_keep(message.sent_at):
        return replace(decision, memory=None, reasons=(*decision.reasons, "home.withdrawn"))
    citizen.remembered = citizen.remembered.after(memory, at=message.sent_at, event_id=message.event_id)
    return decision


def _becomes(case: Case | None, reading: Reading) -> bool:
    """Whether the case of an earlier bubble was not understood yet, or turns out to be more serious."""
    if case is None or not case.is_open or case.first_response_at is not None:
        return False
    is_more = PRECEDENCE.index(reading.category) < PRECEDENCE.index(case.category)
    return case.matter == "conversation" or (is_more and "reading.in_pieces" in reading.reasons)


def _was_just_given(case: Case | None, answer: Answer, message: CitizenMessageReceived) -> bool:
    given = (g.at for g in (case.given if case else ()) if g.template == answer.template)
    return _is_recent(max(given, default=None), message, 2 * TOGETHER)


def _may_ask(case: Case, reading: Reading, assignment: Assignment) -> bool:
    """One question a case, and none to somebody in danger: they are told to call."""
    return (
        len(assignment.candidates) > 1
        and not case.asked
        and reading.category not in {"emergency", "greeting", "other"}
        and case.urgency != "emergency"
    )


def _case_that_asked(message: CitizenMessageReceived, citizen: Citizen, view: DirectoryView) -> tuple[Case, str] | None:
    """The open case whose question this text answers with one of its buttons, and the unit it names."""
    asking = [case for case in citizen.open_cases() if case.asked]
    if not asking or len(message.text) > MAX_BUTTON_CHARACTERS or not (said := fold(message.text).plain):
        return None
    for case in asking:
        for slug in case.asked:
            if slug in view.units and said == fold(ward_name(view.units[slug])).plain:
                return case, slug
    return None


def matter_of(reading: Reading) -> str | None:
    """The matter a message belongs to by itself; None where it only continues something."""
    if reading.category in INCIDENTS:
        return "incident"
    if reading.category == "complaint":
        return "complaint"
    if reading.category == "procedure":
        return f"procedure.{reading.subtopic}"
    if reading.category == "other" and set(reading.topics) & OTHER_BODIES:
        return "conversation"
    return None


OTHER_BODIES = frozenset({"birth_marriage", "land", "tax_insurance", "civil"})
"""Topics that other bodies handle: a question all the same, answered with where to go."""


def has_content(reading: Reading) -> bool:
    """Whether there is something that only a person can read: an unknown text, a picture, a voice, a place."""
    return reading.category in {"other", "greeting"} and (
        reading.needs_person or any(reason.startswith("reading.only_") for reason in reading.reasons)
    )


FOLLOW_UP = "follow_up.noted"


def _answer_in_case(answer: Answer | None, reading: Reading, before: Case | None) -> Answer | None:
    """What a case makes of the answer: a cancel, a wish for a person, a further bubble of the same matter."""
    if reading.cancels:
        return Answer("cancel.noted")
    if reading.asks_for_person and reading.category not in (*INCIDENTS, "complaint"):
        return Answer("person.requested")
    if before is None or answer is None or answer.is_direct or reading.category in {"emergency", "greeting"}:
        return answer
    is_first = all(given.template != answer.template for given in before.given)
    if is_first and (not has_content(reading) or before.matter == "conversation"):
        return answer
    return replace(answer, template=FOLLOW_UP)


def _moved(
    case: Case, message: CitizenMessageReceived, assignment: Assignment, *, has_matter: bool
) -> tuple[Case, list[str]]:
    """Move a case to a unit with a stronger basis, as long as no officer has answered."""
    names_place = has_matter or message.location is not None or assignment.basis in {"place", "told"}
    if assignment.unit == case.unit or not names_place:
        return case, []
    if BASIS_STRENGTH[assignment.basis] > BASIS_STRENGTH[case.unit_basis] and case.first_response_at is None:
        return replace(case, unit=assignment.unit, unit_basis=assignment.basis), ["unit.moved"]
    if assignment.basis in {"place", "location"}:
        doubts = tuple(dict.fromkeys((*case.doubts, "unit.other_place_named")))
        return replace(case, doubts=doubts), ["unit.other_place_named"]
    return case, []


def _closed_by_itself(case: Case, at: datetime) -> CaseChange:
    after = replace(
        case,
        is_open=False,
        open_key=None,
        state="closed_by_itself",
        closed_at=case.closes_at or at,
        citizen_version=case.citizen_version + 1,
    )
    return CaseChange(case, after)


def _is_recent(last: datetime | None, message: CitizenMessageReceived, window: timedelta) -> bool:
    return last is not None and abs(message.received_at - last) < window


def _remember(case: Case, answer: Answer, message: CitizenMessageReceived) -> Case:
    others = tuple(given for given in case.given if given.template != answer.template)
    return replace(case, given=(*others, Given(answer.template, message.received_at, _times(case, answer) + 1)))


def _times(case: Case, answer: Answer) -> int:
    return next((given.times for given in case.given if given.template == answer.template), 0)


def _draft(answer: Answer, reading: Reading, unit: str, view: DirectoryView, language: Language) -> ReplyDraft:
    known = view.units.get(unit) or view.district()
    return ReplyDraft(
        template=answer.template,
        language=language,
        unit_name=known.name_en if language == "en" else known.name,
        is_emergency=reading.category == "emergency",
    )


_TOLD = ("category", "urgency", "unit", "state", "due_at")


def _told_changes(change: CaseChange) -> tuple[tuple[str, str | None, str | None], ...]:
    """The changes an officer wants to see in the history."""
    told = []
    for name in _TOLD:
        old = getattr(change.before, name) if change.before else None
        new = getattr(change.after, name)
        if old != new:
            told.append((name, _as_text(old), _as_text(new)))
    return tuple(told)


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _decision(
    message: CitizenMessageReceived,
    reading: Reading,
    assignment: Assignment,
    case_id: str | None,
    reasons: Sequence[str],
    changes: tuple[CaseChange, ...] = (),
    entries: tuple[Entry, ...] = (),
    reply: ReplyDraft | None = None,
) -> Decision:
    everything = tuple(
        dict.fromkeys((*reading.reasons, *assignment.reasons, *reading.doubts, *assignment.doubts, *reasons))
    )
    return Decision(message, reading, assignment, case_id, everything, changes, entries, reply)


def to_reply(
    decision: Decision, answers: AnswerBook, codes: Mapping[str, str], decided_at: datetime
) -> ReplyRequested | None:
    """The event that asks for the answer; its id derives from the message and the template."""
    draft, message = decision.reply, decision.message
    if draft is None:
        return None
    code = codes[decision.case_id] if decision.case_id else None
    text = answers.text(
        draft.template, language=draft.language, case_code=code or "", unit=draft.unit_name, choice=draft.choice
    ).strip()
    if draft.consent:
        asks = answers.text("home.question", language=draft.language, case_code="", unit="", choice=draft.choice)
        text = f"{text}\n\n{asks.strip()}"
    if draft.question:
        asks = answers.text("question.which_ward", language=draft.language, case_code="", unit="")
        text = f"{text}\n\n{asks.strip()}"
    return ReplyRequested(
        event_id=deterministic_id("reply", message.event_id, draft.template),
        occurred_at=decided_at,
        correlation_id=message.correlation_id,
        page=message.page,
        oa_id=message.oa_id,
        user_id=message.user_id,
        user_id_by_app=message.user_id_by_app,
        answers_event_id=message.event_id,
        case_code=code,
        origin="automatic",
        template=draft.template,
        is_emergency=draft.is_emergency,
        content=ReplyContent(
            text=text,
            buttons=(
                *answers.buttons(draft.template, language=draft.language, choices=draft.question),
                *draft.buttons,
            ),
        ),
        conversation_id=message.conversation_id,
        interaction_at=message.sent_at,
    )


def to_choice(decision: Decision, decided_at: datetime) -> CitizenChose | None:
    """The event that tells what the citizen chose; its id derives from the message."""
    choice, message = decision.choice, decision.message
    if choice is None:
        return None
    return CitizenChose(
        event_id=deterministic_id("choice", message.event_id),
        occurred_at=decided_at,
        correlation_id=message.correlation_id,
        page=message.page,
        oa_id=message.oa_id,
        user_id=message.user_id,
        user_id_by_app=message.user_id_by_app,
        subject=choice.subject,
        value=choice.value,
        is_on=choice.is_on,
        chosen_at=message.sent_at,
    )


def opened_cases(decisions: Iterable[Decision]) -> list[Case]:
    """The cases that a batch opens, in order."""
    return [change.after for decision in decisions for change in decision.changes if change.before is None]
