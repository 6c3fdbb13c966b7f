"""The send ledger as a state machine: two replicas, lost answers, deaths, outages, echoes and people in any order.

What must hold, always: Zalo applies each reply at most once; a reply only moves forward, unless a person queues a
failed one again; nothing of a citizen is applied past an older reply that is unfinished, except behind one that waits
and where the rule says so; no call leaves without its mark, and no reply without a mark is uncertain. At the end, when
echoes have come and Zalo told its lists: every applied reply is `sent`, and nothing is left uncertain.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.notifier.domain.outcomes import SendOutcome
from services.notifier.domain.reply import Reply
from services.notifier.domain.settlement import Proof
from services.notifier.handlers.events import NotifierDeps, note_reports, queue_replies
from services.notifier.handlers.send_replies import ReplySender
from shared.errors import StoreUnavailable
from shared.events import ReplyContent, ReplyRequested
from shared.ids import citizen_key, deterministic_id, text_digest
from shared.kafka import Received
from shared.zalo_config import ZaloConfig
from tests.factories import OA_ID, PAGE, a_reply, a_report
from tests.properties import examples
from tests.unit.notifier.fakes import GRACE, LIMITS, RULES, FakeDecisions, Row, SentCall, World
from tests.unit.notifier.fates import Fate, ProcessDied, answer
from tests.unit.notifier.zalo_stub import ZaloStub

T = TypeVar("T")
CONFIG: ZaloConfig = ZaloStub(pages={OA_ID: PAGE}, url="http://127.0.0.1:1").config()
CITIZENS = ("2000000000000000001", "2000000000000000002")
TEXTS = ("Mời bác đến", "Hồ sơ đã nhận")
# What goes wrong goes wrong between replies to one citizen, and most of it between two of the same text.
OFTEN_ONE, OFTEN_SAME = (*CITIZENS, CITIZENS[0], CITIZENS[0]), (*TEXTS, TEXTS[0], TEXTS[0])
FINISHED = {"sent", "failed", "abandoned"}

FATES: tuple[Fate, ...] = (
    "accepted",
    "applied_and_lost",
    "lost",
    "refused",
    "again",
    "unreachable",
    "throttled",
    "dies_before",
    "dies_after",
)


def progress(row: Row) -> tuple[int, int]:
    """A number that may only grow: attempts first, then how far the attempt is."""
    steps = {"sending": 0, "uncertain": 1, "queued": 2, "failed": 3, "sent": 3, "abandoned": 3}
    return (row.attempt, steps[row.state])


class LedgerMachine(RuleBasedStateMachine):
    """Everything that may happen to the ledger, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        # Searches only when a rule says so: a run must not depend on how fast this machine is.
        # What Zalo does not have is tried again here, which is the more dangerous of the two rules.
        rule = replace(RULES.reply_look_up, retry_within=timedelta(hours=8))
        self.world = World(limits=replace(LIMITS, poll_seconds=1e9), rules=replace(RULES, reply_look_up=rule))
        self.world.zalo.on_call = self.on_call
        self.senders: list[ReplySender] = [self.world.sender, self.world.a_sender()]
        self.asked: list[Received[ReplyRequested]] = []
        self.fates: list[Fate] = []
        self.applied: Counter[str] = Counter()
        self.messages: list[tuple[str, str, datetime, bool]] = []  # message id, reply id, moment, echo delivered
        self.seen_progress: dict[str, tuple[int, int]] = {}
        self.calling: set[tuple[str, int]] = set()
        self.decisions = FakeDecisions(self.world.ledger)

    def teardown(self) -> None:
        self.run(self.end())
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def deps(self, sender: ReplySender) -> NotifierDeps:
        world = self.world
        return NotifierDeps(world.ledger, world.contacts, world.reports, world.settlement, sender, world.clock, CONFIG)

    # Zalo

    def on_call(self, call: SentCall) -> SendOutcome:
        (reply_id,) = (
            row_id
            for row_id, row in self.world.ledger.rows.items()
            if row.state == "sending"
            and row.is_called
            and row.row.event.user_id == call.user_id
            and row.row.event.content == call.content
            and (row_id, row.attempt) not in self.calling
        )
        self.calling.add((reply_id, self.world.ledger.rows[reply_id].attempt))
        return answer(self.fates.pop() if self.fates else "accepted", partial(self.apply, reply_id))

    def apply(self, reply_id: str) -> str:
        self.applied[reply_id] += 1
        # Two replies of one text to one citizen are the same in Zalo's list: what must hold for them is their number.
        content, same = self.content_of(reply_id), self.alike(reply_id)
        assert sum(self.applied[row_id] for row_id in same) <= len(same), "Zalo got the reply twice"
        assert self.applied[reply_id] == 1 or len(same) > 1, "Zalo got the reply twice"
        self.check_order(reply_id)
        message_id = f"m{len(self.messages)}"
        self.list_message(message_id, *content)
        self.messages.append((message_id, reply_id, self.world.clock.now(), False))
        return message_id

    def content_of(self, reply_id: str) -> tuple[str, str]:
        event = self.world.ledger.rows[reply_id].row.event
        return event.user_id, event.content.text

    def alike(self, reply_id: str) -> list[str]:
        content = self.content_of(reply_id)
        return [row_id for row_id in self.world.ledger.rows if self.content_of(row_id) == content]

    def list_message(self, message_id: str, user_id: str, text: str) -> None:
        key = citizen_key(OA_ID, user_id)
        proof = Proof(message_id, key, "listed", text_digest(text), self.world.clock.now())
        self.world.conversations.listed.append(proof)

    def check_order(self, reply_id: str) -> None:
        rows, now = self.world.ledger.rows, self.world.clock.now()
        mine = rows[reply_id]
        for row_id, row in rows.items():
            is_older = row.row.order < mine.row.order and row.row.event.user_id == mine.row.event.user_id
            if row_id == reply_id or not is_older or row.state in FINISHED:
                continue
            assert row.state != "sending", "a later reply overtook one that is being sent"
            if mine.row.event.is_emergency:
                continue
            assert row.state == "uncertain", "a later reply overtook one that waits"
            assert row.uncertain_at is not None
            assert now >= row.uncertain_at + GRACE, "a later reply did not wait for the grace"

    # What happens

    @rule(citizen=st.sampled_from(OFTEN_ONE), text=st.sampled_from(OFTEN_SAME), is_emergency=st.booleans())
    def ask(self, citizen: str, text: str, is_emergency: bool) -> None:
        number = len(self.asked)
        event = a_reply(
            event_id=deterministic_id("reply", str(number)),
            user_id=citizen,
            content=ReplyContent(text=text),
            is_emergency=is_emergency,
            occurred_at=self.world.clock.now(),
            interaction_at=self.world.clock.now(),
        )
        self.asked.append(Received(event, 0, number))
        self.run(queue_replies([self.asked[-1]], self.deps(self.senders[number % 2])))

    @precondition(lambda self: self.asked)
    @rule(first=st.integers(0, 30), replica=st.integers(0, 1))
    def redeliver(self, first: int, replica: int) -> None:
        self.run(queue_replies(self.asked[first % len(self.asked) :], self.deps(self.senders[replica])))

    @rule(
        replica=st.integers(0, 1),
        fates=st.lists(st.sampled_from(FATES), max_size=4),
        ends=st.sampled_from(["recorded", "recorded", "recorded", "dies unrecorded", "dies unmarked"]),
        outage=st.sampled_from([None, None, None, True, False]),
        mark_outage=st.sampled_from([None, None, None, True, False]),
        searches=st.booleans(),
    )
    def send(
        self,
        replica: int,
        fates: list[Fate],
        ends: str,
        outage: bool | None,
        mark_outage: bool | None,
        searches: bool,
    ) -> None:
        self.run(self._send(replica, fates, ends, outage, mark_outage, searches=searches))

    async def never_marks(self, reply: Reply) -> bool:  # noqa: ARG002 - the name is the port's
        raise ProcessDied

    async def _send(
        self,
        replica: int,
        fates: list[Fate],
        ends: str = "recorded",
        outage: bool | None = None,
        mark_outage: bool | None = None,
        *,
        searches: bool,
    ) -> None:
        sender, self.fates = self.senders[replica], fates
        if searches:
            sender.look_now()
        if outage is not None:
            self.world.ledger.outages = [outage]
        with suppress(StoreUnavailable):
            await sender.round()
        self.world.ledger.outages = [mark_outage] if mark_outage is not None else []
        if ends == "dies unmarked":
            sender._marks.mark = self.never_marks  # type: ignore[method-assign]
        tasks = list(sender._in_flight.values())
        died = any(isinstance(result, ProcessDied) for result in await asyncio.gather(*tasks, return_exceptions=True))
        self.world.ledger.outages = []
        if died or ends == "dies unrecorded":
            self.senders[replica] = self.world.a_sender()
        else:
            await sender.record_pending()

    @precondition(lambda self: self.messages)
    @rule(
        number=st.integers(0, 30),
        kind=st.sampled_from(["echo", "echo", "received", "seen"]),
        replica=st.integers(0, 1),
    )
    def report(self, number: int, kind: str, replica: int) -> None:
        self.run(self._report(number % len(self.messages), kind, replica))

    async def _report(self, number: int, kind: str, replica: int) -> None:
        message_id, reply_id, at, is_echoed = self.messages[number]
        event = self.world.ledger.rows[reply_id].row.event
        self.messages[number] = (message_id, reply_id, at, is_echoed or kind == "echo")
        report = a_report(
            event_id=deterministic_id("report", message_id, kind),
            user_id=event.user_id,
            report=kind,
            message_ids=(message_id,),
            text_sha256=text_digest(event.content.text) if kind == "echo" else None,
            reported_at=at,
        )
        await note_reports([Received(report, 0, 0)], self.deps(self.senders[replica]))

    @rule(citizen=st.sampled_from(CITIZENS), text=st.sampled_from(TEXTS))
    def a_person_writes_the_same_in_zalos_tool(self, citizen: str, text: str) -> None:
        message_id = deterministic_id("person", citizen, text, self.world.clock.now().isoformat())
        self.list_message(message_id, citizen, text)
        report = a_report(
            event_id=message_id,
            user_id=citizen,
            message_ids=(message_id,),
            text_sha256=text_digest(text),
            admin_id="7",
            reported_at=self.world.clock.now(),
        )
        self.run(note_reports([Received(report, 0, 0)], self.deps(self.senders[0])))

    @rule(is_told=st.booleans())
    def zalo_tells_its_lists(self, is_told: bool) -> None:
        self.world.conversations.is_told = is_told

    @rule(seconds=st.sampled_from([1, 5, 20, 61, 600, 7_300]))
    def time_passes(self, seconds: int) -> None:
        self.world.clock.advance(seconds)

    @rule(replica=st.integers(0, 1))
    def sweep(self, replica: int) -> None:
        self.run(self.senders[replica].sweep_once())

    @rule()
    def zalos_lists_have_all_there_will_be(self) -> None:
        """Two hours later Zalo's lists prove what it took, and what it did not."""
        self.world.conversations.is_told = True
        self.world.clock.advance(7_300)
        self.run(self.senders[0].sweep_once())

    @rule(
        fates=st.lists(st.sampled_from(FATES[:-2]), max_size=4),
        turns=st.lists(st.integers(0, 6), max_size=60),
        number=st.integers(0, 30),
        kind=st.sampled_from(["echo", "received", "seen"]),
        sweeps=st.booleans(),
    )
    def all_at_once(self, fates: list[Fate], turns: list[int], number: int, kind: str, sweeps: bool) -> None:
        """Two replicas send, one of them sweeps, and a report comes, interleaved by how long each call takes."""
        self.world.ledger.turns = turns
        works = [self._send(0, fates, searches=True), self._send(1, fates, searches=True)]
        if self.messages:
            works.append(self._report(number % len(self.messages), kind, 1))
        if sweeps:
            works.append(self.senders[1].sweep_once())
        self.run(self._together(works))
        self.world.ledger.turns = []

    @staticmethod
    async def _together(works: list[Coroutine[Any, Any, None]]) -> None:
        await asyncio.gather(*works)

    @precondition(lambda self: self.asked)
    @rule(number=st.integers(0, 30))
    def a_person_settles_what_is_uncertain(self, number: int) -> None:
        """They look into the conversation at Zalo's: of replies of one text they see how many there are."""
        uncertain = [row_id for row_id, row in self.world.ledger.rows.items() if row.state == "uncertain"]
        if not uncertain:
            return
        assert self.run(self.by_person(uncertain[number % len(uncertain)]))

    async def by_person(self, reply_id: str) -> bool:
        same = self.alike(reply_id)
        known = sum(self.world.ledger.rows[one].state == "sent" for one in same)
        is_sent = sum(self.applied[one] for one in same) > known
        now = self.world.clock.now()
        return await self.decisions.settle(reply_id, is_sent=is_sent, reason="seen", now=now)

    @rule()
    def a_person_queues_what_failed_again(self) -> None:
        failed = [row_id for row_id, row in self.world.ledger.rows.items() if row.state == "failed"]
        self.run(self.decisions.requeue(failed, reason="still wanted", now=self.world.clock.now()))
        for row_id in failed:
            self.seen_progress[row_id] = (self.world.ledger.rows[row_id].attempt, 2)

    # What must hold

    @invariant()
    def a_reply_only_moves_forward(self) -> None:
        for row_id, row in self.world.ledger.rows.items():
            now = progress(row)
            before = self.seen_progress.get(row_id, (0, 0))
            assert now >= before, (row_id, before, now)
            self.seen_progress[row_id] = now

    @invariant()
    def a_finished_reply_is_finished_for_a_reason_that_is_true(self) -> None:
        for row_id, row in self.world.ledger.rows.items():
            if row.state == "sent":
                assert self.applied[row_id] or row.settled_by is not None, "called sent, and nothing proves it"
            if row.state == "failed":
                same = self.alike(row_id)
                alive = [one for one in same if self.world.ledger.rows[one].state != "failed"]
                assert sum(self.applied[one] for one in same) <= len(alive), "called failed, and Zalo has it"

    @invariant()
    def only_a_called_reply_is_uncertain(self) -> None:
        for row_id, row in self.world.ledger.rows.items():
            assert row.state != "uncertain" or row.is_called, row_id

    @invariant()
    def a_message_is_owned_by_one_reply(self) -> None:
        owned = [row.message_id for row in self.world.ledger.rows.values() if row.message_id is not None]
        assert len(owned) == len(set(owned))
        texts = {
            message_id: self.world.ledger.rows[reply_id].text_sha256 for message_id, reply_id, _, _ in self.messages
        }
        for row in self.world.ledger.rows.values():
            if row.message_id is not None:
                assert texts[row.message_id] == row.text_sha256, "a reply was settled by another text"

    async def end(self) -> None:
        """Deliver every echo, let everything finish, and count."""
        self.world.conversations.is_told = True
        for _ in range(4):
            self.world.clock.advance(700)
            await self.senders[0].sweep_once()
        for number in range(len(self.messages)):
            await self._report(number, "echo", 0)
        for _ in range(40):
            await self._send(0, [], searches=True)
            self.world.clock.advance(700)
            await self.senders[0].sweep_once()
            for number, (_, _, _, is_echoed) in enumerate(self.messages):
                if not is_echoed:
                    await self._report(number, "echo", 1)
        # Beside one whose id nobody knows, since a person said that it is sent, an echo or a list may prove nothing.
        for row_id, row in self.world.ledger.rows.items():
            nameless = await self.world.ledger.nameless([row.row.event.citizen_key])
            if row.state == "uncertain" and nameless:
                await self.by_person(row_id)
        by_content: Counter[tuple[str, str]] = Counter()
        for row_id, row in self.world.ledger.rows.items():
            assert row.state in {"sent", "failed"}, (row_id, row.state)
            content = (row.row.event.user_id, row.row.event.content.text)
            by_content[content] += (row.state == "sent") - self.applied[row_id]
        # Two replies of one text to one citizen are the same to Zalo: what adds up is their number.
        assert not any(by_content.values()), by_content


LedgerMachine.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=40)
TestLedgerMachine = LedgerMachine.TestCase
