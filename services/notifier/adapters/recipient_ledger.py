"""The recipient ledger of broadcasts in MongoDB: who is meant, in chunks; and one row for each copy.

A chunk names the persons of one slice of the audience and is worked on by one owner at a time, under a lease by the
database's clock (`due_at`, as in the reply ledger: when to look at it next). Before the calls of a wave its copies are
named in the chunk (`wave`), by the same write that renews the lease, and only while the chunk is still this owner's.
So whoever takes the chunk over knows everybody whom an earlier owner may have called: those without an outcome become
uncertain before anything else happens, and nobody is called twice, whatever became of leases.

A person's row is inserted with the outcome of the attempt. Its id is a function of broadcast and person, so an outcome
is written over another only where that is told here: over an earlier attempt's, and a proof over doubt.

The counters of a chunk are absolute values counted from its rows; a later count wins, and a chunk with something
unfinished is counted again. So they add up to the audience whatever died in between.

Source: docs/architecture/broadcasts.md.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from services.notifier.adapters import unsettled
from services.notifier.domain.audience import Had
from services.notifier.domain.copies import (
    Chunk,
    Copy,
    CopyResult,
    CopyState,
    Counts,
    NewChunk,
    Progress,
    Recent,
    Row,
    Skip,
    Skipped,
    Slice,
    Wave,
    chunk_digest,
    copy_id,
    total,
)
from services.notifier.domain.lanes import Lane
from services.notifier.domain.next_step import Fail, Park, Sent, Step, TryAgain
from services.notifier.domain.settlement import NOT_SENT, OpenSend, Proof
from shared.crash import crash_point
from shared.mongo import (
    EPOCH,
    NEVER,
    Document,
    DuplicateKeyError,
    Store,
    insert_new,
    patiently,
    server_time_in,
    store_errors,
    value_of_each,
)

WEEK, DAY = timedelta(days=7), timedelta(days=1)
_SERVER_NOW = "$$NOW"
_AT_ONCE = EPOCH + timedelta(seconds=1)
LISTED: tuple[Lane, ...] = ("answer", "consultation")
"""Lanes whose messages Zalo's list of a conversation shows; of templates its documentation does not say so."""
NAMES = unsettled.Names(started_at="marked_at", kind="lane", listed=LISTED, own="copy")
_MAY_HAVE = ("sent", "uncertain")
_GIVEN_UP = "send.abandoned"
_ROW_FIELDS = {"person": 1, "state": 1, "attempt": 1, "failures": 1, "due_at": 1, "requested_at": 1}
_LEASE_EXPIRED = "send.lease_expired"
_NO_WAVE: Document = {"wave": None, "in_flight": 0}


@dataclass(frozen=True, slots=True, eq=False)
class _Attempt:
    """A copy of a wave as its chunk names it.

    Attributes:
        chunk: the document, with the wave.
        number: counted from 1.
    """

    chunk: Document
    person: str
    citizen_key: str
    page: str
    number: int

    @property
    def row_id(self) -> str:
        return copy_id(self.chunk["broadcast_id"], self.person)


class RecipientLedger:
    """The `broadcast_chunks` and `recipients` collections.

    Args:
        store: the database.
        lease: how long a chunk may stay without a sign of its owner.
    """

    def __init__(self, store: Store, *, lease: timedelta) -> None:
        self._store = store
        self._chunks = store["broadcast_chunks"]
        self._rows = store["recipients"]
        self._lease_ms = int(lease.total_seconds() * 1000)

    # Building

    async def agree_on_slices(self, broadcast_id: str, wanted: int) -> int:
        """Into how many slices this audience is cut: the first who asks decides for all builders."""
        plan: Document = {"_id": f"{broadcast_id}:slices", "plan_of": broadcast_id, "slices": wanted, "state": "plan"}
        await patiently(lambda: insert_new(self._chunks, [plan]))
        stored = await patiently(lambda: self._chunks.find_one({"_id": plan["_id"]}))
        return int(stored["slices"]) if stored is not None else wanted

    async def add_chunks(self, chunks: Sequence[NewChunk]) -> None:
        """Keep chunks; those that are there already stay as they are.

        Raises:
            StoreUnavailable: some may be kept; repeat the call.
        """
        documents = [_chunk_document(chunk) for chunk in chunks]
        await patiently(lambda: insert_new(self._chunks, documents))
        crash_point("notifier.broadcast.after_chunks_added")

    async def built(self, broadcast_id: str) -> dict[int, tuple[int, str]]:
        """People and digest of each chunk that is there, by number."""
        with store_errors():
            cursor = self._chunks.find({"broadcast_id": broadcast_id}, {"number": 1, "people": 1, "digest": 1})
            documents = await cursor.to_list(None)
        return {document["number"]: (document["people"], document["digest"]) for document in documents}

    # Working on a chunk

    async def claim_chunk(self, broadcast_id: str, *, owner: str) -> Chunk | None:
        """Take a chunk that is due: one nobody had, one to go on with, or one whose owner gave no sign.

        What that owner may have called becomes uncertain first: it may have died, or may be about to hear from Zalo.

        Args:
            broadcast_id: whose.
            owner: unique to this claim.

        Raises:
            StoreUnavailable: one may be claimed; it is free again after its lease.
        """
        now = await self._store.server_now()
        document = await patiently(
            lambda: self._chunks.find_one_and_update(
                {"broadcast_id": broadcast_id, "state": "open", "due_at": {"$gt": EPOCH, "$lte": now}},
                [{"$set": {"owner": owner, "due_at": server_time_in(self._lease_ms)}}],
                return_document=True,
            )
        )
        if document is None:
            return None
        if document.get("in_flight"):
            crash_point("notifier.broadcast.before_takeover")
            await self._leave_uncertain(_attempts(document), now)
        return _chunk(document)

    async def rows_of(self, chunk: Chunk) -> list[Row]:
        """The rows that a chunk has so far."""
        of_chunk: Document = {"broadcast_id": chunk.broadcast_id, "chunk": chunk.part.number}
        documents = await patiently(lambda: self._rows.find(of_chunk, _ROW_FIELDS).to_list(None))
        return [Row(**{name: document[name] for name in _ROW_FIELDS}) for document in documents]

    async def renew(self, chunk: Chunk, counts: Counts) -> bool:
        """Give a sign, and show how far the work is.

        Returns:
            False if the chunk is somebody else's now: stop working on it.
        """
        return await self._sign(chunk, counts, {})

    async def _sign(self, chunk: Chunk, counts: Counts, news: Document) -> bool:
        changes = {"due_at": server_time_in(self._lease_ms), **_counters(counts), **news}
        answer = await patiently(
            lambda: self._chunks.update_one(
                {"_id": chunk.id, "owner": chunk.owner, "state": "open"}, [{"$set": changes}]
            )
        )
        return bool(answer.matched_count)

    async def release(self, chunk: Chunk, *, due_at: datetime | None) -> bool:
        """Put a chunk down with counters from its rows, when its last wave is recorded.

        Args:
            chunk: in our hands.
            due_at: when to go on with it; None is never, it is done.

        Returns:
            False if it was somebody else's already.
        """
        crash_point("notifier.broadcast.before_release")
        while True:
            number, counts = await self._counted(chunk.id, chunk.broadcast_id, chunk.part.number)
            end: Document = {"state": "done", "due_at": NEVER} if due_at is None else {"due_at": due_at}
            if due_at is None and counts.states["queued"]:  # somebody proved meanwhile that Zalo lacks a copy
                end = {"due_at": _AT_ONCE}
            changes = {"owner": None, **end, **_counters(counts), **_NO_WAVE}
            fence = {"_id": chunk.id, "owner": chunk.owner, "state": "open"}
            answer = await patiently(
                lambda number=number, changes=changes, fence=fence: self._chunks.update_one(  # type: ignore[misc]
                    {**fence, "recounts": number}, {"$set": changes}
                )
            )
            crash_point("notifier.broadcast.after_release")
            if answer.matched_count:
                return True
            with store_errors():
                if await self._chunks.find_one(fence, {"_id": 1}) is None:
                    return False

    async def recount(self, broadcast_id: str, numbers: Iterable[int]) -> None:
        """Count chunks again whose rows somebody else than their owner changed; open those with a copy to send."""
        for number in numbers:
            chunk_id = _chunk_id(broadcast_id, number)
            count, counts = await self._counted(chunk_id, broadcast_id, number)
            counted = {"_id": chunk_id, "recounts": count}
            with store_errors():
                if counts.states["queued"]:
                    opened = {"state": "open", "due_at": _AT_ONCE, "owner": None}
                    await self._chunks.update_one({**counted, "state": "done"}, {"$set": opened})
                await self._chunks.update_one(counted, {"$set": _counters(counts)})

    async def recount_unsettled(self, *, limit: int = 50) -> int:
        """Count done chunks again whose counters say that something is open: a settlement may have died before it."""
        with store_errors():
            cursor = self._chunks.find({"state": "done", "is_settled": False}, {"broadcast_id": 1, "number": 1})
            documents = await cursor.limit(limit).to_list(limit)
        for document in documents:
            await self.recount(document["broadcast_id"], [document["number"]])
        return len(documents)

    async def _counted(self, chunk_id: str, broadcast_id: str, number: int) -> tuple[int, Counts]:
        """Counts of a chunk's rows, with the number of this count: a count that began later has a higher one."""
        document = await patiently(
            lambda: self._chunks.find_one_and_update(
                {"_id": chunk_id},
                {"$inc": {"recounts": 1}},
                return_document=True,
                projection={"broadcast_id": 1, "recounts": 1, "people": 1, "in_flight": 1, "wave": 1},
            )
        )
        if document is None:
            return 0, Counts()
        groups = await patiently(
            lambda: self._store.aggregate(
                "recipients",
                [
                    {"$match": {"broadcast_id": broadcast_id, "chunk": number}},
                    {"$group": {"_id": {"state": "$state", "reason": "$reason"}, "count": {"$sum": 1}}},
                ],
            )
        )
        states, reasons = Counter[str](), Counter[tuple[str, str]]()
        for group in groups:
            states[group["_id"]["state"]] += group["count"]
            if reason := group["_id"].get("reason"):
                reasons[group["_id"]["state"], reason] += group["count"]
        if document.get("in_flight"):
            # Asked after the rows were counted: what is recorded in between is queued in this count, and in none twice.
            before = await self._unrecorded(_attempts(document))
            states.subtract(state for state in before.values() if state is not None)
            states["sending"] += len(before)
        states["queued"] += document["people"] - sum(states.values())
        return document["recounts"], Counts(states, reasons)

    # Copies

    async def skip(self, chunk: Chunk, skips: Sequence[Skip], *, now: datetime) -> None:
        """Write down who gets nothing and why; a person who has a row already keeps it."""
        documents: list[Document] = [
            {
                "_id": (row_id := copy_id(chunk.broadcast_id, skip.person)),
                "broadcast_id": chunk.broadcast_id,
                "chunk": chunk.part.number,
                "person": skip.person,
                "citizen_key": skip.citizen_key,
                "page": skip.page,
                "state": "skipped",
                "reason": skip.reason,
                "owner": chunk.owner,
                "attempt": 0,
                "failures": 0,
                "due_at": None,
                "marked_at": now,
                "requested_at": now,
                "finished_at": now,
                "message_key": f"copy {row_id}",
            }
            for skip in skips
        ]
        await patiently(lambda: insert_new(self._rows, documents))
        # Those who were queued again have a row: it ends here.
        waiting = {copy_id(chunk.broadcast_id, skip.person): skip.reason for skip in skips}
        by_reason: dict[str, list[str]] = defaultdict(list)
        for row_id, reason in waiting.items():
            by_reason[reason].append(row_id)
        for reason, row_ids in by_reason.items():
            await patiently(
                partial(
                    self._rows.update_many,
                    {"_id": {"$in": row_ids}, "state": "queued"},
                    {"$set": {"state": "skipped", "reason": reason, "finished_at": now}},
                )
            )
        crash_point("notifier.broadcast.after_skip")

    async def mark_wave(self, chunk: Chunk, wave: Wave, counts: Counts) -> bool:
        """Name the copies that are called next, before any call, and give a sign.

        This takes the place of the wave before, which must be recorded. Whoever is named must have no row, or one that
        is queued, and this owner must know that from rows read after its claim: others only end uncertainty.

        Returns:
            False if the chunk is somebody else's now: call nobody.

        Raises:
            StoreUnavailable: it may be marked; repeat the call.
        """
        marked = {
            "owner": chunk.owner,
            "marked_at": wave.marked_at,
            "lane": wave.copies[0].lane,
            "text_sha256": wave.text_sha256,
            "copies": [[copy.person, copy.citizen_key, copy.page, copy.attempt] for copy in wave.copies],
        }
        is_ours = await self._sign(chunk, counts, {"wave": {"$literal": marked}, "in_flight": len(wave.copies)})
        crash_point("notifier.broadcast.after_mark")
        return is_ours

    async def record(self, chunk: Chunk, wave: Wave, results: Sequence[CopyResult]) -> None:
        """Write down what attempts came to. Repeating it changes nothing.

        Raises:
            StoreUnavailable: repeat the call.
        """
        crash_point("notifier.broadcast.before_record")
        marked = {"owner": chunk.owner, "marked_at": wave.marked_at, "text_sha256": wave.text_sha256}
        alike: dict[tuple[Any, ...], list[CopyResult]] = defaultdict(list)
        for result in results:
            alike[result.copy.lane, result.copy.attempt, _without_message(result.step), result.ended_at].append(result)
        for (lane, _, step, ended_at), group in alike.items():
            document: Document = {
                "broadcast_id": chunk.broadcast_id,
                "number": chunk.part.number,
                "wave": {**marked, "lane": lane},
            }
            attempts = [
                _Attempt(document, one.copy.person, one.copy.citizen_key, one.copy.page, one.copy.attempt)
                for one in group
            ]
            message_ids = [one.step.message_id for one in group if isinstance(one.step, Sent) and one.step.message_id]
            await self._write(attempts, _outcome(step, ended_at), message_ids)
        crash_point("notifier.broadcast.after_record")

    async def _leave_uncertain(self, attempts: Sequence[_Attempt], now: datetime) -> None:
        """End attempts of which nobody knows, unless their outcome is written down."""
        by_number: dict[int, list[_Attempt]] = defaultdict(list)
        for attempt in attempts:
            by_number[attempt.number].append(attempt)
        unknown = _outcome(Park(_LEASE_EXPIRED, ""), now)
        for group in by_number.values():
            await patiently(partial(self._write, group, unknown, ()))

    async def _write(self, attempts: Sequence[_Attempt], outcome: Document, message_ids: Sequence[str]) -> None:
        """Write one outcome of attempts that are alike; `message_ids` name each one's message, or there are none.

        A write for each row costs a server that makes every write durable by itself a flush for each.
        """
        rows = {}
        for number, attempt in enumerate(attempts):
            row_id = attempt.row_id
            message_key = message_ids[number] if message_ids else f"copy {row_id}"
            rows[row_id] = _row_document(row_id, attempt, outcome, message_key)
        left = set(rows)
        if attempts[0].number == 1:
            left -= await insert_new(self._rows, list(rows.values()))
        if not left:
            return
        await self._write_over([rows[row_id] for row_id in rows if row_id in left])
        if attempts[0].number > 1 or not message_ids:
            return
        with store_errors():
            cursor = self._rows.find({"_id": {"$in": list(left)}}, {"_id": 1})
            left -= {document["_id"] for document in await cursor.to_list(None)}
        # Zalo gave one message id twice, or an echo settled another send with it: keep the fact, not the id.
        await insert_new(self._rows, [_without_id(rows[row_id]) for row_id in left])

    async def _write_over(self, rows: Sequence[Document]) -> None:
        """Write outcomes over rows that are there, where these are of an earlier attempt, or in doubt of this one."""
        try:
            with store_errors():
                await self._rows.update_many(*_over(rows))
        except DuplicateKeyError:
            for row in rows:
                try:
                    with store_errors():
                        await self._rows.update_many(*_over([row]))
                except DuplicateKeyError:
                    with store_errors():
                        await self._rows.update_many(*_over([_without_id(row)]))

    # Copies under way

    async def _in_flight(self, is_meant: Callable[[_Attempt], bool], **narrowed: Any) -> list[_Attempt]:
        """Attempts that are marked and not recorded.

        To be asked before the rows are read: what is recorded in between is seen twice and not missed.
        """
        fields = {"broadcast_id": 1, "number": 1, "wave": 1}
        documents = await patiently(
            lambda: self._chunks.find({"in_flight": {"$gt": 0}, **narrowed}, fields).to_list(None)
        )
        meant = [attempt for document in documents for attempt in _attempts(document) if is_meant(attempt)]
        return list(await self._unrecorded(meant))

    async def _unrecorded(self, attempts: Sequence[_Attempt]) -> dict[_Attempt, str | None]:
        """Those attempts whose outcome is not written down, and the state of the earlier attempt's row."""
        if not attempts:
            return {}
        by_id = {attempt.row_id: attempt for attempt in attempts}
        documents = await patiently(
            lambda: self._rows.find({"_id": {"$in": list(by_id)}}, {"attempt": 1, "state": 1}).to_list(None)
        )
        rows = {document["_id"]: document for document in documents}
        return {
            attempt: rows[row_id]["state"] if row_id in rows else None
            for row_id, attempt in by_id.items()
            if row_id not in rows or rows[row_id]["attempt"] < attempt.number
        }

    async def recent(self, copies: Sequence[Copy], *, broadcast_id: str, now: datetime) -> dict[str, Recent]:
        """What other broadcasts each person has had, or is getting now; those with nothing are missing."""
        person_of = {key: copy.person for copy in copies for key in copy.keys}
        of_others = {"broadcast_id": {"$ne": broadcast_id}}
        under_way = await self._in_flight(lambda attempt: attempt.citizen_key in person_of, **of_others)
        pending = Counter(person_of[attempt.citizen_key] for attempt in under_way)
        had = await self._had(person_of, now, **of_others)
        return {person: Recent(had.get(person, Had()), pending[person]) for person in had.keys() | pending}

    async def had(self, keys_by_person: Mapping[str, Sequence[str]], *, now: datetime) -> dict[str, Had]:
        """How many broadcasts persons have had or may have, by all their contacts; for a forecast.

        Copies that are under way at this moment are not counted.
        """
        return await self._had({key: person for person, keys in keys_by_person.items() for key in keys}, now)

    async def _had(self, person_of: Mapping[str, str], now: datetime, **narrowed: Any) -> dict[str, Had]:
        day, week = Counter[str](), Counter[str]()
        for document in await self._marked(list(person_of), now, **narrowed):
            person = person_of[document["citizen_key"]]
            week[person] += 1
            day[person] += document["marked_at"] > now - DAY
        return {person: Had(day[person], week[person]) for person in week}

    async def _marked(self, citizen_keys: list[str], now: datetime, **narrowed: Any) -> list[Document]:
        """Copies of the week that these citizens have or may have; who gave one up did not know either."""
        lately = {"citizen_key": {"$in": citizen_keys}, "marked_at": {"$gt": now - WEEK, "$lt": now + DAY}, **narrowed}
        fields = {"citizen_key": 1, "state": 1, "marked_at": 1, "reason": 1}
        states = {"$in": [*_MAY_HAVE, "failed"]}
        documents = await patiently(lambda: self._rows.find({**lately, "state": states}, fields).to_list(None))
        return [one for one in documents if one["state"] != "failed" or one["reason"] == _GIVEN_UP]

    # Settling; the same calls as the reply ledger's

    async def open_sends(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        """Copies to these citizens of which it is not known whether Zalo has them."""
        keys = set(citizen_keys)
        under_way = [
            OpenSend(
                id=attempt.row_id,
                citizen_key=attempt.citizen_key,
                text_sha256=attempt.chunk["wave"]["text_sha256"],
                started_at=attempt.chunk["wave"]["marked_at"],
                attempt=attempt.number,
                state="sending",
                requested_at=attempt.chunk["wave"]["marked_at"],
                is_listed=attempt.chunk["wave"]["lane"] in LISTED,
            )
            for attempt in await self._in_flight(lambda attempt: attempt.citizen_key in keys)
        ]
        return under_way + await self.uncertain(keys)

    async def uncertain(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        """Those of them that are uncertain."""
        return await unsettled.in_states(self._rows, citizen_keys, ["uncertain"], NAMES)

    async def nameless(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        """Copies that these citizens have by an answer without an id."""
        return await unsettled.nameless(self._rows, citizen_keys, NAMES)

    async def owned(self, message_ids: Iterable[str]) -> set[str]:
        """Which of Zalo's message ids a copy has already."""
        return await unsettled.owned(self._rows, message_ids)

    async def settle(self, send: OpenSend, proof: Proof) -> bool:
        """Mark an uncertain copy as sent, by what proves it.

        Returns:
            False if another replica settled it, or gave the proof to another copy.
        """
        crash_point("notifier.broadcast.before_settle")
        fields = {
            "state": "sent",
            "reason": None,
            "message_key": proof.message_id,
            "settled_by": proof.kind,
            "sent_at": proof.at,
            "finished_at": proof.at,
        }
        try:
            with store_errors():
                document = await self._rows.find_one_and_update(
                    {"_id": send.id, "state": "uncertain", "attempt": send.attempt},
                    {"$set": fields},
                    projection={"broadcast_id": 1, "chunk": 1},
                )
        except DuplicateKeyError:
            return False
        crash_point("notifier.broadcast.after_settle")
        if document is None:
            return False
        await self.recount(document["broadcast_id"], [document["chunk"]])
        return True

    async def not_taken(self, send: OpenSend, step: TryAgain | Fail, *, now: datetime) -> bool:
        """End the uncertainty about a copy that Zalo provably does not have: queue it again, or fail it.

        Returns:
            False if it is not uncertain any more.
        """
        uncertain, fields = unsettled.without(send, step, now=now)
        with store_errors():
            document = await self._rows.find_one_and_update(
                uncertain, {"$set": fields}, projection={"broadcast_id": 1, "chunk": 1}
            )
        crash_point("notifier.broadcast.after_not_taken")
        if document is None:
            return False
        await self.recount(document["broadcast_id"], [document["chunk"]])
        return True

    async def let_go(self, finished: Sequence[str], citizen_keys: Iterable[str], *, now: datetime) -> None:
        """Nothing waits behind a copy."""

    async def uncertain_due(self, *, now: datetime, limit: int) -> dict[str, tuple[str, int]]:
        """Uncertain copies that are to be looked at again: citizen and number of checks by id."""
        return await unsettled.uncertain_due(self._rows, now=now, limit=limit)

    async def check_again(self, at: Mapping[str, tuple[int, datetime]]) -> None:
        """Set when uncertain copies are looked at next: number of checks and moment by id."""
        await unsettled.check_again(self._rows, at)

    async def mark(self, reports: Mapping[str, Mapping[str, datetime]]) -> set[str]:
        """Note receipts on the copies they are about; the earliest of each kind stays. An echo only repeats the answer.

        Returns:
            The message ids that copies of ours have.
        """
        known = await self.owned(reports)
        news: dict[str, dict[str, datetime]] = defaultdict(dict)
        for message_id in known:
            for kind, at in reports[message_id].items():
                if kind != "echo":
                    news[f"{kind}_at"][message_id] = at
        for name, moments in news.items():
            await unsettled.note_moments(self._rows, name, moments, by="message_key")
        return known

    async def delivered(self, moments: Mapping[str, datetime]) -> dict[str, str]:
        """Note on copies that Zalo delivered them, told by our own ids; the earliest moment stays.

        One that is still under way gets its row now, as uncertain: the delivery will settle it if its answer does not.

        Returns:
            The citizens by id of those that are ours.
        """
        citizens = await self._citizens(moments)
        if others := set(moments) - set(citizens):
            under_way = await self._in_flight(lambda attempt: attempt.row_id in others)
            await self._leave_uncertain(under_way, await self._store.server_now())
            citizens |= await self._citizens(others)
        theirs = {row_id: at for row_id, at in moments.items() if row_id in citizens}
        await unsettled.note_moments(self._rows, "received_at", theirs)
        return citizens

    async def _citizens(self, row_ids: Iterable[str]) -> dict[str, str]:
        with store_errors():
            cursor = self._rows.find({"_id": {"$in": list(row_ids)}}, {"citizen_key": 1})
            return {document["_id"]: document["citizen_key"] for document in await cursor.to_list(None)}

    async def abandon(self, broadcast_id: str, person: str, *, by: str, now: datetime) -> bool:
        """A person gives an uncertain copy up: it is counted as failed and never sent.

        Returns:
            False if it is not uncertain.
        """
        given_up: Document = {"state": "failed", "reason": _GIVEN_UP}
        return await self._end_by_person(broadcast_id, person, given_up, by=by, now=now)

    async def settle_by_person(self, broadcast_id: str, person: str, *, is_sent: bool, by: str, now: datetime) -> bool:
        """A person says what became of an uncertain copy, as they saw it at Zalo's; nothing is sent again.

        Returns:
            False if it is not uncertain.
        """
        seen: Document = {"state": "sent", "reason": None, "sent_at": now}
        missing: Document = {"state": "failed", "reason": NOT_SENT}
        return await self._end_by_person(broadcast_id, person, seen if is_sent else missing, by=by, now=now)

    async def _end_by_person(self, broadcast_id: str, person: str, fate: Document, *, by: str, now: datetime) -> bool:
        with store_errors():
            document = await self._rows.find_one_and_update(
                {"_id": copy_id(broadcast_id, person), "state": "uncertain"},
                {"$set": {**fate, "settled_by": "person", "decided_by": by, "finished_at": now}},
                projection={"chunk": 1},
            )
        if document is None:
            return False
        await self.recount(broadcast_id, [document["chunk"]])
        return True

    # Looking

    async def progress(self, broadcast_id: str) -> Progress:
        """How far a broadcast is, from the counters of its chunks."""
        fields = {"people": 1, "state": 1, "counts": 1, "reasons": 1}
        with store_errors():
            documents = await self._chunks.find({"broadcast_id": broadcast_id}, fields).to_list(None)
        counts = total(_read_counters(document) for document in documents)
        return Progress(
            people=sum(document["people"] for document in documents),
            chunks=len(documents),
            chunks_done=sum(document["state"] == "done" for document in documents),
            states={state: counts.states.get(state, 0) for state in _STATES},
            reasons=counts.reasons,
        )

    async def with_open_chunks(self) -> set[str]:
        """Ids of the broadcasts that have a chunk to go on with."""
        grouped = [{"$match": {"state": "open"}}, {"$group": {"_id": "$broadcast_id"}}]
        with store_errors():
            return {group["_id"] for group in await self._store.aggregate("broadcast_chunks", grouped)}

    async def next_due(self, broadcast_id: str) -> datetime | None:
        """When the first open chunk is due; None when all are done."""
        with store_errors():
            cursor = self._chunks.find({"broadcast_id": broadcast_id, "state": "open"}, {"due_at": 1})
            documents = await cursor.sort([("due_at", 1)]).limit(1).to_list(1)
        return documents[0]["due_at"] if documents else None

    async def in_state(self, broadcast_id: str, state: CopyState, *, limit: int) -> list[Document]:
        """Some copies of a broadcast in one state; for states that few are in."""
        under_way: dict[str, Document] = {}
        if state in ("queued", "sending", "skipped"):
            attempts = await self._in_flight(lambda _: True, broadcast_id=broadcast_id)
            rows = (_row_document(one.row_id, one, {"state": "sending", "reason": None}, "") for one in attempts)
            under_way = {row["_id"]: row for row in rows}
        if state == "sending":
            return list(under_way.values())[:limit]
        with store_errors():
            cursor = self._rows.find({"broadcast_id": broadcast_id, "state": state}).limit(limit + len(under_way))
            documents = await cursor.to_list(None)
        return [document for document in documents if document["_id"] not in under_way][:limit]

    async def of_person(self, person: str, broadcast_ids: Iterable[str]) -> list[Document]:
        """What became of a person's copies of these broadcasts; those that nothing was decided about are missing."""
        row_ids = [copy_id(broadcast_id, person) for broadcast_id in broadcast_ids]
        with store_errors():
            return await self._rows.find({"_id": {"$in": row_ids}}).to_list(None)


_STATES: tuple[CopyState, ...] = ("queued", "sending", "sent", "failed", "uncertain", "skipped")


def _chunk_id(broadcast_id: str, number: int) -> str:
    return f"{broadcast_id}:{number}"


def _chunk_document(chunk: NewChunk) -> Document:
    counts = Counts({"queued": len(chunk.persons)})
    return {
        "_id": _chunk_id(chunk.broadcast_id, chunk.part.number),
        "broadcast_id": chunk.broadcast_id,
        "number": chunk.part.number,
        "first": chunk.part.first,
        "end": chunk.part.end,
        "persons": list(chunk.persons),
        "people": len(chunk.persons),
        "digest": chunk_digest(chunk.persons),
        "state": "open" if chunk.persons else "done",
        "due_at": _AT_ONCE,
        "owner": None,
        "recounts": 0,
        **_NO_WAVE,
        **_counters(counts),
    }


def _chunk(document: Document) -> Chunk:
    return Chunk(
        id=document["_id"],
        broadcast_id=document["broadcast_id"],
        part=Slice(document["number"], document["first"], document["end"]),
        persons=tuple(document["persons"]),
        owner=document["owner"],
    )


def _counters(counts: Counts) -> Document:
    """Counters as they are stored; reasons as a list, since they hold dots, which a field's name must not."""
    return {
        "counts": {state: counts.states.get(state, 0) for state in _STATES},
        "reasons": [[state, reason, count] for (state, reason), count in sorted(counts.reasons.items()) if count],
        "is_settled": not any(counts.states.get(state, 0) for state in ("queued", "sending", "uncertain")),
    }


def _read_counters(document: Document) -> Counts:
    return Counts(document["counts"], {(state, reason): count for state, reason, count in document["reasons"]})


def _attempts(document: Document) -> list[_Attempt]:
    """The copies of a chunk's wave; none are left of one that was recorded when the chunk was put down."""
    wave = document["wave"]
    return [_Attempt(document, *copy) for copy in wave["copies"]] if wave is not None else []


def _row_document(row_id: str, attempt: _Attempt, outcome: Document, message_key: str) -> Document:
    wave = attempt.chunk["wave"]
    return {
        "_id": row_id,
        "broadcast_id": attempt.chunk["broadcast_id"],
        "chunk": attempt.chunk["number"],
        "person": attempt.person,
        "citizen_key": attempt.citizen_key,
        "page": attempt.page,
        "lane": wave["lane"],
        "owner": wave["owner"],
        "attempt": attempt.number,
        "failures": 0,
        "due_at": None,
        "marked_at": wave["marked_at"],
        "requested_at": wave["marked_at"],
        "text_sha256": wave["text_sha256"],
        "message_key": message_key,
        **outcome,
    }


def _without_message(step: Step | Skipped) -> Step | Skipped:
    """What the outcomes of one wave have in common."""
    return replace(step, message_id="" if step.message_id else None) if isinstance(step, Sent) else step


def _without_id(row: Document) -> Document:
    """A row whose message id another send has."""
    return {**row, "message_key": f"copy {row['_id']}", "reported_message_id": row["message_key"]}


def _outcome(step: Step | Skipped, ended_at: datetime) -> Document:
    """What a row says of an attempt, but for its message id."""
    match step:
        case Sent(_, quota_type):
            fields: Document = {"state": "sent", "reason": None, "sent_at": ended_at, "finished_at": ended_at}
            return fields if quota_type is None else {**fields, "quota_type": quota_type}
        case TryAgain(at, reason, failures):
            return {"state": "queued", "due_at": at, "failures": failures, "reason": reason}
        case Fail(reason):
            return {"state": "failed", "reason": reason, "finished_at": ended_at}
        case Park(reason, why):
            fields = {"state": "uncertain", "reason": reason, "why": why, "uncertain_at": ended_at}
            return {**fields, "checks": 0, "due_at": ended_at}
        case Skipped(reason):
            return {"state": "skipped", "reason": reason, "finished_at": ended_at}


_OF_FIRST = frozenset({"_id", "broadcast_id", "chunk", "person", "requested_at"})
_OF_EACH = ("citizen_key", "page", "message_key", "reported_message_id")


def _over(rows: Sequence[Document]) -> tuple[Document, list[Document]]:
    """One write of rows that are alike over what is there of an earlier attempt, or in doubt of this one.

    An acceptance is a proof: it ends the doubt after the lease too.
    """
    first = rows[0]
    earlier = {"attempt": first["attempt"] - 1, "state": {"$in": ["queued", "skipped"]}}
    doubtful = {"attempt": first["attempt"], "owner": first["owner"], "state": "uncertain"}
    overwritten = [earlier, doubtful] if first["state"] == "sent" else [earlier]
    of_each = {name: {row["_id"]: row[name] for row in rows} for name in _OF_EACH if name in first}
    fields = {name: {"$literal": value} for name, value in first.items() if name not in _OF_FIRST | set(of_each)}
    fields |= {name: value_of_each(values) for name, values in of_each.items()}
    return {"_id": {"$in": [row["_id"] for row in rows]}, "$or": overwritten}, [{"$set": fields}]
