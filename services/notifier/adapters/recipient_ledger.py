"""The recipient ledger of broadcasts in MongoDB: who is meant, in chunks; and one row for each copy.

A chunk names the persons of one slice of the audience and is worked on by one owner at a time, under a lease by the
database's clock (`due_at`, as in the reply ledger: when to look at it next). A person's row is *inserted* as `sending`
before the call to Zalo: its id is a function of broadcast and person, so nobody can mark a copy twice, whoever holds
the chunk. Everything after is fenced with id, owner, attempt and state.

The counters of a chunk are absolute values counted from its rows; a later count wins, and a chunk with something
unfinished is counted again. So they add up to the audience whatever died in between.

Source: docs/architecture/broadcasts.md.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
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
_MAY_HAVE = ("sending", "sent", "uncertain")
_GIVEN_UP = "send.abandoned"
_ROW_FIELDS = {"person": 1, "state": 1, "owner": 1, "attempt": 1, "failures": 1, "due_at": 1, "requested_at": 1}


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
        return None if document is None else _chunk(document)

    async def rows_of(self, chunk: Chunk) -> list[Row]:
        """The rows that a chunk has so far; what another owner left in `sending` becomes uncertain first.

        That owner may have died, or may be about to hear from Zalo: only its own record decides.
        """
        of_chunk: Document = {"broadcast_id": chunk.broadcast_id, "chunk": chunk.part.number}
        documents = await patiently(lambda: self._rows.find(of_chunk, _ROW_FIELDS).to_list(None))
        left = [row["_id"] for row in documents if row["state"] == "sending" and row["owner"] != chunk.owner]
        if left:
            await patiently(
                lambda: self._rows.update_many(
                    {"_id": {"$in": left}, "state": "sending", "owner": {"$ne": chunk.owner}},
                    [
                        {
                            "$set": {
                                "state": "uncertain",
                                "reason": "send.lease_expired",
                                "uncertain_at": _SERVER_NOW,
                                "checks": 0,
                                "due_at": _SERVER_NOW,
                            }
                        }
                    ],
                )
            )
            documents = await patiently(lambda: self._rows.find(of_chunk, _ROW_FIELDS).to_list(None))
        return [Row(**{name: document[name] for name in _ROW_FIELDS}) for document in documents]

    async def renew(self, chunk: Chunk, counts: Counts) -> bool:
        """Give a sign, and show how far the work is.

        Returns:
            False if the chunk is somebody else's now: stop working on it.
        """
        answer = await patiently(
            lambda: self._chunks.update_one(
                {"_id": chunk.id, "owner": chunk.owner, "state": "open"},
                [{"$set": {"due_at": server_time_in(self._lease_ms), **_counters(counts)}}],
            )
        )
        return bool(answer.matched_count)

    async def release(self, chunk: Chunk, *, due_at: datetime | None) -> bool:
        """Put a chunk down with counters from its rows.

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
            changes = {"owner": None, **end, **_counters(counts)}
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
                projection={"recounts": 1, "people": 1},
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

    async def mark_copies(self, chunk: Chunk, copies: Sequence[Copy], *, text_sha256: str, now: datetime) -> list[Copy]:
        """Mark copies as being sent, before any call.

        Returns:
            Those that are ours to send; the others are somebody else's.

        Raises:
            StoreUnavailable: some may be marked: repeat the call, it tells them again.
        """
        new = [copy for copy in copies if copy.attempt == 1]
        again = [copy for copy in copies if copy.attempt > 1]
        ours = await self._mark_new(chunk, new, text_sha256, now) if new else set()
        if again:
            ours |= await self._mark_again(chunk, again, now)
        crash_point("notifier.broadcast.after_mark")
        return [copy for copy in copies if copy.person in ours]

    async def _mark_new(self, chunk: Chunk, copies: Sequence[Copy], text_sha256: str, now: datetime) -> set[str]:
        by_id = {copy_id(chunk.broadcast_id, copy.person): copy for copy in copies}
        documents = [_row_document(row_id, chunk, copy, text_sha256, now) for row_id, copy in by_id.items()]
        with store_errors():
            inserted = await insert_new(self._rows, documents)
        # Of those that were there, some may be ours: from a try whose answer was lost. Nothing was called since.
        if there := [row_id for row_id in by_id if row_id not in inserted]:
            inserted |= await self._owned_rows(chunk, there)
        return {by_id[row_id].person for row_id in inserted}

    async def _mark_again(self, chunk: Chunk, copies: Sequence[Copy], now: datetime) -> set[str]:
        by_id = {copy_id(chunk.broadcast_id, copy.person): copy for copy in copies}
        await patiently(
            lambda: self._rows.update_many(
                {"_id": {"$in": list(by_id)}, "state": "queued", "due_at": {"$lte": now}},
                [
                    {
                        "$set": {
                            "state": "sending",
                            "owner": chunk.owner,
                            "attempt": {"$add": ["$attempt", 1]},
                            "marked_at": now,
                        }
                    }
                ],
            )
        )
        return {by_id[row_id].person for row_id in await self._owned_rows(chunk, list(by_id))}

    async def _owned_rows(self, chunk: Chunk, row_ids: Sequence[str]) -> set[str]:
        ours = {"_id": {"$in": list(row_ids)}, "owner": chunk.owner, "state": "sending"}
        documents = await patiently(lambda: self._rows.find(ours, {"_id": 1}).to_list(None))
        return {document["_id"] for document in documents}

    async def record(self, chunk: Chunk, results: Sequence[CopyResult]) -> None:
        """Write down what attempts came to; fenced, so that repeating it changes nothing.

        Raises:
            StoreUnavailable: repeat the call.
        """
        crash_point("notifier.broadcast.before_record")
        alike: dict[tuple[Any, ...], list[CopyResult]] = defaultdict(list)
        for result in results:
            alike[result.copy.attempt, _without_message(result.step), result.ended_at].append(result)
        for group in alike.values():
            try:
                with store_errors():
                    await self._rows.update_many(*_recording(chunk, group))
            except DuplicateKeyError:
                # Zalo gave one message id twice, or an echo settled another send with it: keep the fact, not the id.
                await self._record_singly(chunk, group)
        crash_point("notifier.broadcast.after_record")

    async def _record_singly(self, chunk: Chunk, results: Sequence[CopyResult]) -> None:
        for result in results:
            try:
                with store_errors():
                    await self._rows.update_many(*_recording(chunk, [result]))
            except DuplicateKeyError:
                with store_errors():
                    await self._rows.update_many(*_recording(chunk, [result], is_id_taken=True))

    async def recent(self, copies: Sequence[Copy], *, broadcast_id: str, now: datetime) -> dict[str, Recent]:
        """What other broadcasts each person has had, or is getting now; those with nothing are missing."""
        person_of = {key: copy.person for copy in copies for key in copy.keys}
        documents = await self._marked(list(person_of), now, broadcast_id={"$ne": broadcast_id})
        day, week, pending = Counter[str](), Counter[str](), Counter[str]()
        for document in documents:
            person = person_of[document["citizen_key"]]
            if document["state"] == "sending":
                pending[person] += 1
                continue
            week[person] += 1
            day[person] += document["marked_at"] > now - DAY
        return {person: Recent(Had(day[person], week[person]), pending[person]) for person in week | pending}

    async def had(self, keys_by_person: Mapping[str, Sequence[str]], *, now: datetime) -> dict[str, Had]:
        """How many broadcasts persons have had or may have, by all their contacts; for a forecast."""
        person_of = {key: person for person, keys in keys_by_person.items() for key in keys}
        day, week = Counter[str](), Counter[str]()
        for document in await self._marked(list(person_of), now):
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
        """Copies to these citizens whose message id is not known."""
        return await unsettled.open_sends(self._rows, citizen_keys, NAMES)

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

        Returns:
            The citizens by id of those that are ours.
        """
        with store_errors():
            cursor = self._rows.find({"_id": {"$in": list(moments)}}, {"citizen_key": 1})
            citizens = {document["_id"]: document["citizen_key"] for document in await cursor.to_list(None)}
        theirs = {row_id: at for row_id, at in moments.items() if row_id in citizens}
        await unsettled.note_moments(self._rows, "received_at", theirs)
        return citizens

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

    async def rows(
        self,
        broadcast_id: str,
        *,
        chunk: int,
        state: CopyState | None = None,
        reason: str | None = None,
    ) -> list[Document]:
        """The rows of one chunk, of a state or a reason if wanted; lists page by chunks."""
        filter_: Document = {"broadcast_id": broadcast_id, "chunk": chunk}
        if state is not None:
            filter_["state"] = state
        if reason is not None:
            filter_["reason"] = reason
        with store_errors():
            return await self._rows.find(filter_).to_list(None)

    async def in_state(self, broadcast_id: str, state: CopyState, *, limit: int) -> list[Document]:
        """Some copies of a broadcast in one state; for states that few are in."""
        with store_errors():
            return await self._rows.find({"broadcast_id": broadcast_id, "state": state}).limit(limit).to_list(None)

    async def of_citizen(self, citizen_key: str) -> list[Document]:
        """All broadcasts a citizen was meant to get, and why not."""
        with store_errors():
            return await self._rows.find({"citizen_key": citizen_key}).to_list(None)


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


def _row_document(row_id: str, chunk: Chunk, copy: Copy, text_sha256: str, now: datetime) -> Document:
    return {
        "_id": row_id,
        "broadcast_id": chunk.broadcast_id,
        "chunk": chunk.part.number,
        "person": copy.person,
        "citizen_key": copy.citizen_key,
        "page": copy.page,
        "lane": copy.lane,
        "state": "sending",
        "reason": None,
        "owner": chunk.owner,
        "attempt": 1,
        "failures": 0,
        "due_at": None,
        "marked_at": now,
        "requested_at": now,
        "text_sha256": text_sha256,
        "message_key": f"copy {row_id}",
    }


def _without_message(step: Step | Skipped) -> Step | Skipped:
    """What the outcomes of one wave have in common."""
    return replace(step, message_id="" if step.message_id else None) if isinstance(step, Sent) else step


def _recording(
    chunk: Chunk, results: Sequence[CopyResult], *, is_id_taken: bool = False
) -> tuple[Document, list[Document]]:
    """One write for outcomes that are alike but for their message ids.

    A write for each row costs a server that makes every write durable by itself a flush for each.
    """
    first = results[0]
    row_ids = [copy_id(chunk.broadcast_id, result.copy.person) for result in results]
    fence: Document = {
        "_id": {"$in": row_ids},
        "owner": chunk.owner,
        "attempt": first.copy.attempt,
        "state": "sending",
    }
    fields: Document
    match first.step:
        case Sent(message_id, quota_type):
            # An acceptance is a proof: it is recorded after the lease too.
            fence["state"] = {"$in": ["sending", "uncertain"]}
            fields = {"state": "sent", "reason": None, "sent_at": first.ended_at, "finished_at": first.ended_at}
            if quota_type is not None:
                fields["quota_type"] = {"$literal": quota_type}
            if message_id is not None:
                message_ids = (result.step.message_id for result in results if isinstance(result.step, Sent))
                of_row = value_of_each(dict(zip(row_ids, message_ids, strict=True)))
                fields["reported_message_id" if is_id_taken else "message_key"] = of_row
        case TryAgain(at, reason, failures):
            fields = {"state": "queued", "due_at": at, "failures": failures, "reason": reason}
        case Fail(reason):
            fields = {"state": "failed", "reason": reason, "finished_at": first.ended_at}
        case Park(reason, why):
            fields = {"state": "uncertain", "reason": reason, "why": {"$literal": why}, "uncertain_at": first.ended_at}
            fields |= {"checks": 0, "due_at": first.ended_at}
        case Skipped(reason):
            fields = {"state": "skipped", "reason": reason, "finished_at": first.ended_at}
    return fence, [{"$set": fields}]
