"""Broadcasts as a state machine: two replicas, lost answers, deaths, outages, pauses, opt-outs and echoes in any order.

Between the steps of the replicas and in the middle of them, people pause, resume, cancel and give copies up, Zalo
tells its lists, and reports come.

What must hold, always: Zalo takes each copy at most once; a copy only moves forward; the states add up to the audience;
a person has at most one ordinary broadcast a day from all of them; after a pause only what was under way is sent, and
nothing to whom opted out. At the end, when echoes have come: the counts are those of the rows; every copy that Zalo has
is `sent`, no other is, but for those that a person gave up; nothing is left uncertain.

What is asked of the ledger is asked by its port, so that the machine runs on the stand-in and on the real one.
"""

import asyncio
import inspect
import re
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, TypeVar, get_args
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.notifier.adapters import recipient_ledger
from services.notifier.adapters.lane_rules import load_lane_book
from services.notifier.adapters.zalo_copies import Address, Form
from services.notifier.domain.audience import ContactView
from services.notifier.domain.broadcast import act
from services.notifier.domain.copies import CopyState
from services.notifier.domain.lanes import Hours, Reach
from services.notifier.domain.outcomes import SendOutcome
from services.notifier.domain.rulebook import Rulebook
from services.notifier.domain.settlement import Proof
from services.notifier.handlers import build_audience, send_broadcasts, send_copies
from services.notifier.handlers.send_broadcasts import BroadcastRunner
from services.notifier.handlers.send_copies import BroadcastAdapters, BroadcastLimits
from services.notifier.handlers.settle import ByList, Settlement
from shared.directory import Directory
from shared.errors import StoreUnavailable
from shared.ids import citizen_key, deterministic_id, text_digest
from tests.factories import OA_ID, PAGE, a_report
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
from tests.unit.notifier.fates import Fate, ProcessDied, answer
from tests.unit.notifier.samples import APP_ID

T = TypeVar("T")
PEOPLE = 6
WAVE = 2
REPLICAS = 2
NAMES = ("b1", "b2")
STAYS_OPEN = timedelta(days=3_650)

FATES: tuple[Fate, ...] = (
    "accepted",
    "accepted",
    "applied_and_lost",
    "applied_and_lost",
    "lost",
    "refused",
    "again",
    "unreachable",
    "dies_before",
    "dies_after",
)


Meanwhile = Literal[
    "pause", "resume", "cancel", "report", "give up", "look up", "settle", "recount", "end of cancelled"
]
MEANWHILE: tuple[Meanwhile, ...] = get_args(Meanwhile)

STATES: tuple[CopyState, ...] = get_args(CopyState)
OPEN: tuple[CopyState, ...] = ("queued", "sending", "uncertain")
STEPS: dict[CopyState, int] = {"sending": 0, "uncertain": 1, "queued": 2, "sent": 3, "failed": 3, "skipped": 3}
"""Within one attempt a copy's state only grows by these; the last ones are final."""


MODULES = (build_audience, send_broadcasts, send_copies, recipient_ledger)
CRASH_POINTS = tuple(
    label
    for module in MODULES
    for label in re.findall(r'crash_point\("(notifier\.broadcast\.\w+)"\)', inspect.getsource(module))
)


@dataclass(frozen=True)
class SeenRow:
    """A row as the ledger shows it."""

    which: tuple[str, str]
    person: str
    state: CopyState
    attempt: int
    reason: str | None


class BroadcastMachine(RuleBasedStateMachine):
    """Everything that may happen to two broadcasts, in any order."""

    chunk_persons = 3

    def __init__(self) -> None:
        super().__init__()
        self.patches: list[Any] = [
            patch.object(send_copies, "STORE_PAUSE_SECONDS", 0.0),
            patch("secrets.randbelow", lambda _: 0),
            *(patch.object(module, "crash_point", self.on_crash_point) for module in MODULES),
        ]
        for one in self.patches:
            one.start()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.broadcasts = FakeBroadcastStore()
        self.copies: Any = self.a_ledger()
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
        self.runners = [self.a_runner() for _ in range(REPLICAS)]
        self.fates: list[Fate] = []
        self.dies_at: str | None = None
        self.applied: Counter[tuple[str, str]] = Counter()
        self.moments: dict[str, list[datetime]] = {}
        self.messages: list[tuple[str, str, str, datetime, bool]] = []  # id, broadcast, user, moment, echo delivered
        self.given_up: set[tuple[str, str]] = set()
        self.after_pause: Counter[str] = Counter()
        self.seen: dict[tuple[str, str], tuple[int, int, CopyState]] = {}
        for number in range(PEOPLE):
            self.audience.contacts[deterministic_id("person", str(number))] = [self.contact(number)]

    def a_ledger(self) -> Any:
        """The ledger that this machine tries."""
        return FakeCopies(self.clock, lease=LEASE)

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
            wave=WAVE,
            chunk_persons=self.chunk_persons,
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
            self.close()

    def close(self) -> None:
        """Leave nothing patched and no loop open."""
        for one in self.patches:
            one.stop()
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def survived(self, work: Coroutine[Any, Any, object]) -> bool:
        """Let a process do something; False if it died of it."""
        try:
            with suppress(StoreUnavailable):
                await work
        except ProcessDied:
            return False
        return True

    def on_crash_point(self, label: str) -> None:
        if label == self.dies_at:
            self.dies_at = None
            raise ProcessDied

    # Zalo

    async def send(self, form: Form, addresses: Sequence[Address]) -> list[SendOutcome]:
        await asyncio.sleep(0)
        found = re.search(r"Thong bao (b\d)", (form.before + form.after).decode())
        assert found is not None
        return [self.on_call(found[1], address.user_id) for address in addresses]

    def on_call(self, broadcast_id: str, user_id: str) -> SendOutcome:
        assert not self.audience.contacts[self.person_of(user_id)][0].reach.opted_out, "sent to whom opted out"
        if self.broadcasts.broadcasts[broadcast_id].state != "running":
            self.after_pause[broadcast_id] += 1
            assert self.after_pause[broadcast_id] <= WAVE * REPLICAS, "sent on after a pause"
        return answer(self.fates.pop() if self.fates else "accepted", partial(self.apply, broadcast_id, user_id))

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
        meanwhile=st.lists(st.tuples(st.integers(0, 40), st.sampled_from(MEANWHILE), st.integers(0, 30)), max_size=3),
    )
    def work(
        self,
        replicas: tuple[int, ...],
        fates: list[Fate],
        outages: list[bool],
        meanwhile: Sequence[tuple[int, Meanwhile, int]] = (),
    ) -> None:
        self.run(self._work(replicas, fates, outages, meanwhile))

    async def _work(
        self,
        replicas: tuple[int, ...],
        fates: list[Fate],
        outages: list[bool],
        meanwhile: Sequence[tuple[int, Meanwhile, int]] = (),
    ) -> None:
        ready = [replica for replica in replicas if await self._alive(replica, self._before_work(replica))]
        self.fates, self.copies.outages = list(fates), list(outages)
        works = [self._alive(replica, self.runners[replica].work_once()) for replica in ready]
        await asyncio.gather(*works, *(self.survived(self._meanwhile(*one)) for one in meanwhile))
        self.fates, self.copies.outages = [], []

    async def _before_work(self, replica: int) -> None:
        await self.runners[replica].look()
        await self.runners[replica].see_open_chunks()
        await self.runners[replica].build_all()
        await self.runners[replica].look()

    async def _alive(self, replica: int, work: Coroutine[Any, Any, object]) -> bool:
        """Let a replica do something; if it dies of it another one takes its place."""
        if await self.survived(work):
            return True
        self.runners[replica] = self.a_runner()
        return False

    async def _meanwhile(self, turns: int, what: Meanwhile, number: int) -> None:
        """Let something happen while replicas work, after so many turns of the event loop."""
        for _ in range(turns):
            await asyncio.sleep(0)
        match what:
            case "pause" | "resume" | "cancel":
                await self._person_acts(NAMES[number % len(NAMES)], what)
            case "report" if self.messages:
                await self._report(number % len(self.messages))
            case "give up":
                await self._person_gives_up(number)
            case "look up":
                await self._person_settles(number)
            case "settle":
                await self.runners[1].settle_open()
            case "recount":
                await self.runners[1].recount_open()
            case "end cancelled":
                await self.runners[1].see_open_chunks()

    @rule(label=st.sampled_from(CRASH_POINTS))
    def somebody_dies_next(self, label: str) -> None:
        """Whoever comes to this place first."""
        self.dies_at = label

    @rule(name=st.sampled_from(NAMES), action=st.sampled_from(["pause", "resume", "resume", "cancel"]))
    def person_acts(self, name: str, action: Any) -> None:
        self.run(self._person_acts(name, action))

    async def _person_acts(self, name: str, action: Literal["pause", "resume", "cancel"]) -> None:
        broadcast = self.broadcasts.broadcasts.get(name)
        may = {"pause": {"running"}, "resume": {"paused"}, "cancel": {"running", "paused", "scheduled"}}[action]
        if broadcast is not None and broadcast.state in may:
            assert await self.broadcasts.save(done(act(broadcast, action, by="an", at=self.clock.now())))
            self.after_pause[name] = 0

    @precondition(lambda self: self.run(self.uncertain()))
    @rule(number=st.integers(0, 30))
    def person_gives_up(self, number: int) -> None:
        self.run(self.survived(self._person_gives_up(number)))

    async def _person_gives_up(self, number: int) -> None:
        """Of the copies that are uncertain they give one up, which may be settled at the same moment."""
        if uncertain := await self.uncertain():
            row = uncertain[number % len(uncertain)]
            if await self.copies.abandon(row.which[0], row.person, by="an", now=self.clock.now()):
                self.given_up.add(row.which)

    @precondition(lambda self: self.run(self.uncertain()))
    @rule(number=st.integers(0, 30))
    def person_settles(self, number: int) -> None:
        self.run(self.survived(self._person_settles(number)))

    async def _person_settles(self, number: int) -> None:
        """They look one up at Zalo's and say what they see there."""
        if uncertain := await self.uncertain():
            row = uncertain[number % len(uncertain)]
            is_sent = bool(self.applied[row.which])
            await self.copies.settle_by_person(row.which[0], row.person, is_sent=is_sent, by="an", now=self.clock.now())

    async def uncertain(self) -> list[SeenRow]:
        """The copies of which nobody knows whether Zalo has them."""
        return [row for row in await self.rows() if row.state == "uncertain"]

    @rule(number=st.integers(0, PEOPLE - 1), opted_out=st.booleans())
    def citizen_chooses(self, number: int, opted_out: bool) -> None:
        self.audience.contacts[deterministic_id("person", str(number))] = [self.contact(number, opted_out=opted_out)]

    @rule(seconds=st.sampled_from([1, 6, 20, 61, 600, 7_300, 90_000]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.messages)
    @rule(number=st.integers(0, 30), kind=st.sampled_from(["echo", "echo", "received"]))
    def report(self, number: int, kind: Any) -> None:
        self.run(self.survived(self._report(number % len(self.messages), kind)))

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
        self.run(self._alive(0, self.runners[0].settle_open()))

    # What must hold

    async def rows(self) -> list[SeenRow]:
        """All rows that say of whom they are; of who left before anything was tried there is no more to say."""
        return [
            SeenRow(
                (name, document["citizen_key"].rpartition(":")[2]),
                document["person"],
                state,
                document["attempt"],
                document["reason"],
            )
            for name in self.broadcasts.broadcasts
            for state in STATES
            for document in await self.copies.in_state(name, state, limit=PEOPLE)
            if document["citizen_key"] is not None
        ]

    @invariant()
    def the_states_add_up(self) -> None:
        for name, broadcast in self.broadcasts.broadcasts.items():
            progress = self.run(self.copies.progress(name))
            assert sum(progress.states.values()) == progress.people
            assert min(progress.states.values()) >= 0
            if broadcast.snapshot.is_complete:
                assert progress.people == broadcast.snapshot.people == PEOPLE

    @invariant()
    def the_rows_say_what_is_true_and_only_move_forward(self) -> None:
        for row in self.run(self.rows()):
            now = (row.attempt, STEPS[row.state], row.state)
            before = self.seen.get(row.which, (0, 0, row.state))
            assert now[:2] >= before[:2], (row, before)
            assert before[1] < STEPS["sent"] or now == before, (row, before)
            self.seen[row.which] = now
            if row.state == "sent":
                assert self.applied[row.which], "called sent, and Zalo does not have it"
            if row.state in {"failed", "skipped", "queued"} and row.which not in self.given_up:
                assert not self.applied[row.which], f"called {row.state}, and Zalo has it"

    async def end(self) -> None:
        """Resume what is paused, deliver every echo, let Zalo tell its lists, let everything finish, and count."""
        self.conversations.is_told, self.dies_at = True, None
        rounds_after_end = 0
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
            await self.runners[0].recount_open()
            rounds_after_end += await self._is_over()
            if rounds_after_end == 2:
                break
        rows = await self.rows()
        for name, broadcast in self.broadcasts.broadcasts.items():
            assert broadcast.state in {"done", "cancelled"}, broadcast.state
            progress = await self.copies.progress(name)
            assert not any(progress.states[one] for one in OPEN), progress
            in_state = {state: len(await self.copies.in_state(name, state, limit=PEOPLE + 1)) for state in STATES}
            assert progress.states == in_state, "the counts are not those of the rows"
        for row in rows:
            if row.which in self.given_up:
                assert (row.state, row.reason) == ("failed", "send.abandoned"), row
            else:
                assert (row.state == "sent") == bool(self.applied[row.which]), row

    async def _is_over(self) -> bool:
        for name, broadcast in self.broadcasts.broadcasts.items():
            states = (await self.copies.progress(name)).states
            if broadcast.state not in {"done", "cancelled"} or any(states[one] for one in OPEN):
                return False
        return True
