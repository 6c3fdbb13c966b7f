"""The send ledger in MongoDB, which is also the queue.

A reply is one document under its event id. A claim moves it to `sending` with an owner, an attempt number and a lease
by the database's clock; everything after is fenced with owner and attempt, so a late or dead sender overwrites nothing.
Right *before* the call the claim is marked (`is_called`). A claim that was not recorded in time goes back to `queued`
if it was never marked, since no call was made; a marked one is `uncertain` and never claimed again.

`due_at` is when a reply is to be looked at next, whatever its state: to be sent, its lease to be ended, to be checked
for a proof. `message_key` is Zalo's message id, and a name of our own until that is known: unique and always there,
so that no two replies can own one message and every server looks it up by its index.

Source: docs/architecture/notifier.md.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from services.notifier.adapters import unsettled
from services.notifier.domain.gate import Unfinished
from services.notifier.domain.next_step import Fail, Park, Sent, Step, TryAgain
from services.notifier.domain.reply import (
    EMERGENCY,
    ORDINARY,
    PRIORITIES,
    UNFINISHED,
    Candidate,
    Reply,
    composed,
)
from services.notifier.domain.settlement import OpenSend, Proof
from shared.crash import crash_point
from shared.events import ReplyContent, ReplyRequested
from shared.ids import text_digest
from shared.mongo import (
    EPOCH,
    Document,
    DuplicateKeyError,
    Store,
    insert_new,
    patiently,
    server_time_in,
    store_errors,
    value_of_each,
)

COUNT_LIMIT = 10_000
EXPIRED_AT_ONCE = 1_000
RECORDED_AT_ONCE = 100
KEPT_ATTEMPTS = 50
"""A reply that waits for a page to be linked again is tried for days; its last attempts tell enough."""
NAMES = unsettled.Names(
    started_at="attempt_started_at",
    kind="conversation_id",
    listed=(None,),  # anonymous visitors have no list
    own="reply",
)
COUNTED_STATES = ("queued", "sending", "uncertain")
_CANDIDATE_FIELDS = {"citizen_key": 1, "oa_id": 1, "app_id": 1, "priority": 1}
_GATE_FIELDS = {"citizen_key": 1, "order": 1, "state": 1, "due_at": 1, "priority": 1, "uncertain_at": 1}
_SERVER_NOW = "$$NOW"


@dataclass(frozen=True)
class Result:
    """What one attempt came to."""

    reply: Reply
    step: Step
    ended_at: datetime


@dataclass(frozen=True)
class Expired:
    """What became of claims whose lease ended unrecorded: the citizens concerned, one for each reply.

    Attributes:
        requeued: never marked as called, so Zalo cannot have it; due again.
        uncertain: marked, so nobody knows.
    """

    requeued: list[str]
    uncertain: list[str]


@dataclass(frozen=True)
class LedgerRow:
    """A reply to be inserted; without an app its page is not ours, and it fails at once."""

    event: ReplyRequested
    app_id: str | None
    order: int
    traceparent: str | None


def _new_document(row: LedgerRow, now: datetime) -> Document:
    event = row.event
    content = composed(event.content)
    fate: Document = {"state": "queued"}
    if row.app_id is None:
        fate = {"state": "failed", "reason": "page.unknown", "finished_at": now}
    return {
        "_id": event.event_id,
        **fate,
        "priority": EMERGENCY if event.is_emergency else ORDINARY,
        "due_at": min(now, event.occurred_at),
        "order": row.order,
        "attempt": 0,
        "failures": 0,
        "citizen_key": event.citizen_key,
        "page": event.page,
        "oa_id": event.oa_id,
        "app_id": row.app_id,
        "user_id": event.user_id,
        "content": content.model_dump(mode="json", exclude_defaults=True),
        "text_sha256": text_digest(content.text),
        "message_key": f"reply {event.event_id}",
        "conversation_id": event.conversation_id,
        "answers_event_id": event.answers_event_id,
        "case_code": event.case_code,
        "origin": event.origin,
        "template": event.template,
        "correlation_id": event.correlation_id,
        "traceparent": row.traceparent,
        "interaction_at": event.interaction_at,
        "requested_at": event.occurred_at,
        "queued_at": now,
        "attempts": [],
    }


def _reply(document: Document) -> Reply:
    return Reply(
        id=document["_id"],
        citizen_key=document["citizen_key"],
        page=document["page"],
        oa_id=document["oa_id"],
        app_id=document["app_id"],
        user_id=document["user_id"],
        content=ReplyContent.model_validate(document["content"]),
        conversation_id=document["conversation_id"],
        correlation_id=document["correlation_id"],
        traceparent=document["traceparent"],
        case_code=document["case_code"],
        is_emergency=document["priority"] == EMERGENCY,
        interaction_at=document["interaction_at"],
        requested_at=document["requested_at"],
        attempt=document["attempt"],
        failures=document["failures"],
        owner=document["owner"],
    )


class ReplyLedger:
    """The `reply_ledger` collection.

    Args:
        store: the database.
        lease: how long a claim may stay unrecorded.
    """

    def __init__(self, store: Store, *, lease: timedelta) -> None:
        self._store = store
        self._rows = store["reply_ledger"]
        self._lease_ms = int(lease.total_seconds() * 1000)

    # Queueing

    async def add(self, rows: Sequence[LedgerRow], *, now: datetime) -> list[Candidate]:
        """Queue replies; those that are there already are left as they are.

        A citizen's replies go in one after another: a crash half way must not leave a later one without its
        earlier one, which would let it overtake.

        Returns:
            The new ones, to be sent without a search.

        Raises:
            StoreUnavailable: some may be in; repeat the call.
        """
        waves: list[list[LedgerRow]] = []
        place: dict[str, int] = defaultdict(int)
        for row in sorted(rows, key=lambda row: row.order):
            wave = place[row.event.citizen_key]
            place[row.event.citizen_key] += 1
            if wave == len(waves):
                waves.append([])
            waves[wave].append(row)
        new: list[Candidate] = []
        for wave_rows in waves:
            documents = {row.event.event_id: _new_document(row, now) for row in wave_rows}
            inserted = await patiently(partial(insert_new, self._rows, list(documents.values())))
            new += [
                _candidate(document)
                for document in documents.values()
                if document["_id"] in inserted and document["state"] == "queued"
            ]
            crash_point("notifier.after_insert")
        return new

    async def due(self, priority: int, *, now: datetime, limit: int) -> list[Candidate]:
        """Replies whose time has come, the longest due first."""
        with store_errors():
            cursor = self._rows.find(due_filter(priority, now), _CANDIDATE_FIELDS)
            documents = await cursor.sort([("due_at", 1)]).limit(limit).to_list(limit)
        return [_candidate(document) for document in documents]

    async def unfinished(self, citizen_keys: Iterable[str]) -> dict[str, list[Unfinished]]:
        """What stands in the gate of these citizens."""
        with store_errors():
            cursor = self._rows.find(
                {"citizen_key": {"$in": list(citizen_keys)}, "state": {"$in": list(UNFINISHED)}}, _GATE_FIELDS
            )
            documents = await cursor.to_list(None)
        by_citizen: dict[str, list[Unfinished]] = defaultdict(list)
        for document in documents:
            by_citizen[document["citizen_key"]].append(
                Unfinished(
                    id=document["_id"],
                    citizen_key=document["citizen_key"],
                    order=document["order"],
                    state=document["state"],
                    due_at=document["due_at"],
                    is_emergency=document["priority"] == EMERGENCY,
                    uncertain_at=document.get("uncertain_at"),
                )
            )
        return by_citizen

    # Claiming

    async def claim(self, ids: Sequence[str], *, owner: str, now: datetime) -> list[Reply]:
        """Take due replies for one attempt.

        Args:
            ids: chosen by the gate.
            owner: unique to this claim, which makes the call repeatable.
            now: by the database's clock; another replica may have put a reply off meanwhile.

        Returns:
            Those we have now; another replica may have taken the others.

        Raises:
            StoreUnavailable: some may be claimed: `release` them later.
        """
        chosen = {"_id": {"$in": list(ids)}}
        await patiently(
            lambda: self._rows.update_many(
                {**chosen, "state": "queued", "due_at": {"$lte": now}},
                [
                    {
                        "$set": {
                            "state": "sending",
                            "owner": owner,
                            "is_called": False,
                            "attempt": {"$add": ["$attempt", 1]},
                            "attempt_started_at": _SERVER_NOW,
                            "due_at": server_time_in(self._lease_ms),
                        }
                    }
                ],
            )
        )
        claimed = {**chosen, "owner": owner, "state": "sending"}
        documents = await patiently(lambda: self._rows.find(claimed).to_list(None))
        return [_reply(document) for document in documents]

    async def mark_called(self, ids: Sequence[str], *, owner: str) -> set[str]:
        """Write down that the calls of these claims begin now; without the mark no call may be made.

        Returns:
            Those that are marked; the others are no longer this owner's.

        Raises:
            StoreUnavailable: some may be marked, so make none of the calls.
        """
        mine: Document = {"_id": {"$in": list(ids)}, "owner": owner, "state": "sending"}
        answer = await patiently(lambda: self._rows.update_many(mine, {"$set": {"is_called": True}}))
        if answer.matched_count == len(ids):
            return set(ids)
        marked = await patiently(lambda: self._rows.find({**mine, "is_called": True}, {"_id": 1}).to_list(None))
        return {document["_id"] for document in marked}

    async def release(self, ids: Sequence[str], *, owner: str, now: datetime) -> None:
        """Give back claims for which no call was made."""
        with store_errors():
            await self._rows.update_many(
                {"_id": {"$in": list(ids)}, "owner": owner, "state": "sending"},
                {"$set": {"state": "queued", "owner": None, "due_at": now}},
            )

    async def put_off(self, ids: Sequence[str], *, until: datetime, held_by: str | None) -> None:
        """Look at queued replies again only at `until`, or when the reply that holds them is finished."""
        with store_errors():
            await self._rows.update_many(
                {"_id": {"$in": list(ids)}, "state": "queued"},
                {"$max": {"due_at": until}, "$set": {"held_by": held_by}},
            )

    async def let_go(self, finished: Sequence[str], citizen_keys: Iterable[str], *, now: datetime) -> None:
        """Make replies due that were put off because of a reply that is finished now."""
        with store_errors():
            await self._rows.update_many(
                {
                    "citizen_key": {"$in": list(citizen_keys)},
                    "state": "queued",
                    "held_by": {"$in": list(finished)},
                },
                {"$set": {"due_at": now, "held_by": None}},
            )

    # Recording

    async def record(self, results: Sequence[Result]) -> None:
        """Write down what attempts came to; fenced, so that repeating it changes nothing.

        An accepted message is recorded even if its lease ran out meanwhile: that is a proof.

        Raises:
            StoreUnavailable: repeat the call.
        """
        crash_point("notifier.before_record")
        alike: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
        for result in results:
            alike[_likeness(result)].append(result)
        for group in alike.values():
            for start in range(0, len(group), RECORDED_AT_ONCE):
                await self._record_alike(group[start : start + RECORDED_AT_ONCE])
        crash_point("notifier.after_record")

    async def _record_alike(self, results: Sequence[Result]) -> None:
        try:
            with store_errors():
                await self._rows.update_many(*_recording(results))
        except DuplicateKeyError:
            # Zalo gave one message id twice, or an echo settled another reply with it: keep the fact, not the id.
            if len(results) == 1:
                with store_errors():
                    await self._rows.update_many(*_recording(results, is_id_taken=True))
                return
            for result in results:
                await self._record_alike([result])

    async def expire_leases(self, *, next_check: timedelta) -> Expired:
        """End the claims that nobody recorded in time: back to `queued` without a call's mark, `uncertain` with it.

        A claim without `is_called` was made by a version that did not mark: it counts as called.
        """
        server_now = await self._store.server_now()
        expired = {
            "state": "sending",
            "priority": {"$in": list(PRIORITIES)},
            "due_at": {"$gt": EPOCH, "$lt": server_now},
        }
        with store_errors():
            cursor = self._rows.find(expired, {"citizen_key": 1, "is_called": 1})
            documents = await cursor.limit(EXPIRED_AT_ONCE).to_list(EXPIRED_AT_ONCE)
        unmarked = {row["_id"]: row["citizen_key"] for row in documents if row.get("is_called") is False}
        marked = {row["_id"]: row["citizen_key"] for row in documents if row["_id"] not in unmarked}
        # What is marked between the search and the update no longer matches, and is found by the next sweep.
        if unmarked:
            with store_errors():
                await self._rows.update_many(
                    {"_id": {"$in": list(unmarked)}, "is_called": False, **expired},
                    {"$set": {"state": "queued", "owner": None, "due_at": server_now, "held_by": None}},
                )
        if marked:
            with store_errors():
                await self._rows.update_many(
                    {"_id": {"$in": list(marked)}, **expired},
                    [
                        {
                            "$set": {
                                "state": "uncertain",
                                "reason": "send.lease_expired",
                                "uncertain_at": _SERVER_NOW,
                                "checks": 0,
                                "due_at": server_time_in(int(next_check.total_seconds() * 1000)),
                            }
                        }
                    ],
                )
        return Expired(list(unmarked.values()), list(marked.values()))

    # Settling

    async def open_sends(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        """Sends of these citizens of which it is not known whether Zalo has them."""
        return await unsettled.in_states(self._rows, citizen_keys, ["sending", "uncertain"], NAMES)

    async def uncertain(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        """Those of them that are uncertain."""
        return await unsettled.in_states(self._rows, citizen_keys, ["uncertain"], NAMES)

    async def nameless(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        """Replies that these citizens have by a person's word, or by an answer without an id."""
        return await unsettled.nameless(self._rows, citizen_keys, NAMES)

    async def owned(self, message_ids: Iterable[str]) -> set[str]:
        """Which of Zalo's message ids a reply has already."""
        return await unsettled.owned(self._rows, message_ids)

    async def settle(self, send: OpenSend, proof: Proof) -> bool:
        """Mark an uncertain reply as sent, by what proves it.

        Returns:
            False if another replica settled it, or gave the proof to another reply.
        """
        crash_point("notifier.before_settle")
        try:
            with store_errors():
                answer = await self._rows.update_one(
                    {"_id": send.id, "state": "uncertain", "attempt": send.attempt},
                    {
                        "$set": {
                            "state": "sent",
                            "message_id": proof.message_id,
                            "message_key": proof.message_id,
                            "settled_by": proof.kind,
                            "sent_at": proof.at,
                            "finished_at": proof.at,
                        }
                    },
                )
        except DuplicateKeyError:
            return False
        return bool(answer.modified_count)

    async def not_taken(self, send: OpenSend, step: TryAgain | Fail, *, now: datetime) -> bool:
        """End the uncertainty about a reply that Zalo provably does not have: queue it again, or fail it.

        Returns:
            False if it is not uncertain any more.
        """
        crash_point("notifier.before_not_taken")
        uncertain, fields = unsettled.without(send, step, now=now)
        if isinstance(step, TryAgain):
            fields["held_by"] = None
        with store_errors():
            answer = await self._rows.update_one(uncertain, {"$set": fields})
        return bool(answer.modified_count)

    async def uncertain_due(self, *, now: datetime, limit: int) -> dict[str, tuple[str, int]]:
        """Uncertain replies that are to be looked at again: citizen and number of checks by id."""
        return await unsettled.uncertain_due(self._rows, now=now, limit=limit, priority={"$in": list(PRIORITIES)})

    async def check_again(self, at: Mapping[str, tuple[int, datetime]]) -> None:
        """Set when uncertain replies are looked at next: number of checks and moment by id."""
        await unsettled.check_again(self._rows, at)

    async def mark(self, reports: Mapping[str, Mapping[str, datetime]]) -> set[str]:
        """Note echoes and receipts on the replies they are about; the earliest of each kind stays.

        Args:
            reports: moments by kind (echo, received, seen) by message id.

        Returns:
            The message ids that replies of ours have.
        """
        with store_errors():
            cursor = self._rows.find(
                {"message_key": {"$in": list(reports)}},
                {"message_id": 1, "echoed_at": 1, "received_at": 1, "seen_at": 1},
            )
            documents = await cursor.to_list(None)
        news: dict[str, dict[str, datetime]] = defaultdict(dict)
        for document in documents:
            for kind, at in reports[document["message_id"]].items():
                name = f"{'echoed' if kind == 'echo' else kind}_at"
                if document.get(name) is None or at < document[name]:
                    news[name][document["_id"]] = at
        for name, moments in news.items():
            await unsettled.note_moments(self._rows, name, moments)
        return {document["message_id"] for document in documents}

    async def erase(self, withdrawn: Mapping[str, datetime]) -> int:
        """Erase what was written to citizens before they asked for it; one without a text is never sent.

        Of an unfinished reply the digest of its text stays until its echo had time to come.

        Args:
            withdrawn: moments by citizen.

        Returns:
            How many texts were erased now.
        """
        erased = 0
        for citizen_key, at in withdrawn.items():
            before: Document = {"citizen_key": citizen_key, "requested_at": {"$lte": at}}
            with store_errors():
                answer = await self._rows.update_many(
                    {**before, "erased_at": None}, {"$set": {"content": {"text": ""}, "erased_at": at}}
                )
                await self._rows.update_many(
                    {**before, "state": {"$nin": list(UNFINISHED)}}, {"$set": {"text_sha256": None}}
                )
            erased += answer.modified_count
        return erased

    # Looking

    async def counts(self) -> dict[str, int]:
        """Replies in the states that should be few, each counted up to a bound."""
        counts = {}
        for state in COUNTED_STATES:
            with store_errors():
                counts[state] = await self._rows.count_documents(
                    {"state": state, "priority": {"$in": list(PRIORITIES)}}, limit=COUNT_LIMIT
                )
        return counts

    async def oldest_due(self, *, now: datetime) -> datetime | None:
        """Since when the longest waiting reply is due; None where none is."""
        moments = []
        for priority in PRIORITIES:
            with store_errors():
                cursor = self._rows.find(due_filter(priority, now), {"due_at": 1})
                moments += [row["due_at"] for row in await cursor.sort([("due_at", 1)]).limit(1).to_list(1)]
        return min(moments, default=None)

    async def one(self, reply_id: str) -> Document | None:
        """The whole entry of a reply."""
        with store_errors():
            return await self._rows.find_one({"_id": reply_id})


def due_filter(priority: int, now: datetime) -> Document:
    """The search for due replies; bounded on both sides, so that its cost follows what is due."""
    return {"state": "queued", "priority": priority, "due_at": {"$gt": EPOCH, "$lte": now}}


def _candidate(document: Document) -> Candidate:
    return Candidate(
        document["_id"], document["citizen_key"], document["oa_id"], document["app_id"], document["priority"]
    )


def _likeness(result: Result) -> tuple[Any, ...]:
    """What results must share to be recorded by one write; acceptances differ by their message ids and moments."""
    claim = (result.reply.owner, result.reply.attempt)
    match result.step:
        case Sent(message_id, quota_type):
            return (*claim, message_id is None, quota_type)
        case step:
            return (*claim, step, result.ended_at)


def _recording(results: Sequence[Result], *, is_id_taken: bool = False) -> tuple[Document, list[Document]]:
    """One write for results that are alike: its filter and its update."""
    reply, ended_at = results[0].reply, results[0].ended_at
    fence: Document = {
        "_id": {"$in": [result.reply.id for result in results]},
        "owner": reply.owner,
        "attempt": reply.attempt,
        "state": "sending",
    }
    attempt: Document = {"number": reply.attempt, "ended_at": ended_at}
    fields: Document
    match results[0].step:
        case Sent(message_id, quota_type):
            fence["state"] = {"$in": ["sending", "uncertain"]}
            ended = value_of_each({result.reply.id: result.ended_at for result in results})
            attempt |= {"ended_at": ended, "outcome": "accepted"}
            fields = {"state": "sent", "sent_at": ended, "finished_at": ended, "quota_type": {"$literal": quota_type}}
            if message_id is not None:
                theirs = value_of_each(
                    {one.reply.id: one.step.message_id for one in results if isinstance(one.step, Sent)}
                )
                names = ["reported_message_id"] if is_id_taken else ["message_id", "message_key"]
                fields |= dict.fromkeys(names, theirs)
        case TryAgain(at, reason, failures):
            attempt |= {"outcome": "not_accepted", "reason": reason}
            fields = {"state": "queued", "due_at": at, "failures": failures, "reason": reason, "held_by": None}
        case Fail(reason):
            attempt |= {"outcome": "not_accepted", "reason": reason}
            fields = {"state": "failed", "finished_at": ended_at, "reason": reason}
        case Park(reason, why):
            attempt |= {"outcome": "unknown", "reason": reason, "why": {"$literal": why}}
            fields = {"state": "uncertain", "uncertain_at": ended_at, "reason": reason, "checks": 0, "due_at": ended_at}
    fields["attempts"] = {"$slice": [{"$concatArrays": ["$attempts", [attempt]]}, -KEPT_ATTEMPTS]}
    return fence, [{"$set": fields}]
