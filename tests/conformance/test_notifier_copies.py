"""What the runner relies on in the recipient ledger: one suite for the stand-in of unit tests and the real one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from services.notifier.adapters.clock import ServerClock
from services.notifier.adapters.recipient_ledger import RecipientLedger
from services.notifier.domain.copies import (
    Chunk,
    Copy,
    CopyResult,
    Counts,
    NewChunk,
    Skip,
    Skipped,
    Wave,
    copy_id,
    slice_of,
)
from services.notifier.domain.next_step import Fail, Park, Sent, TryAgain
from services.notifier.domain.settlement import OpenSend, Proof
from services.notifier.handlers.ports import Clock
from shared.collections import ALL_COLLECTIONS
from shared.ids import deterministic_id, text_digest
from shared.mongo import Store
from tests.factories import OA_ID, PAGE
from tests.unit.notifier.fake_copies import FakeCopies
from tests.unit.notifier.fakes import ManualClock
from tests.unit.notifier.samples import eventually
from tests.unit.notifier.stores import fresh_store

LEASE = timedelta(seconds=0.4)
TEXT = text_digest("Báo lũ")
PERSONS = tuple(sorted(deterministic_id("person", str(number)) for number in range(8)))
BACKENDS = ["fake", "motor", "pymongo"]


@dataclass
class Book:
    """A ledger with one chunk of eight people, and its clock."""

    ledger: FakeCopies | RecipientLedger
    clock: Clock
    store: Store | None = None

    async def claim(self, owner: str = "me-1") -> Chunk:
        chunk = await self.ledger.claim_chunk("b1", owner=owner)
        assert chunk is not None
        return chunk

    async def pass_lease(self) -> None:
        if isinstance(self.clock, ManualClock):
            self.clock.advance(1)
            return
        end = self.clock.now() + LEASE + timedelta(milliseconds=30)
        await eventually(lambda: self.clock.now() > end)

    async def mark(self, chunk: Chunk, *copies: Copy) -> bool:
        return await self.ledger.mark_wave(chunk, self.wave(*copies), Counts())

    def wave(self, *copies: Copy) -> Wave:
        return Wave(copies, TEXT, self.clock.now())

    async def record(self, chunk: Chunk, copy: Copy, step: Any) -> None:
        await self.ledger.record(chunk, self.wave(copy), [CopyResult(copy, step, self.clock.now())])

    async def states(self) -> dict[str, int]:
        """By the counters, after everybody has put the chunk down."""
        if isinstance(self.ledger, RecipientLedger):
            await self.ledger.recount("b1", [0])
        progress = await self.ledger.progress("b1")
        assert sum(progress.states.values()) == progress.people == len(PERSONS)
        return {state: count for state, count in progress.states.items() if count}


def copy_of(number: int, **changes: Any) -> Copy:
    filled: dict[str, Any] = {
        "person": PERSONS[number],
        "citizen_key": f"{OA_ID}:2{number}",
        "page": PAGE,
        "oa_id": OA_ID,
        "user_id": f"2{number}",
        "lane": "answer",
        "keys": (f"{OA_ID}:2{number}",),
        "attempt": 1,
        "failures": 0,
        "requested_at": None,
    }
    return Copy(**{**filled, **changes})


@asynccontextmanager
async def opened(backend: str, mongo_uri: str) -> AsyncIterator[Book]:
    if backend == "fake":
        clock = ManualClock()
        yield Book(FakeCopies(clock, lease=LEASE), clock)
        return
    async with fresh_store(mongo_uri, backend) as store:
        server_clock = ServerClock(store)
        await server_clock.measure()
        yield Book(RecipientLedger(store, lease=LEASE), server_clock, store)


@pytest.fixture(params=BACKENDS)
async def book(request: pytest.FixtureRequest, mongo_uri: str) -> AsyncIterator[Book]:
    async with opened(request.param, mongo_uri) as one:
        await one.ledger.add_chunks([NewChunk("b1", slice_of(0, 1), PERSONS)])
        yield one


async def test_the_first_builder_decides_on_the_slices(book: Book) -> None:
    assert await book.ledger.agree_on_slices("b2", 5) == 5
    assert await book.ledger.agree_on_slices("b2", 7) == 5


async def test_a_chunk_is_kept_once_and_an_empty_one_is_done(book: Book) -> None:
    await book.ledger.add_chunks([NewChunk("b1", slice_of(0, 1), PERSONS[:2])])
    await book.ledger.add_chunks([NewChunk("b3", slice_of(0, 2), ()), NewChunk("b3", slice_of(1, 2), PERSONS[:1])])

    assert {number: people for number, (people, _) in (await book.ledger.built("b1")).items()} == {0: 8}
    progress = await book.ledger.progress("b3")
    assert (progress.people, progress.chunks, progress.chunks_done, progress.states["queued"]) == (1, 2, 1, 1)


async def test_a_chunk_has_one_owner_until_its_lease_is_over(book: Book) -> None:
    assert await book.ledger.with_open_chunks() == {"b1"}
    mine = await book.claim("me-1")
    assert (mine.persons, mine.owner) == (PERSONS, "me-1")
    assert await book.ledger.claim_chunk("b1", owner="you-1") is None
    assert await book.ledger.renew(mine, Counts())

    await book.pass_lease()
    yours = await book.claim("you-1")

    assert yours.owner == "you-1"
    assert not await book.ledger.renew(mine, Counts())
    assert not await book.ledger.release(mine, due_at=None)
    assert await book.ledger.release(yours, due_at=None)  # nobody is decided yet, so it is not done
    yours = await book.claim("you-2")
    await book.ledger.skip(yours, [Skip(one, None, None, "audience.left") for one in PERSONS], now=book.clock.now())
    assert await book.ledger.release(yours, due_at=None)
    assert await book.ledger.claim_chunk("b1", owner="you-3") is None
    assert await book.ledger.next_due("b1") is None
    assert await book.ledger.with_open_chunks() == set()


async def test_a_chunk_put_down_until_later_is_taken_again_then(book: Book) -> None:
    chunk = await book.claim()
    await book.ledger.release(chunk, due_at=book.clock.now() + timedelta(minutes=1))
    assert await book.ledger.claim_chunk("b1", owner="me-2") is None
    assert await book.ledger.next_due("b1") is not None


async def test_a_wave_is_marked_only_by_whoever_holds_the_chunk(book: Book) -> None:
    mine = await book.claim("me-1")
    assert not await book.mark(replace(mine, owner="you-1"), copy_of(0))
    assert await book.states() == {"queued": 8}
    assert await book.mark(mine, copy_of(0), copy_of(1))
    assert await book.mark(mine, copy_of(0), copy_of(1))  # its answer was lost
    assert await book.states() == {"sending": 2, "queued": 6}

    await book.pass_lease()
    await book.claim("you-1")

    assert not await book.mark(mine, copy_of(2))
    assert await book.states() == {"uncertain": 2, "queued": 6}


async def test_a_mark_gives_a_sign_and_counts(book: Book) -> None:
    chunk = await book.claim("me-1")
    await book.pass_lease()

    assert await book.ledger.mark_wave(chunk, book.wave(copy_of(0)), Counts({"sending": 1, "queued": 7}))

    assert await book.ledger.claim_chunk("b1", owner="you-1") is None
    progress = await book.ledger.progress("b1")
    assert (progress.in_flight, progress.states["queued"]) == (1, 7)


async def test_of_two_owners_at_once_one_marks(book: Book) -> None:
    mine = await book.claim("me-1")
    copies = [copy_of(number) for number in range(8)]
    marked = await asyncio.gather(*(book.mark(replace(mine, owner=f"me-{n}"), *copies) for n in range(5)))

    assert marked == [False, True, False, False, False]


@pytest.mark.parametrize(
    ("step", "state", "reason"),
    [
        (Sent("m1", "reply"), "sent", None),
        (Sent(None, None), "sent", None),
        (Fail("contact.blocked"), "failed", "contact.blocked"),
        (Park("zalo.answer_lost", "$reset"), "uncertain", "zalo.answer_lost"),
        (Skipped("cap.day"), "skipped", "cap.day"),
    ],
)
async def test_an_outcome_is_recorded_counted_and_repeatable(book: Book, step: Any, state: str, reason: str) -> None:
    chunk = await book.claim()
    await book.mark(chunk, copy_of(0))
    for _ in range(2):
        await book.record(chunk, copy_of(0), step)

    assert await book.states() == {state: 1, "queued": 7}
    reasons = (await book.ledger.progress("b1")).reasons
    assert dict(reasons) == ({(state, reason): 1} if reason else {})


async def test_many_outcomes_at_once_keep_each_its_own_message(book: Book) -> None:
    chunk = await book.claim()
    copies = [copy_of(number) for number in range(6)]
    wave = book.wave(*copies)
    await book.mark(chunk, *copies)
    now = book.clock.now()
    steps: list[Any] = [Sent("$m0", "reply"), Sent("m1", "reply"), Sent("m2", None), Fail("a.b"), Park("c.d", "x")]
    steps.append(Sent("m5", "reply"))
    results = [CopyResult(copy, step, now) for copy, step in zip(copies, steps, strict=True)]
    await book.ledger.record(chunk, wave, results)

    assert await book.ledger.owned(["$m0", "m1", "m2", "m3", "m5"]) == {"$m0", "m1", "m2", "m5"}
    assert await book.states() == {"sent": 4, "failed": 1, "uncertain": 1, "queued": 2}


async def test_a_message_id_given_twice_is_owned_once_and_both_copies_are_sent(book: Book) -> None:
    chunk = await book.claim()
    await book.mark(chunk, copy_of(0), copy_of(1))
    now = book.clock.now()
    results = [CopyResult(copy_of(n), Sent("m1", None), now) for n in (0, 1)]
    for _ in range(2):
        await book.ledger.record(chunk, book.wave(copy_of(0), copy_of(1)), results)

    assert await book.states() == {"sent": 2, "queued": 6}


async def test_a_proven_refusal_is_queued_until_its_time_and_marked_again(book: Book) -> None:
    chunk = await book.claim()
    await book.mark(chunk, copy_of(0))
    await book.record(chunk, copy_of(0), TryAgain(book.clock.now() + timedelta(minutes=1), "zalo.busy", 1))
    again = copy_of(0, attempt=2)
    (row,) = await book.ledger.rows_of(chunk)
    assert (row.state, row.attempt, row.failures) == ("queued", 1, 1)
    assert row.due_at is not None
    assert row.due_at > book.clock.now()
    assert await book.mark(chunk, again)
    await book.record(chunk, copy_of(0), Sent("late", None))  # the first attempt's: fenced off
    assert await book.states() == {"sending": 1, "queued": 7}
    await book.record(chunk, again, Sent("m1", None))
    assert await book.states() == {"sent": 1, "queued": 7}


async def test_what_a_dead_owner_left_is_uncertain_and_its_late_acceptance_still_counts(book: Book) -> None:
    mine = await book.claim("me-1")
    await book.mark(mine, copy_of(0), copy_of(1))
    await book.pass_lease()
    yours = await book.claim("you-1")

    rows = {row.person: row for row in await book.ledger.rows_of(yours)}
    assert {row.state for row in rows.values()} == {"uncertain"}
    await book.record(mine, copy_of(0), Sent("m1", None))  # a proof
    await book.record(mine, copy_of(1), Fail("contact.blocked"))  # no longer ours to say

    assert await book.states() == {"sent": 1, "uncertain": 1, "queued": 6}


async def test_only_what_a_dead_owner_did_not_record_is_uncertain(book: Book) -> None:
    mine = await book.claim("me-1")
    await book.mark(mine, *(copy_of(number) for number in range(4)))
    await book.record(mine, copy_of(0), Sent("m1", None))
    await book.record(mine, copy_of(1), TryAgain(book.clock.now(), "zalo.busy", 1))
    await book.record(mine, copy_of(2), Skipped("cap.day"))
    await book.pass_lease()
    yours = await book.claim("you-1")
    assert await book.states() == {"sent": 1, "queued": 5, "skipped": 1, "uncertain": 1}

    again = copy_of(1, attempt=2)
    assert await book.mark(yours, again)
    assert await book.states() == {"sent": 1, "sending": 1, "queued": 4, "skipped": 1, "uncertain": 1}
    await book.pass_lease()
    await book.claim("you-2")
    assert await book.states() == {"sent": 1, "queued": 4, "skipped": 1, "uncertain": 2}
    rows = {row.person: row for row in await book.ledger.rows_of(yours)}
    assert (rows[PERSONS[1]].state, rows[PERSONS[1]].attempt) == ("uncertain", 2)
    await book.record(mine, copy_of(1), Sent("m0", None))  # the first attempt's: refused for certain
    await book.record(yours, again, Sent("m2", None))
    assert await book.states() == {"sent": 2, "queued": 4, "skipped": 1, "uncertain": 1}
    assert await book.ledger.owned(["m0", "m1", "m2"]) == {"m1", "m2"}


async def test_a_skip_never_overwrites_a_copy_and_ends_one_that_waits(book: Book) -> None:
    chunk = await book.claim()
    await book.mark(chunk, copy_of(0), copy_of(1))
    await book.record(chunk, copy_of(1), TryAgain(book.clock.now(), "zalo.busy", 1))
    skips = [Skip(PERSONS[number], f"{OA_ID}:2{number}", PAGE, "contact.opted_out") for number in range(3)]
    for _ in range(2):
        await book.ledger.skip(chunk, skips, now=book.clock.now())

    assert await book.states() == {"sending": 1, "skipped": 2, "queued": 5}
    await book.record(chunk, copy_of(0), Sent("m1", None))
    assert await book.states() == {"sent": 1, "skipped": 2, "queued": 5}


async def test_an_echo_settles_an_uncertain_copy_once(book: Book) -> None:
    chunk = await book.claim()
    await book.mark(chunk, copy_of(0), copy_of(1))
    for number in (0, 1):
        await book.record(chunk, copy_of(number), Park("zalo.answer_lost", "reset"))
    sends = {send.citizen_key: send for send in await book.ledger.open_sends([f"{OA_ID}:20", f"{OA_ID}:21"])}
    assert {send.text_sha256 for send in sends.values()} == {TEXT}
    proof = Proof("m1", f"{OA_ID}:20", "echo", TEXT, book.clock.now())

    assert await book.ledger.settle(sends[f"{OA_ID}:20"], proof)
    assert not await book.ledger.settle(sends[f"{OA_ID}:20"], proof)
    assert not await book.ledger.settle(sends[f"{OA_ID}:21"], proof)  # it belongs to the other one

    assert await book.states() == {"sent": 1, "uncertain": 1, "queued": 6}
    assert await book.ledger.mark({"m1": {"seen": book.clock.now()}, "other": {}}) == {"m1"}


async def test_a_copy_that_was_taken_without_an_id_is_shown_among_those_without_a_name(book: Book) -> None:
    chunk = await book.claim()
    await book.mark(chunk, copy_of(0), copy_of(1), copy_of(2))
    await book.record(chunk, copy_of(0), Sent(None, None))
    await book.record(chunk, copy_of(1), Sent("m1", None))

    citizens = [f"{OA_ID}:20", f"{OA_ID}:21", f"{OA_ID}:22"]
    (shown,) = await book.ledger.nameless(citizens)

    assert (shown.citizen_key, shown.state, shown.text_sha256) == (f"{OA_ID}:20", "sent", TEXT)
    assert [send.citizen_key for send in await book.ledger.open_sends(citizens)] == [f"{OA_ID}:22"]


async def test_a_delivery_that_names_a_copy_is_noted_on_it_whatever_its_state(book: Book) -> None:
    chunk = await book.claim()
    await book.mark(chunk, copy_of(0), copy_of(1))
    names = [copy_id("b1", copy_of(number).person) for number in (0, 1)]
    later = book.clock.now() + timedelta(minutes=1)

    for at in (later, book.clock.now(), later):
        assert await book.ledger.delivered({names[0]: at, "0" * 32: at}) == {names[0]: f"{OA_ID}:20"}
    assert await book.ledger.delivered({}) == {}

    # Its answer may never come, and then the delivery settles it.
    assert await book.states() == {"sending": 1, "uncertain": 1, "queued": 6}
    await book.record(chunk, copy_of(0), Fail("contact.blocked"))
    assert [send.id for send in await book.ledger.uncertain([f"{OA_ID}:20", f"{OA_ID}:21"])] == [names[0]]
    await book.record(chunk, copy_of(0), Sent("m1", None))
    assert await book.states() == {"sent": 1, "sending": 1, "queued": 6}


async def one_uncertain(book: Book, **changes: Any) -> OpenSend:
    """A ledger in whose one chunk all is done, but for one uncertain copy."""
    chunk = await book.claim()
    await book.mark(chunk, copy_of(0, **changes))
    await book.record(chunk, copy_of(0, **changes), Park("zalo.answer_lost", "reset"))
    await book.ledger.skip(chunk, [Skip(one, None, None, "audience.left") for one in PERSONS[1:]], now=book.clock.now())
    assert await book.ledger.release(chunk, due_at=None)
    (send,) = await book.ledger.open_sends([f"{OA_ID}:20"])
    return send


async def test_a_copy_that_zalo_does_not_have_fails_or_opens_its_chunk_again(book: Book) -> None:
    send = await one_uncertain(book)
    assert send.is_listed
    assert await book.ledger.next_due("b1") is None
    now = book.clock.now()
    step = TryAgain(now, "send.not_taken", 0)

    assert await book.ledger.not_taken(send, step, now=now)
    assert not await book.ledger.not_taken(send, step, now=now)

    assert await book.states() == {"queued": 1, "skipped": 7}
    chunk = await book.claim("me-2")
    (row,) = [row for row in await book.ledger.rows_of(chunk) if row.state == "queued"]
    again = copy_of(0, attempt=row.attempt + 1)
    assert await book.mark(chunk, again)
    await book.record(chunk, again, Park("zalo.answer_lost", "reset"))
    assert await book.ledger.release(chunk, due_at=None)
    (send,) = await book.ledger.open_sends([f"{OA_ID}:20"])
    assert await book.ledger.not_taken(send, Fail("send.not_taken"), now=now)
    assert await book.states() == {"failed": 1, "skipped": 7}
    assert await book.ledger.claim_chunk("b1", owner="me-3") is None


async def test_a_chunk_with_a_copy_to_send_cannot_be_put_down_as_done(book: Book) -> None:
    send = await one_uncertain(book)
    now = book.clock.now()
    await book.ledger.not_taken(send, TryAgain(now, "send.not_taken", 0), now=now)
    assert await book.ledger.release(await book.claim("me-2"), due_at=None)
    assert await book.ledger.with_open_chunks() == {"b1"}
    await book.claim("me-3")


async def test_zalo_lists_no_templates(book: Book) -> None:
    assert not (await one_uncertain(book, lane="template_user")).is_listed


async def test_uncertain_copies_are_looked_at_when_due_and_given_up_by_a_person(book: Book) -> None:
    chunk = await book.claim()
    await book.mark(chunk, copy_of(0))
    await book.record(chunk, copy_of(0), Park("zalo.answer_lost", "reset"))
    row_id = copy_id("b1", PERSONS[0])
    now = book.clock.now() + timedelta(seconds=1)
    assert await book.ledger.uncertain_due(now=now, limit=5) == {row_id: (f"{OA_ID}:20", 0)}
    await book.ledger.check_again({row_id: (1, now + timedelta(hours=1))})
    assert await book.ledger.uncertain_due(now=now, limit=5) == {}

    (listed,) = await book.ledger.in_state("b1", "uncertain", limit=5)
    assert (listed["person"], listed["citizen_key"], listed["reason"]) == (
        PERSONS[0],
        f"{OA_ID}:20",
        "zalo.answer_lost",
    )
    assert await book.ledger.in_state("b2", "uncertain", limit=5) == []

    assert await book.ledger.abandon("b1", PERSONS[0], by="an", now=now)
    assert await book.ledger.in_state("b1", "uncertain", limit=5) == []
    assert not await book.ledger.abandon("b1", PERSONS[0], by="an", now=now)
    assert await book.states() == {"failed": 1, "queued": 7}


async def test_a_person_says_what_became_of_uncertain_copies_and_their_word_counts(book: Book) -> None:
    chunk = await book.claim()
    copies = [copy_of(number) for number in range(3)]
    await book.mark(chunk, *copies)
    for copy in copies[:2]:
        await book.record(chunk, copy, Park("zalo.answer_lost", "reset"))
    now = book.clock.now() + timedelta(seconds=1)

    assert await book.ledger.settle_by_person("b1", PERSONS[0], is_sent=True, by="an", now=now)
    assert await book.ledger.settle_by_person("b1", PERSONS[1], is_sent=False, by="an", now=now)

    assert not await book.ledger.settle_by_person("b1", PERSONS[1], is_sent=True, by="an", now=now)
    assert not await book.ledger.settle_by_person("b1", PERSONS[2], is_sent=True, by="an", now=now)
    assert await book.states() == {"sent": 1, "failed": 1, "sending": 1, "queued": 5}
    assert (await book.ledger.progress("b1")).reasons == {("failed", "send.not_sent_by_person"): 1}
    (nameless,) = await book.ledger.nameless([f"{OA_ID}:20"])
    assert nameless.state == "sent", "an echo of it is still to be expected"
    recent = await book.ledger.recent(copies[:2], broadcast_id="b2", now=now)
    assert set(recent) == {PERSONS[0]}, "who has it, has it; who lacks it may get another"


async def test_a_persons_copies_are_found_by_the_broadcasts_one_asks_of(book: Book) -> None:
    chunk = await book.claim()
    await book.ledger.skip(chunk, [Skip(PERSONS[3], None, None, "broadcast.cancelled")], now=book.clock.now())

    (found,) = await book.ledger.of_person(PERSONS[3], ["b0", "b1"])

    assert (found["broadcast_id"], found["state"], found["reason"]) == ("b1", "skipped", "broadcast.cancelled")
    assert await book.ledger.of_person(PERSONS[3], ["b2"]) == []
    assert await book.ledger.of_person(PERSONS[4], ["b1"]) == []


async def test_caps_see_what_a_person_has_and_what_is_under_way_in_other_broadcasts(book: Book) -> None:
    await book.ledger.add_chunks([NewChunk("b2", slice_of(0, 1), PERSONS)])
    chunk = await book.claim()
    await book.mark(chunk, copy_of(0), copy_of(1), copy_of(2))
    await book.record(chunk, copy_of(0), Sent("m1", None))
    await book.record(chunk, copy_of(1), Fail("contact.blocked"))
    now = book.clock.now() + timedelta(seconds=1)
    copies = [copy_of(number) for number in range(4)]

    recent = await book.ledger.recent(copies, broadcast_id="b2", now=now)

    assert {person: (r.had.in_a_day, r.had.in_a_week, r.pending) for person, r in recent.items()} == {
        PERSONS[0]: (1, 1, 0),
        PERSONS[2]: (0, 0, 1),
    }
    assert await book.ledger.recent(copies, broadcast_id="b1", now=now) == {}
    await book.record(chunk, copy_of(2), Park("zalo.answer_lost", "reset"))
    assert await book.ledger.abandon("b1", PERSONS[2], by="an", now=now)
    recent = await book.ledger.recent(copies, broadcast_id="b2", now=now)
    assert recent[PERSONS[2]].had.in_a_day == 1, "who gave it up did not know whether it came"
    later = await book.ledger.had({PERSONS[0]: [f"{OA_ID}:20"]}, now=now + timedelta(days=2))
    assert (later[PERSONS[0]].in_a_day, later[PERSONS[0]].in_a_week) == (0, 1)


@pytest.mark.parametrize(
    ("collection", "query", "index"),
    [
        ("recipients", {"broadcast_id": "b", "chunk": 3}, "broadcast_id_1_chunk_1"),
        ("recipients", {"citizen_key": {"$in": ["a", "b"]}}, "citizen_key_1_marked_at_1"),
        ("recipients", {"message_key": {"$in": ["a", "b"]}}, "message_key_1"),
        ("broadcast_chunks", {"broadcast_id": "b", "state": "open"}, "broadcast_id_1_state_1_due_at_1"),
        ("broadcast_chunks", {"in_flight": {"$gt": 0}}, "in_flight_1"),
        ("broadcast_chunks", {"state": "done", "is_settled": False}, "state_1_is_settled_1"),
    ],
)
async def test_each_search_uses_its_index(mongo_uri: str, collection: str, query: dict[str, Any], index: str) -> None:
    async with fresh_store(mongo_uri, "motor") as store:
        await store[collection].insert_one({"_id": "x", "broadcast_id": "b", "message_key": "x"})
        plan = str(await store[collection].find(query).explain())

    assert index in plan
    assert any(spec.name == collection for spec in ALL_COLLECTIONS)
