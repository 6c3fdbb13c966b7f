"""Broadcasts as a state machine: two replicas, lost answers, deaths, outages, pauses, opt-outs and echoes in any order.

What must hold, always: Zalo takes each copy at most once; the states add up to the audience; a person has at most one
ordinary broadcast a day from all of them; nothing is sent while paused, nor to whom opted out. At the end, when echoes
have come: every copy that Zalo has is `sent`, no other is, and only what nobody can know is left uncertain.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.notifier.adapters.lane_rules import load_lane_book
from services.notifier.adapters.zalo_copies import Address, Form
from services.notifier.domain.audience import ContactView
from services.notifier.domain.broadcast import act
from services.notifier.domain.lanes import Hours, Reach
from services.notifier.domain.outcomes import Accepted, NotSent, Refused, SendOutcome, Unknown
from services.notifier.domain.rulebook import Rulebook
from services.notifier.domain.settlement import Proof
from services.notifier.handlers import send_copies
from services.notifier.handlers.send_broadcasts import BroadcastRunner
from services.notifier.handlers.send_copies import BroadcastAdapters, BroadcastLimits
from services.notifier.handlers.settle import ByList, Settlement
from shared.directory import Directory
from shared.errors import StoreUnavailable
from shared.ids import citizen_key, deterministic_id, text_digest
from tests.factories import OA_ID, PAGE, a_report
from tests.properties import examples
from tests.unit.notifier.broadcast_stage import approved, done
from tests.unit.notifier.fake_broadcasts import FakeBroadcastStore
from tests.unit.notifier.fake_copies import FakeAudience, FakeCopies
from tests.unit.notifier.fakes import (
    DATA_DIR,
    LEASE,
    RULES,
    SKEW,
    FakeConversations,
    FakeLedger,
    FakeRates,
    FakeReports,
    FakeTokens,
    ManualClock,
)
from tests.unit.notifier.samples import APP_ID

T = TypeVar("T")
PEOPLE = 6
NAMES = ("b1", "b2")
STAYS_OPEN = timedelta(days=3_650)

Fate = Literal["accepted", "applied_and_lost", "lost", "refused", "again", "unreachable", "dies_before", "dies_after"]
FATES: tuple[Fate, ...] = (
    "accepted",
    "accepted",
    "applied_and_lost",
    "lost",
    "refused",
    "again",
    "unreachable",
    "dies_before",
    "dies_after",
)


class ProcessDied(BaseException):
    """The replica is gone in the middle of its calls."""


class BroadcastMachine(RuleBasedStateMachine):
    """Everything that may happen to two broadcasts, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.patches: list[Any] = [
            patch.object(send_copies, "STORE_PAUSE_SECONDS", 0.0),
            patch("secrets.randbelow", lambda _: 0),
        ]
        for one in self.patches:
            one.start()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.broadcasts = FakeBroadcastStore()
        self.copies = FakeCopies(self.clock, lease=LEASE)
        self.audience = FakeAudience()
        self.reports = FakeReports()
        self.conversations = FakeConversations()
        self.settlement = Settlement(
            self.copies,
            self.reports,
            self.clock,
            skew=SKEW,
            checks=RULES.uncertain_checks,
            others=[FakeLedger(self.clock)],
            by_list=ByList(self.conversations, RULES.copy_look_up),
        )
        book = load_lane_book(DATA_DIR)
        policies = tuple(replace(policy, quiet_hours=Hours(0, 0)) for policy in book.policies)
        # No window closes while the machine lets days pass: that is another test's matter.
        self.delivery = replace(
            RULES, windows=tuple(replace(w, free=STAYS_OPEN, allowed=STAYS_OPEN) for w in RULES.windows)
        )
        self.book = replace(book, policies=policies)
        self.runners = [self.a_runner(), self.a_runner()]
        self.fates: list[Fate] = []
        self.applied: Counter[tuple[str, str]] = Counter()
        self.moments: dict[str, list[datetime]] = {}
        self.messages: list[tuple[str, str, str, datetime, bool]] = []  # id, broadcast, user, moment, echo delivered
        for number in range(PEOPLE):
            self.audience.contacts[deterministic_id("person", str(number))] = [self.contact(number)]

    def contact(self, number: int, *, opted_out: bool = False) -> ContactView:
        user_id = f"2{number:018d}"
        reach = Reach(
            citizen_key(OA_ID, user_id), PAGE, OA_ID, user_id, opted_out=opted_out, last_interaction_at=self.clock.now()
        )
        return ContactView(deterministic_id("person", str(number)), reach, followed_at=self.clock.now())

    def a_runner(self) -> BroadcastRunner:
        outside = BroadcastAdapters(
            self.broadcasts, self.copies, self.audience, FakeRates(), FakeTokens(), self, self.clock
        )
        limits = BroadcastLimits(
            workers=1,
            wave=2,
            chunk_persons=3,
            lease=LEASE,
            call_timeout=timedelta(seconds=10),
            lease_margin=timedelta(seconds=2),
            poll_seconds=0.01,
            stop_seconds=1.0,
        )
        rulebook = Rulebook(self.delivery, self.book, Directory((), ()))
        return BroadcastRunner(outside, self.settlement, rulebook, {OA_ID: APP_ID}, limits)

    def teardown(self) -> None:
        try:
            self.run(self.end())
        finally:
            for one in self.patches:
                one.stop()
            self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    # Zalo

    async def send(self, form: Form, addresses: Sequence[Address]) -> list[SendOutcome]:
        await asyncio.sleep(0)
        found = re.search(r"Thong bao (b\d)", (form.before + form.after).decode())
        assert found is not None
        return [self.on_call(found[1], address.user_id) for address in addresses]

    def on_call(self, broadcast_id: str, user_id: str) -> SendOutcome:
        assert not self.audience.contacts[self.person_of(user_id)][0].reach.opted_out, "sent to whom opted out"
        fate = self.fates.pop() if self.fates else "accepted"
        match fate:
            case "accepted":
                return Accepted(self.apply(broadcast_id, user_id))
            case "applied_and_lost":
                self.apply(broadcast_id, user_id)
                return Unknown("zalo.answer_lost", "reset")
            case "lost":
                return Unknown("zalo.answer_lost", "reset")
            case "refused":
                return Refused(-213, RULES.errors.codes[-213].usual)
            case "again":
                return Refused(-200, RULES.errors.codes[-200].usual)
            case "unreachable":
                return NotSent("refused")
            case "dies_after":
                self.apply(broadcast_id, user_id)
        raise ProcessDied

    @staticmethod
    def person_of(user_id: str) -> str:
        return deterministic_id("person", str(int(user_id[1:])))

    def apply(self, broadcast_id: str, user_id: str) -> str:
        self.applied[broadcast_id, user_id] += 1
        assert self.applied[broadcast_id, user_id] == 1, "Zalo got the copy twice"
        now = self.clock.now()
        before = self.moments.setdefault(user_id, [])
        assert not [at for at in before if now - at < timedelta(days=1)], "two broadcasts in a day"
        before.append(now)
        self.messages.append((f"m{len(self.messages)}", broadcast_id, user_id, now, False))
        digest = text_digest(f"Thong bao {broadcast_id}")
        key = citizen_key(OA_ID, user_id)
        self.conversations.listed.append(Proof(self.messages[-1][0], key, "listed", digest, now))
        return self.messages[-1][0]

    # What happens

    @precondition(lambda self: len(self.broadcasts.broadcasts) < len(NAMES))
    @rule(forecast=st.sampled_from([0, PEOPLE]))
    def schedule(self, forecast: int) -> None:
        name = NAMES[len(self.broadcasts.broadcasts)]
        new = approved(name, at=self.clock.now(), people=forecast, text=f"Thong bao {name}", is_emergency=False)
        self.run(self.broadcasts.create(replace(new, version=0)))

    @rule(
        replicas=st.sampled_from([(0,), (1,), (0, 1)]),
        fates=st.lists(st.sampled_from(FATES), max_size=4),
        outages=st.lists(st.booleans(), max_size=2),
    )
    def work(self, replicas: tuple[int, ...], fates: list[Fate], outages: list[bool]) -> None:
        self.run(self._work(replicas, fates, outages))

    async def _work(self, replicas: tuple[int, ...], fates: list[Fate], outages: list[bool]) -> None:
        for replica in replicas:
            await self.runners[replica].look()
            await self.runners[replica].see_open_chunks()
            await self.runners[replica].build_all()
            await self.runners[replica].look()
        self.fates, self.copies.outages = list(fates), list(outages)
        ends = await asyncio.gather(*map(self._one_chunk, replicas))
        self.fates, self.copies.outages = [], []
        for replica, died in zip(replicas, ends, strict=True):
            if died:
                self.runners[replica] = self.a_runner()

    async def _one_chunk(self, replica: int) -> bool:
        try:
            with suppress(StoreUnavailable):
                await self.runners[replica].work_once()
        except ProcessDied:
            return True
        return False

    @rule(name=st.sampled_from(NAMES), action=st.sampled_from(["pause", "resume", "resume", "cancel"]))
    def person_acts(self, name: str, action: Any) -> None:
        broadcast = self.broadcasts.broadcasts.get(name)
        may = {"pause": {"running"}, "resume": {"paused"}, "cancel": {"running", "paused", "scheduled"}}[action]
        if broadcast is not None and broadcast.state in may:
            assert self.run(self.broadcasts.save(done(act(broadcast, action, by="an", at=self.clock.now()))))

    @rule(number=st.integers(0, PEOPLE - 1), opted_out=st.booleans())
    def citizen_chooses(self, number: int, opted_out: bool) -> None:
        self.audience.contacts[deterministic_id("person", str(number))] = [self.contact(number, opted_out=opted_out)]

    @rule(seconds=st.sampled_from([1, 6, 20, 61, 600, 7_300, 90_000]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.messages)
    @rule(number=st.integers(0, 30), kind=st.sampled_from(["echo", "echo", "received"]))
    def report(self, number: int, kind: Any) -> None:
        self.run(self._report(number % len(self.messages), kind))

    async def _report(self, number: int, kind: Any = "echo") -> None:
        message_id, broadcast_id, user_id, at, is_echoed = self.messages[number]
        self.messages[number] = (message_id, broadcast_id, user_id, at, is_echoed or kind == "echo")
        digest = text_digest(f"Thong bao {broadcast_id}") if kind == "echo" else None
        key = citizen_key(OA_ID, user_id)
        report = a_report(
            event_id=deterministic_id("report", message_id, kind),
            user_id=user_id,
            report=kind,
            message_ids=(message_id,),
            text_sha256=digest,
            reported_at=at,
        )
        await self.reports.add([report])
        await self.settlement.note({message_id: {kind: at}})
        await self.settlement.of_citizens([key])

    @rule(is_told=st.booleans())
    def zalo_tells_its_lists(self, is_told: bool) -> None:
        self.conversations.is_told = is_told

    @rule()
    def settle(self) -> None:
        self.run(self.runners[0].settle_open())

    # What must hold

    def rows(self) -> Iterator[tuple[tuple[str, str], str]]:
        for row in self.copies.rows.values():
            if row.citizen_key is not None:
                yield (row.broadcast_id, row.citizen_key.rpartition(":")[2]), row.state

    @invariant()
    def the_states_add_up(self) -> None:
        for name, broadcast in self.broadcasts.broadcasts.items():
            progress = self.run(self.copies.progress(name))
            assert sum(progress.states.values()) == progress.people
            assert min(progress.states.values()) >= 0
            if broadcast.snapshot.is_complete:
                assert progress.people == broadcast.snapshot.people == PEOPLE

    @invariant()
    def a_state_says_what_is_true(self) -> None:
        for which, state in self.rows():
            if state == "sent":
                assert self.applied[which], "called sent, and Zalo does not have it"
            if state in {"failed", "skipped", "queued"}:
                assert not self.applied[which], f"called {state}, and Zalo has it"

    async def end(self) -> None:
        """Resume what is paused, deliver every echo, let Zalo tell its lists, let everything finish, and count."""
        self.conversations.is_told = True
        for _ in range(60):
            for broadcast in list(self.broadcasts.broadcasts.values()):
                if broadcast.state == "paused":
                    await self.broadcasts.save(done(act(broadcast, "resume", by="an", at=self.clock.now())))
            await self._work((0,), [], [])
            self.clock.advance(700)
            for number, (_, _, _, _, is_echoed) in enumerate(self.messages):
                if not is_echoed:
                    await self._report(number)
            await self.runners[0].settle_open()
        for name, broadcast in self.broadcasts.broadcasts.items():
            assert broadcast.state in {"done", "cancelled"}, broadcast.state
            progress = await self.copies.progress(name)
            assert not any(progress.states[open_] for open_ in ("queued", "sending", "uncertain")), progress
        for which, state in self.rows():
            assert (state == "sent") == bool(self.applied[which]), (which, state)


BroadcastMachine.TestCase.settings = settings(max_examples=examples(40), stateful_step_count=30)
TestBroadcastMachine = BroadcastMachine.TestCase


@pytest.mark.parametrize("dies", range(4))
def test_a_copy_that_waits_for_a_dead_workers_copy_does_not_keep_it_from_being_taken_up(dies: int) -> None:
    """Two broadcasts to the same people: the first's worker dies in a call, the second's copies wait for that one."""
    machine = BroadcastMachine()
    machine.schedule(forecast=0)
    machine.schedule(forecast=0)
    machine.work(replicas=(0,), fates=[], outages=[True])
    machine.work(replicas=(0, 1), fates=["accepted"] * dies + ["dies_before", "accepted", "accepted"], outages=[])
    machine.teardown()
