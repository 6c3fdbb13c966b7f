"""What the sender relies on in the ledger: one suite for the stand-in of the unit tests and for the real one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.notifier.adapters.clock import ServerClock
from services.notifier.adapters.reply_decisions import ReplyDecisions
from services.notifier.adapters.reply_ledger import Expired, LedgerRow, ReplyLedger, Result
from services.notifier.domain.next_step import Fail, Park, Sent, Step, TryAgain
from services.notifier.domain.reply import EMERGENCY, ORDINARY, Reply
from services.notifier.domain.settlement import Proof
from services.notifier.handlers.ports import Clock, Ledger
from shared.events import ReplyContent
from shared.ids import deterministic_id, text_digest
from shared.mongo import Store
from tests.factories import a_reply
from tests.unit.notifier.fakes import FakeDecisions, FakeLedger, ManualClock
from tests.unit.notifier.samples import APP_ID, CITIZEN, eventually
from tests.unit.notifier.stores import fresh_store

LEASE = timedelta(seconds=0.3)
LATER = timedelta(minutes=5)


@dataclass
class Book:
    """A ledger, and how its entries and its clock look to a test."""

    ledger: Ledger
    clock: Clock
    store: Store | None = None

    @property
    def decisions(self) -> FakeDecisions | ReplyDecisions:
        if isinstance(self.ledger, FakeLedger):
            return FakeDecisions(self.ledger)
        assert self.store is not None
        return ReplyDecisions(self.store, by="an")

    async def state(self, reply_id: str) -> str:
        return str((await self.entry(reply_id))["state"])

    async def entry(self, reply_id: str) -> dict[str, Any]:
        if isinstance(self.ledger, FakeLedger):
            row = self.ledger.rows[reply_id]
            names = {"echo": "echoed_at", "received": "received_at", "seen": "seen_at"}
            return {**vars(row), **{names[kind]: at for kind, at in row.moments.items()}}
        assert isinstance(self.ledger, ReplyLedger)
        entry = await self.ledger.one(reply_id)
        assert entry is not None
        return entry

    async def pass_lease(self) -> None:
        """Let the leases of all claims end."""
        if isinstance(self.clock, ManualClock):
            self.clock.advance(1)
            return
        end = self.clock.now() + LEASE + timedelta(milliseconds=20)
        await eventually(lambda: self.clock.now() > end)


BACKENDS = ["fake", "motor", "pymongo"]


@asynccontextmanager
async def opened(backend: str, mongo_uri: str, lease: timedelta) -> AsyncIterator[Book]:
    if backend == "fake":
        clock = ManualClock()
        yield Book(FakeLedger(clock, lease=lease), clock)
        return
    async with fresh_store(mongo_uri, backend) as store:
        server_clock = ServerClock(store)
        await server_clock.measure()
        yield Book(ReplyLedger(store, lease=lease), server_clock, store)


@pytest.fixture(params=BACKENDS)
async def book(request: pytest.FixtureRequest, mongo_uri: str) -> AsyncIterator[Book]:
    async with opened(request.param, mongo_uri, LEASE) as one:
        yield one


@pytest.fixture(params=BACKENDS)
async def patient_book(request: pytest.FixtureRequest, mongo_uri: str) -> AsyncIterator[Book]:
    async with opened(request.param, mongo_uri, timedelta(minutes=5)) as one:
        yield one


def row(name: str, order: int = 0, **changes: Any) -> LedgerRow:
    return LedgerRow(a_reply(event_id=deterministic_id(name), **changes), APP_ID, order, None)


async def queued(book: Book, *names: str, **changes: Any) -> list[str]:
    rows = [row(name, order, **changes) for order, name in enumerate(names)]
    await book.ledger.add(rows, now=book.clock.now())
    return [one.event.event_id for one in rows]


async def claimed(book: Book, reply_id: str, owner: str = "me") -> Reply:
    (reply,) = await book.ledger.claim([reply_id], owner=owner, now=book.clock.now())
    return reply


async def recorded(book: Book, reply: Reply, step: Step) -> None:
    await book.ledger.record([Result(reply, step, book.clock.now())])


async def test_a_reply_is_queued_once(book: Book) -> None:
    now = book.clock.now()

    first = await book.ledger.add([row("a"), row("b")], now=now)
    second = await book.ledger.add([row("b"), row("c")], now=now)

    assert [len(first), len(second)] == [2, 1]


async def test_adding_again_leaves_a_finished_reply_as_it_is(book: Book) -> None:
    (reply_id,) = await queued(book, "a")
    await recorded(book, await claimed(book, reply_id), Sent("m1", None))

    await queued(book, "a")

    assert await book.state(reply_id) == "sent"


async def test_due_replies_are_found_by_priority_and_only_when_due(book: Book) -> None:
    (ordinary,) = await queued(book, "a")
    (emergency,) = await queued(book, "b", is_emergency=True)
    (later,) = await queued(book, "c")
    await book.ledger.put_off([later], until=book.clock.now() + LATER, held_by=None)

    now = book.clock.now()
    assert [c.id for c in await book.ledger.due(ORDINARY, now=now, limit=10)] == [ordinary]
    assert [c.id for c in await book.ledger.due(EMERGENCY, now=now, limit=10)] == [emergency]


async def test_a_claim_shows_the_whole_reply_and_counts_the_attempt(book: Book) -> None:
    (reply_id,) = await queued(book, "a")

    reply = await claimed(book, reply_id)

    expected = a_reply(event_id=reply_id)
    assert (reply.id, reply.content, reply.attempt, reply.failures) == (reply_id, expected.content, 1, 0)
    assert (reply.citizen_key, reply.app_id, reply.owner) == (CITIZEN, APP_ID, "me")


async def test_a_claimed_reply_cannot_be_claimed_again(book: Book) -> None:
    (reply_id,) = await queued(book, "a")
    await claimed(book, reply_id)

    assert await book.ledger.claim([reply_id], owner="other", now=book.clock.now()) == []
    assert await book.ledger.due(ORDINARY, now=book.clock.now(), limit=10) == []


async def test_repeating_a_claim_gives_the_same_replies_and_attempt(book: Book) -> None:
    (reply_id,) = await queued(book, "a")

    first, second = await claimed(book, reply_id), await claimed(book, reply_id)

    assert first == second


async def test_a_reply_that_was_put_off_cannot_be_claimed_early(book: Book) -> None:
    (reply_id,) = await queued(book, "a")
    await book.ledger.put_off([reply_id], until=book.clock.now() + LATER, held_by=None)

    assert await book.ledger.claim([reply_id], owner="me", now=book.clock.now()) == []


async def test_a_released_claim_is_due_again(book: Book) -> None:
    (reply_id,) = await queued(book, "a")
    await claimed(book, reply_id)

    await book.ledger.release([reply_id], owner="other", now=book.clock.now())
    assert await book.state(reply_id) == "sending"
    await book.ledger.release([reply_id], owner="me", now=book.clock.now())

    assert (await claimed(book, reply_id, "next")).attempt == 2


@pytest.mark.parametrize(
    ("step", "state"),
    [
        (Sent("m1", "reply"), "sent"),
        (Sent(None, None), "sent"),
        (Fail("zalo.not_a_follower"), "failed"),
        (Park("zalo.answer_lost", "reset"), "uncertain"),
    ],
)
async def test_a_recorded_attempt_ends_in_its_state_and_stays_there(book: Book, step: Step, state: str) -> None:
    (reply_id,) = await queued(book, "a")
    reply = await claimed(book, reply_id)

    await recorded(book, reply, step)
    await recorded(book, reply, TryAgain(book.clock.now(), "late", 1))
    await recorded(book, reply, Fail("late"))

    assert await book.state(reply_id) == state


async def test_a_reply_that_is_tried_again_keeps_its_count_and_waits(book: Book) -> None:
    (reply_id,) = await queued(book, "a")
    await recorded(book, await claimed(book, reply_id), TryAgain(book.clock.now(), "zalo.send_failed", 1))

    reply = await claimed(book, reply_id, "next")

    assert (reply.attempt, reply.failures) == (2, 1)


async def test_a_late_record_of_an_earlier_attempt_changes_nothing(book: Book) -> None:
    (reply_id,) = await queued(book, "a")
    old = await claimed(book, reply_id)
    await recorded(book, old, TryAgain(book.clock.now(), "x", 1))
    await claimed(book, reply_id, "next")

    await recorded(book, old, Sent("m1", None))

    assert await book.state(reply_id) == "sending"


async def test_a_message_id_is_owned_by_one_reply(book: Book) -> None:
    one, other = await queued(book, "a", "b")
    await recorded(book, await claimed(book, one), Sent("m1", None))

    await recorded(book, await claimed(book, other), Sent("m1", None))

    assert await book.state(other) == "sent"
    assert (await book.entry(other)).get("message_id") is None
    assert await book.ledger.owned(["m1", "m2"]) == {"m1"}


NOTHING_EXPIRED = Expired([], [])


async def test_a_called_claim_becomes_uncertain_after_its_lease_if_nobody_recorded_it(book: Book) -> None:
    (reply_id,) = await queued(book, "a")
    await claimed(book, reply_id)
    assert await book.ledger.mark_called([reply_id], owner="me") == {reply_id}

    await book.pass_lease()

    assert await book.ledger.expire_leases(next_check=LATER) == Expired([], [CITIZEN])
    entry = await book.entry(reply_id)
    assert (entry["state"], entry["reason"]) == ("uncertain", "send.lease_expired")
    assert await book.ledger.expire_leases(next_check=LATER) == NOTHING_EXPIRED


async def test_a_claim_that_was_never_called_is_due_again_after_its_lease_and_counts_no_failure(book: Book) -> None:
    (reply_id,) = await queued(book, "a")
    await claimed(book, reply_id)

    await book.pass_lease()

    assert await book.ledger.expire_leases(next_check=LATER) == Expired([CITIZEN], [])
    assert await book.ledger.expire_leases(next_check=LATER) == NOTHING_EXPIRED
    assert [c.id for c in await book.ledger.due(ORDINARY, now=book.clock.now(), limit=10)] == [reply_id]
    assert (await claimed(book, reply_id, "next")).failures == 0


async def test_only_the_owner_of_a_claim_can_mark_it(book: Book) -> None:
    mine, theirs, unclaimed = await queued(book, "a", "b", "c")
    await claimed(book, mine)
    await claimed(book, theirs, "other")

    assert await book.ledger.mark_called([mine, theirs, unclaimed], owner="me") == {mine}
    assert await book.ledger.mark_called([mine], owner="me") == {mine}  # repeatable

    await book.pass_lease()
    await book.ledger.expire_leases(next_check=LATER)
    assert [await book.state(i) for i in (mine, theirs, unclaimed)] == ["uncertain", "queued", "queued"]


async def test_a_claim_whose_lease_ended_cannot_be_marked_any_more(book: Book) -> None:
    (reply_id,) = await queued(book, "a")
    await claimed(book, reply_id)
    await book.pass_lease()
    await book.ledger.expire_leases(next_check=LATER)

    assert await book.ledger.mark_called([reply_id], owner="me") == set()
    await claimed(book, reply_id, "next")
    assert await book.ledger.mark_called([reply_id], owner="me") == set()


async def test_the_mark_of_an_earlier_attempt_says_nothing_about_the_next(book: Book) -> None:
    (reply_id,) = await queued(book, "a")
    reply = await claimed(book, reply_id)
    await book.ledger.mark_called([reply_id], owner="me")
    await recorded(book, reply, TryAgain(book.clock.now(), "zalo.send_failed", 1))
    await claimed(book, reply_id, "next")

    await book.pass_lease()

    assert await book.ledger.expire_leases(next_check=LATER) == Expired([CITIZEN], [])


async def test_a_claim_whose_lease_goes_on_stays(patient_book: Book) -> None:
    (reply_id,) = await queued(patient_book, "a")
    await claimed(patient_book, reply_id)

    assert await patient_book.ledger.expire_leases(next_check=LATER) == NOTHING_EXPIRED
    assert await patient_book.state(reply_id) == "sending"


async def test_an_acceptance_that_comes_after_the_lease_is_recorded_and_a_refusal_is_not(book: Book) -> None:
    accepted, refused = await queued(book, "a", "b")
    replies = [await claimed(book, accepted), await claimed(book, refused)]
    await book.ledger.mark_called([accepted, refused], owner="me")
    await book.pass_lease()
    await book.ledger.expire_leases(next_check=LATER)

    await recorded(book, replies[0], Sent("m1", None))
    await recorded(book, replies[1], Fail("zalo.not_a_follower"))

    assert [await book.state(accepted), await book.state(refused)] == ["sent", "uncertain"]


async def test_unfinished_replies_of_citizens_are_shown_with_their_order(book: Book) -> None:
    first, second, done = await queued(book, "a", "b", "c")
    await queued(book, "d", user_id="2000000000000000002")
    await recorded(book, await claimed(book, done), Fail("x.y"))
    await recorded(book, await claimed(book, first), Park("zalo.answer_lost", "reset"))

    gates = await book.ledger.unfinished([CITIZEN])

    shown = {u.id: (u.order, u.state, u.uncertain_at is not None) for u in gates[CITIZEN]}
    assert shown == {first: (0, "uncertain", True), second: (1, "queued", False)}
    assert list(gates) == [CITIZEN]


async def test_what_a_finished_reply_held_is_due_at_once(book: Book) -> None:
    holder, held, other = await queued(book, "a", "b", "c")
    until = book.clock.now() + LATER
    await book.ledger.put_off([held], until=until, held_by=holder)
    await book.ledger.put_off([other], until=until, held_by="another")

    await book.ledger.let_go([holder], [CITIZEN], now=book.clock.now())

    due = [c.id for c in await book.ledger.due(ORDINARY, now=book.clock.now(), limit=10)]
    assert held in due
    assert other not in due


async def uncertain(book: Book, name: str) -> str:
    (reply_id,) = await queued(book, name)
    await recorded(book, await claimed(book, reply_id), Park("zalo.answer_lost", "reset"))
    return reply_id


def a_proof(message_id: str, at: datetime) -> Proof:
    return Proof(message_id, CITIZEN, "echo", None, at)


async def test_a_proof_settles_an_uncertain_reply_once(book: Book) -> None:
    reply_id = await uncertain(book, "a")
    (send,) = await book.ledger.open_sends([CITIZEN])

    assert send.text_sha256 == text_digest(a_reply().content.text)
    assert await book.ledger.settle(send, a_proof("m1", book.clock.now()))
    assert not await book.ledger.settle(send, a_proof("m2", book.clock.now()))
    entry = await book.entry(reply_id)
    assert (entry["state"], entry["message_id"], entry["settled_by"]) == ("sent", "m1", "echo")


async def test_one_proof_cannot_settle_two_replies(book: Book) -> None:
    await uncertain(book, "a")
    await uncertain(book, "b")
    one, other = await book.ledger.open_sends([CITIZEN])

    assert await book.ledger.settle(one, a_proof("m1", book.clock.now()))
    assert not await book.ledger.settle(other, a_proof("m1", book.clock.now()))


@pytest.mark.parametrize("is_sent", [True, False])
async def test_a_person_settles_an_uncertain_reply_once_and_queues_a_failed_one_again(
    book: Book, is_sent: bool
) -> None:
    reply_id, now = await uncertain(book, "a"), book.clock.now()
    decide = book.decisions

    assert await decide.settle(reply_id, is_sent=is_sent, reason="seen at Zalo's", now=now)
    assert not await decide.settle(reply_id, is_sent=is_sent, reason="seen at Zalo's", now=now)
    assert await book.ledger.open_sends([CITIZEN]) == []
    entry = await book.entry(reply_id)
    assert (entry["state"], entry["settled_by"]) == ("sent" if is_sent else "failed", "person")

    await decide.requeue([reply_id], reason="still wanted", now=now)

    entry = await book.entry(reply_id)
    assert (entry["state"], entry["attempt"]) == ("sent" if is_sent else "queued", 1)
    due = await book.ledger.due(ORDINARY, now=now + LATER, limit=5)
    assert [one.id for one in due] == ([] if is_sent else [reply_id])


async def test_what_is_sent_under_an_unknown_id_is_shown_until_its_id_is_known(book: Book) -> None:
    by_word, unnamed, named, failed = [await uncertain(book, name) for name in "abcd"]
    now = book.clock.now()
    by_id = {send.id: send for send in await book.ledger.open_sends([CITIZEN])}
    assert await book.ledger.nameless([CITIZEN]) == []

    await book.decisions.settle(by_word, is_sent=True, reason="seen at Zalo's", now=now)
    await book.decisions.settle(failed, is_sent=False, reason="not seen at Zalo's", now=now)
    assert await book.ledger.settle(by_id[named], a_proof("m1", now))

    (shown,) = await book.ledger.nameless([CITIZEN])
    assert shown == replace(by_id[by_word], state="sent")
    assert await book.state(unnamed) == "uncertain"
    assert await book.ledger.nameless(["another:1"]) == []


@pytest.mark.parametrize("is_retried", [True, False])
async def test_a_reply_that_zalo_does_not_have_is_queued_or_fails_once(book: Book, is_retried: bool) -> None:
    reply_id = await uncertain(book, "a")
    (send,) = await book.ledger.open_sends([CITIZEN])
    assert (send.is_listed, send.requested_at) == (True, a_reply().occurred_at)
    now = book.clock.now()
    step = TryAgain(now, "send.not_taken", 0) if is_retried else Fail("send.not_taken")

    assert await book.ledger.not_taken(send, step, now=now)
    assert not await book.ledger.not_taken(send, step, now=now)
    assert not await book.ledger.settle(send, a_proof("m1", now))

    entry = await book.entry(reply_id)
    assert (entry["state"], entry["reason"]) == ("queued" if is_retried else "failed", "send.not_taken")
    assert [one.id for one in await book.ledger.due(ORDINARY, now=now, limit=5)] == ([reply_id] if is_retried else [])


async def test_uncertain_replies_are_looked_at_when_due(book: Book) -> None:
    reply_id = await uncertain(book, "a")
    assert await book.ledger.uncertain_due(now=book.clock.now(), limit=10) == {reply_id: (CITIZEN, 0)}

    await book.ledger.check_again({reply_id: (1, book.clock.now() + LATER)})

    assert await book.ledger.uncertain_due(now=book.clock.now(), limit=10) == {}
    assert await book.ledger.uncertain_due(now=book.clock.now() + LATER * 2, limit=10) == {reply_id: (CITIZEN, 1)}


async def test_receipts_are_noted_in_any_order_and_the_earliest_stays(book: Book) -> None:
    (reply_id,) = await queued(book, "a")
    await recorded(book, await claimed(book, reply_id), Sent("m1", None))
    early = book.clock.now().replace(microsecond=0)
    late = early + LATER

    assert await book.ledger.mark({"m1": {"seen": early}, "strange": {"seen": early}}) == {"m1"}
    await book.ledger.mark({"m1": {"received": late, "seen": late}})
    await book.ledger.mark({"m1": {"echo": early, "received": early}})

    entry = await book.entry(reply_id)
    assert (entry["seen_at"], entry["received_at"], entry["echoed_at"]) == (early, early, early)


async def test_a_page_that_is_not_ours_is_recorded_as_failed(book: Book) -> None:
    stranger = LedgerRow(a_reply(event_id="f" * 32), None, 0, None)

    assert await book.ledger.add([stranger], now=book.clock.now()) == []
    entry = await book.entry("f" * 32)
    assert (entry["state"], entry["reason"]) == ("failed", "page.unknown")


async def test_a_withdrawal_erases_what_was_written_before_it_and_nothing_else(book: Book) -> None:
    moment = book.clock.now().replace(microsecond=0)
    (sent,) = await queued(book, "a", occurred_at=moment - LATER)
    await recorded(book, await claimed(book, sent), Sent("m1", None))
    waiting, parked = await queued(book, "b", "c", occurred_at=moment)
    await recorded(book, await claimed(book, parked), Park("zalo.answer_lost", "reset"))
    (newer,) = await queued(book, "d", occurred_at=moment + timedelta(seconds=1))
    (stranger,) = await queued(book, "e", user_id="2000000000000000002", occurred_at=moment)

    assert await book.ledger.erase({CITIZEN: moment}) == 3
    assert await book.ledger.erase({CITIZEN: moment}) == 0

    for reply_id in (waiting, parked):
        assert (await book.entry(reply_id))["erased_at"] == moment
    assert (await claimed(book, waiting)).content == ReplyContent()
    assert not (await book.entry(sent))["text_sha256"]
    (send,) = [send for send in await book.ledger.open_sends([CITIZEN]) if send.id == parked]
    assert send.text_sha256 == text_digest(a_reply().content.text)  # its echo can still be recognised
    for reply_id in (newer, stranger):
        reply = await claimed(book, reply_id) if reply_id == stranger else None
        assert reply is None or reply.content.text
        assert (await book.entry(reply_id)).get("erased_at") is None
