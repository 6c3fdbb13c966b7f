"""Stand-ins for what the router's handlers need, and the real rules, model and messages of the data files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from services.router.adapters.data_files import (
    load_answers,
    load_choices,
    load_rules,
    load_service_levels,
    load_understanding,
    load_unit_resolver,
)
from services.router.domain.cases import Case, Desk
from services.router.domain.layers import LayeredUnderstanding
from services.router.domain.memory import NEVER, Memory, Remembered, person_of, remembered
from services.router.domain.officers import OfficerEffect
from services.router.domain.pieces import Piece
from services.router.domain.plans import CaseEntry, Plan, PlannedMessage, broken_inserts, case_writes
from services.router.domain.waiting import WaitingCase
from services.router.errors import CaseMoved
from services.router.handlers.citizen_messages import MessageDeps, assign_messages
from services.router.handlers.officer_actions import OfficerDeps
from services.router.learning.corpus import Example, load_messages
from shared.directory import load_directory
from shared.errors import StoreUnavailable
from shared.events import CitizenChose, CitizenMessageReceived, ReplyRequested
from shared.kafka import Received
from tests.factories import NOW, a_message

HERE = Path(__file__).parent
DATA = Path(__file__).resolve().parents[3] / "data"
DIRECTORY = load_directory(DATA)
VIEW = DIRECTORY.as_of(NOW.date())
RULES = load_rules(DATA)
UNITS = load_unit_resolver(DATA, DIRECTORY)
LEVELS = load_service_levels(DATA)
DEMO_ANSWERS = load_answers(DATA, allows_unapproved=True)
OFFICIAL_ANSWERS = load_answers(DATA, allows_unapproved=False)
CHOICES = load_choices(DATA, DIRECTORY)
DEMO_DESK = Desk(LEVELS, DEMO_ANSWERS, CHOICES)
OFFICIAL_DESK = Desk(LEVELS, OFFICIAL_ANSWERS, CHOICES)


# Each process of a test run imports all files and runs some of them: what takes long is read where a test asks for it.


@cache
def understanding() -> LayeredUnderstanding:
    """Rules, model and policy as the router runs them."""
    return load_understanding(DATA)


@cache
def written_messages() -> list[Example]:
    """What the model is trained on."""
    return load_messages(DATA / "understanding" / "messages")


@dataclass
class FakeCaseStore:
    """A database in memory that can fail after any single effect.

    Attributes:
        fails_after: the number of effects that get through before the store is unavailable; None never fails.
        round_trips: how often it was asked.
    """

    messages: dict[str, PlannedMessage] = field(default_factory=dict)
    cases: dict[str, Case] = field(default_factory=dict)
    entries: dict[str, CaseEntry] = field(default_factory=dict)
    numbers: dict[date, int] = field(default_factory=dict)
    officer_events: set[tuple[str, str]] = field(default_factory=set)
    withdrawals: dict[str, datetime] = field(default_factory=dict)
    fails_after: int | None = None
    round_trips: int = 0

    def effect(self) -> None:
        """One write got through; the next may not."""
        if self.fails_after is not None:
            if self.fails_after == 0:
                raise StoreUnavailable("crash point")
            self.fails_after -= 1

    async def plans_of(self, event_ids: Sequence[str]) -> dict[str, Plan]:
        self.round_trips += 1
        return {i: self.messages[i].plan for i in event_ids if i in self.messages}

    async def open_cases(self, citizen_keys: Sequence[str]) -> list[Case]:
        self.round_trips += 1
        return [case for case in self.cases.values() if case.citizen_key in citizen_keys and case.is_open]

    async def cases_with_ids(self, case_ids: Sequence[str]) -> list[Case]:
        self.round_trips += 1
        return [self.cases[i] for i in case_ids if i in self.cases]

    async def closed_cases(self, citizen_keys: Sequence[str], *, since: datetime, until: datetime) -> list[Case]:
        self.round_trips += 1
        mine = [case for case in self.cases.values() if case.citizen_key in citizen_keys and not case.is_open]
        return [case for case in mine if since < case.last_message_at < until]

    async def waiting_cases(self, limit: int) -> list[WaitingCase]:
        waiting = [case for case in self.cases.values() if case.state == "waiting_officer" and case.due_at]
        found = [WaitingCase(c.unit, c.urgency == "emergency", c.due_at) for c in waiting if c.due_at]
        return sorted(found, key=lambda case: case.due_at)[:limit]

    async def cases_with_codes(self, codes: Sequence[str]) -> dict[str, Case]:
        self.round_trips += 1
        return {case.code: case for case in self.cases.values() if case.code in codes}

    async def recent_replies(
        self, citizen_keys: Sequence[str], *, since: datetime, until: datetime
    ) -> dict[str, dict[str, datetime]]:
        self.round_trips += 1
        given: dict[str, dict[str, datetime]] = {}
        for one in self.messages.values():
            message, reply = one.message, one.plan.reply
            is_asked = message.citizen_key in citizen_keys and since < message.received_at < until
            if is_asked and reply is not None and one.plan.case_id is None:
                times = given.setdefault(message.citizen_key, {})
                times[reply.template] = max(message.received_at, times.get(reply.template, message.received_at))
        return given

    async def recent_texts(self, citizen_keys: Sequence[str], *, since: datetime, until: datetime) -> list[Piece]:
        self.round_trips += 1
        return [
            Piece(
                one.message.event_id,
                one.message.citizen_key,
                one.message.sent_at,
                one.message.text,
                one.decision.reading.category,
                one.message.location,
                one.plan.case_id,
            )
            for one in self.messages.values()
            if one.message.citizen_key in citizen_keys and since < one.message.sent_at < until
        ]

    async def remembered(self, persons: Sequence[str]) -> dict[str, Remembered]:
        self.round_trips += 1
        found: dict[str, list[tuple[datetime, str, Memory]]] = {person: [] for person in self.withdrawals}
        for one in self.messages.values():
            if (memory := one.decision.memory) is not None:
                entry = (one.message.sent_at, one.message.event_id, memory)
                found.setdefault(person_of(one.message), []).append(entry)
        return {
            person: remembered(memories, withdrawn_at=self.withdrawals.get(person, NEVER))
            for person, memories in found.items()
            if person in persons
        }

    async def forget(self, persons: Sequence[str], *, until: datetime) -> None:
        for person in persons:
            self.withdrawals[person] = max(until, self.withdrawals.get(person, NEVER))
        for event_id, one in self.messages.items():
            if person_of(one.message) in persons and one.message.sent_at <= until:
                self.messages[event_id] = replace(one, decision=replace(one.decision, memory=None))

    async def take_numbers(self, day: date, count: int) -> range:
        self.round_trips += 1
        last = self.numbers[day] = self.numbers.get(day, 0) + count
        self.effect()
        return range(last - count + 1, last + 1)

    async def record(self, planned: Sequence[PlannedMessage]) -> None:
        self.round_trips += 1
        for one in planned:
            if one.plan.event_id in self.messages:
                raise CaseMoved(one.plan.event_id)
            self.effect()
            self.messages[one.plan.event_id] = one

    async def carry_out(self, plans: Sequence[Plan], stored: Mapping[str, int]) -> None:
        self.round_trips += 1
        writes = case_writes(plans, stored)
        if broken_inserts(writes):
            raise CaseMoved("not opened")
        for (case_id, version), values in writes.updates.items():
            self.effect()
            if self.cases[case_id].citizen_version != version:
                raise CaseMoved(case_id)
            self.cases[case_id] = replace(self.cases[case_id], **values)
            self._check_one_open_case_a_matter()
        for case_id, values in writes.inserts.items():
            self.effect()
            self.cases.setdefault(case_id, Case(**values))
            self._check_one_open_case_a_matter()
        for plan in plans:
            for entry in plan.entries:
                self.effect()
                self.entries.setdefault(entry.entry_id, entry)

    def _check_one_open_case_a_matter(self) -> None:
        held = [(case.citizen_key, case.matter) for case in self.cases.values() if case.is_open]
        assert len(held) == len(set(held)), "two open cases of one matter"

    async def apply_officer_effects(self, effects: Sequence[OfficerEffect]) -> None:
        self.round_trips += 1
        for effect in effects:
            self.effect()
            self.entries.setdefault(effect.entry.entry_id, effect.entry)
        for effect in effects:
            self.effect()
            case = self.cases[effect.case_id]
            if (effect.case_id, effect.event_id) not in self.officer_events:
                self.officer_events.add((effect.case_id, effect.event_id))
                case = replace(case, **effect.values)
            self.cases[effect.case_id] = replace(case, first_response_at=case.first_response_at or effect.responded_at)


@dataclass
class Office:
    """A router in memory: what was stored, what was asked for."""

    store: FakeCaseStore = field(default_factory=FakeCaseStore)
    replies: list[ReplyRequested] = field(default_factory=list)
    choices: list[CitizenChose] = field(default_factory=list)
    desk: Desk = DEMO_DESK
    understanding: Any = RULES
    units: Any = UNITS

    async def publish(self, replies: Sequence[ReplyRequested]) -> None:
        for reply in replies:
            self.store.effect()
            self.replies.append(reply)

    async def publish_choices(self, choices: Sequence[CitizenChose]) -> None:
        for choice in choices:
            self.store.effect()
            self.choices.append(choice)

    @property
    def deps(self) -> MessageDeps:
        return MessageDeps(
            store=self.store,
            understanding=self.understanding,
            responsible_unit=self.units,
            directory=DIRECTORY,
            desk=self.desk,
            publish_replies=self.publish,
            publish_choices=self.publish_choices,
            now=lambda: NOW,
        )

    @property
    def officer_deps(self) -> OfficerDeps:
        return OfficerDeps(store=self.store, levels=self.desk.levels, publish_replies=self.publish, now=lambda: NOW)

    async def receive(self, *messages: CitizenMessageReceived) -> None:
        """Handle one batch."""
        await assign_messages(as_received(messages), self.deps)

    async def write(self, text: str, **changes: Any) -> CitizenMessageReceived:
        """A citizen writes, and it is handled at once."""
        message = a_message(text=text, **changes)
        await self.receive(message)
        return message

    @property
    def only_case(self) -> Case:
        (case,) = self.store.cases.values()
        return case

    @property
    def templates(self) -> list[str]:
        """Templates of the replies asked for, each reply once, in order."""
        return [reply.template for reply in {reply.event_id: reply for reply in self.replies}.values()]

    def reasons_of(self, message: CitizenMessageReceived) -> tuple[str, ...]:
        return self.store.messages[message.event_id].decision.reasons


def as_received(messages: Sequence[CitizenMessageReceived]) -> list[Received[CitizenMessageReceived]]:
    return [Received(message, partition=0, offset=offset) for offset, message in enumerate(messages)]
