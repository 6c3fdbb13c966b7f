"""Cases, their history and the inbox in MongoDB.

Every write is repeatable: fixed `_id`s, absolute values, and for a case the version it must have. Each call is one
round trip for a whole batch.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

from services.router.domain.cases import CASE_FIELDS, Case, Given
from services.router.domain.memory import NEVER, Memory, Remembered, person_of, remembered
from services.router.domain.officers import OfficerEffect
from services.router.domain.pieces import Piece
from services.router.domain.plans import (
    CaseEntry,
    CaseStep,
    Plan,
    PlannedMessage,
    broken_inserts,
    case_writes,
)
from services.router.domain.waiting import WaitingCase
from services.router.errors import CaseMoved, MatterIsOpen
from shared.events import CitizenChose, CitizenMessageReceived, Coordinates, ReplyRequested
from shared.mongo import (
    Document,
    Store,
    UpdateOne,
    bulk_update,
    insert_in_order,
    insert_new,
    keep_latest,
    patiently,
    store_errors,
)

_CASE_PROJECTION = dict.fromkeys([*(name for name in CASE_FIELDS if name != "case_id"), "_id"], 1)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_PLAN_PROJECTION = {"citizen_key": 1, "case_id": 1, "case_code": 1, "plan": 1}


class MongoCaseStore:
    """`messages`, `cases`, `case_entries`, `counters` and `withdrawals`."""

    def __init__(self, store: Store) -> None:
        self._messages = store["messages"]
        self._cases = store["cases"]
        self._entries = store["case_entries"]
        self._counters = store["counters"]
        self._withdrawals = store["withdrawals"]

    async def plans_of(self, event_ids: Sequence[str]) -> dict[str, Plan]:
        """See `CaseStore`."""
        query = {"_id": {"$in": list(event_ids)}}
        documents = await patiently(lambda: self._messages.find(query, _PLAN_PROJECTION).to_list(None))
        return {document["_id"]: _to_plan(document) for document in documents}

    async def open_cases(self, citizen_keys: Sequence[str]) -> list[Case]:
        """See `CaseStore`; at most one a matter and citizen, by the unique partial index."""
        return await self._find_cases({"open_key": {"$in": list(citizen_keys)}})

    async def cases_with_ids(self, case_ids: Sequence[str]) -> list[Case]:
        """See `CaseStore`."""
        return await self._find_cases({"_id": {"$in": list(case_ids)}})

    async def closed_cases(self, citizen_keys: Sequence[str], *, since: datetime, until: datetime) -> list[Case]:
        """See `CaseStore`."""
        window = {"citizen_key": _one_of(citizen_keys), "last_message_at": {"$gt": since, "$lt": until}}
        return [case for case in await self._find_cases(window) if not case.is_open]

    async def cases_with_codes(self, codes: Sequence[str]) -> dict[str, Case]:
        """See `OfficerStore`."""
        return {case.code: case for case in await self._find_cases({"code": {"$in": list(codes)}})}

    async def _find_cases(self, query: Mapping[str, Any]) -> list[Case]:
        documents = await patiently(lambda: self._cases.find(query, _CASE_PROJECTION).to_list(None))
        return [_to_case(document) for document in documents]

    async def recent_replies(
        self, citizen_keys: Sequence[str], *, since: datetime, until: datetime
    ) -> dict[str, dict[str, datetime]]:
        """See `CaseStore`."""
        days = {(since + timedelta(days=n)).date() for n in range((until - since).days + 1)} | {until.date()}
        query = {"small_talk_key": {"$in": [_small_talk_key(key, day) for key in citizen_keys for day in sorted(days)]}}
        projection = {"_id": 0, "citizen_key": 1, "reply_template": 1, "received_at": 1}
        documents = await patiently(lambda: self._messages.find(query, projection).to_list(None))
        given: dict[str, dict[str, datetime]] = {}
        for document in documents:
            template, at = document["reply_template"], document["received_at"]
            if not since < at < until:
                continue
            times = given.setdefault(document["citizen_key"], {})
            times[template] = max(at, times.get(template, at))
        return given

    async def recent_texts(self, citizen_keys: Sequence[str], *, since: datetime, until: datetime) -> list[Piece]:
        """See `CaseStore`."""
        query = {"citizen_key": _one_of(citizen_keys), "sent_at": {"$gt": since, "$lt": until}}
        projection = dict.fromkeys(("citizen_key", "sent_at", "text", "category", "location", "case_id"), 1)
        documents = await patiently(lambda: self._messages.find(query, projection).to_list(None))
        return [
            Piece(
                document["_id"],
                document["citizen_key"],
                document["sent_at"],
                document["text"],
                document["category"],
                Coordinates(**document["location"]) if document["location"] else None,
                document["case_id"],
            )
            for document in documents
        ]

    async def remembered(self, persons: Sequence[str]) -> dict[str, Remembered]:
        """See `CaseStore`."""
        said = {"memory_key": {"$in": list(persons)}}
        projection = {"memory_key": 1, "memory": 1, "sent_at": 1}
        documents, withdrawals = await asyncio.gather(
            patiently(lambda: self._messages.find(said, projection).to_list(None)),
            patiently(lambda: self._withdrawals.find({"_id": {"$in": list(persons)}}).to_list(None)),
        )
        found: dict[str, list[tuple[datetime, str, Memory]]] = {one["_id"]: [] for one in withdrawals}
        for document in documents:
            memory = Memory(**document["memory"])
            found.setdefault(document["memory_key"], []).append((document["sent_at"], document["_id"], memory))
        withdrawn = {one["_id"]: one["withdrawn_at"] for one in withdrawals}
        return {
            person: remembered(memories, withdrawn_at=withdrawn.get(person, NEVER))
            for person, memories in found.items()
        }

    async def forget(self, persons: Sequence[str], *, until: datetime) -> None:
        """See `WithdrawalStore`."""
        # First the mark, by which what was said before and arrives later is never used; then what is there already.
        await keep_latest(self._withdrawals, "withdrawn_at", [(person, until) for person in persons])
        old = {"memory_key": {"$in": list(persons)}, "sent_at": {"$lte": until}}
        with store_errors():
            await self._messages.update_many(old, {"$unset": {"memory_key": "", "memory": ""}})

    async def take_numbers(self, day: date, count: int) -> range:
        """See `CaseStore`; a repeated call leaves a gap."""
        series = f"case_codes:{day.isoformat()}"
        increase = {"$inc": {"last": count}}

        async def draw() -> Document | None:
            return await self._counters.find_one_and_update({"_id": series}, increase, return_document=True)

        document = await patiently(draw)
        while document is None:  # the first case of the day
            await patiently(lambda: insert_new(self._counters, [{"_id": series, "last": 0}]))
            document = await patiently(draw)
        return range(document["last"] - count + 1, document["last"] + 1)

    async def record(self, planned: Sequence[PlannedMessage]) -> None:
        """See `CaseStore`."""
        if not planned:
            return
        # In order: if only some get through, they are the first ones, and no plan builds on one that is missing.
        inserted = await insert_in_order(self._messages, [_message_document(one) for one in planned])
        if inserted < len(planned):
            raise CaseMoved("a message of the batch was decided by another replica")

    async def carry_out(self, plans: Sequence[Plan], stored: Mapping[str, int]) -> None:
        """See `CaseStore`."""
        writes = case_writes(plans, stored)
        if broken_inserts(writes):
            raise CaseMoved("a case of an earlier plan is not there yet")
        if writes.updates:  # before the inserts: closing a case frees its matter for the next one
            updates = [
                UpdateOne({"_id": case_id, "citizen_version": version}, {"$set": _encoded(values)})
                for (case_id, version), values in writes.updates.items()
            ]
            result = await patiently(lambda: self._cases.bulk_write(updates, ordered=False))
            if result.matched_count < len(updates):
                # Either a repeated write after a lost answer, or another replica: reading again tells.
                raise CaseMoved("a case has another version than it had when it was read")
        if writes.inserts:
            documents = [_case_document(values) for values in writes.inserts.values()]
            inserted = await patiently(lambda: insert_new(self._cases, documents))
            await self._require({document["_id"] for document in documents} - inserted)
        entries = [entry_document(entry) for plan in plans for entry in plan.entries]
        await patiently(lambda: insert_new(self._entries, entries))

    async def waiting_cases(self, limit: int) -> list[WaitingCase]:
        """See `WaitingCases`."""
        query = {"state": "waiting_officer", "due_at": {"$gt": _LONG_AGO}}  # as the partial index wants to be asked
        projection = {"_id": 0, "unit": 1, "urgency": 1, "due_at": 1}
        with store_errors():
            found = self._cases.find(query, projection).sort([("due_at", 1)]).limit(limit)
            documents = await found.to_list(limit)
        return [WaitingCase(one["unit"], one["urgency"] == "emergency", one["due_at"]) for one in documents]

    async def _require(self, case_ids: set[str]) -> None:
        """Cases that could not be inserted must be there; else another open case holds their matter."""
        if not case_ids:
            return
        query = {"_id": {"$in": sorted(case_ids)}}
        found = await patiently(lambda: self._cases.find(query, {"_id": 1}).to_list(None))
        if len(found) < len(case_ids):
            raise CaseMoved("another open case holds the matter")

    async def apply_officer_effects(self, effects: Sequence[OfficerEffect]) -> None:
        """See `OfficerStore`."""
        entries = [entry_document(effect.entry) for effect in effects]
        await patiently(lambda: insert_new(self._entries, entries))
        updates: list[UpdateOne] = []
        for effect in effects:
            updates.append(
                UpdateOne(
                    {"_id": effect.case_id, "officer_event_ids": {"$ne": effect.event_id}},
                    {"$set": dict(effect.values), "$addToSet": {"officer_event_ids": effect.event_id}},
                )
            )
            if effect.responded_at is not None:
                updates.append(
                    UpdateOne(
                        {"_id": effect.case_id, "first_response_at": None},
                        {"$set": {"first_response_at": effect.responded_at}},
                    )
                )
        if await patiently(lambda: bulk_update(self._cases, updates, ordered=True)):
            raise MatterIsOpen("the citizen has an open case of the same matter")


def _one_of(keys: Sequence[str]) -> str | Mapping[str, Any]:
    """A plain value where it is enough: every planner uses a compound index for it."""
    return keys[0] if len(keys) == 1 else {"$in": list(keys)}


def _small_talk_key(citizen_key: str, day: date) -> str:
    """Finds what a citizen was told outside of any case on one day (UTC), by equality alone."""
    return f"{citizen_key}|{day.isoformat()}"


def _encoded(values: Mapping[str, Any]) -> Document:
    document: Document = {}
    for name, value in values.items():
        if name == "given":
            document[name] = [{"template": g.template, "at": g.at, "times": g.times} for g in value]
        elif name == "case_id":
            document["_id"] = value
        else:
            document[name] = list(value) if isinstance(value, tuple) else value
    return document


def _decoded(document: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name == "given":
            values[name] = tuple(Given(g["template"], g["at"], g["times"]) for g in value)
        elif name == "_id":
            values["case_id"] = value
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    return values


def _case_document(values: Mapping[str, Any]) -> Document:
    return {**_encoded(values), "officer_event_ids": []}


def _to_case(document: Document) -> Case:
    return Case(**_decoded(document))


def entry_document(entry: CaseEntry) -> Document:
    """A line of a case's history as it is stored."""
    details = {"template": entry.template, "reply_id": entry.reply_id}
    return {
        "_id": entry.entry_id,
        "case_id": entry.case_id,
        "case_code": entry.case_code,
        "kind": entry.kind,
        "at": entry.at,
        "by": entry.by,
        "event_id": entry.event_id,
        "reasons": list(entry.reasons),
        "changes": [{"field": name, "from": old, "to": new} for name, old, new in entry.changes],
        "details": {name: value for name, value in details.items() if value is not None},
        "text": entry.text,
    }


def _to_entry(document: Document) -> CaseEntry:
    return CaseEntry(
        entry_id=document["_id"],
        case_id=document["case_id"],
        case_code=document["case_code"],
        kind=document["kind"],
        at=document["at"],
        by=document["by"],
        event_id=document["event_id"],
        reasons=tuple(document["reasons"]),
        changes=tuple((c["field"], c["from"], c["to"]) for c in document["changes"]),
        template=document["details"].get("template"),
        reply_id=document["details"].get("reply_id"),
        text=document["text"],
    )


def _step_document(step: CaseStep) -> Document:
    return {"case_id": step.case_id, "version": step.version, "opens": step.opens, "values": _encoded(step.values)}


def _message_document(one: PlannedMessage) -> Document:
    message, decision, plan = one.message, one.decision, one.plan
    reading, assignment = decision.reading, decision.assignment
    return {
        "_id": message.event_id,
        "citizen_key": message.citizen_key,
        "channel": message.channel,
        "page": message.page,
        "oa_id": message.oa_id,
        "user_id": message.user_id,
        "user_id_by_app": message.user_id_by_app,
        "message_id": message.message_id,
        "correlation_id": message.correlation_id,
        "kind": message.kind,
        "text": message.text,
        "original_text": message.original_text,
        "text_was_cut": message.text_was_cut,
        "location": message.location.model_dump() if message.location else None,
        "attachments": [attachment.model_dump() for attachment in message.attachments],
        "quoted_message_id": message.quoted_message_id,
        "conversation_id": message.conversation_id,
        "sent_at": message.sent_at,
        "received_at": message.received_at,
        "decided_at": one.decided_at,
        "category": reading.category,
        "subtopic": reading.subtopic,
        "urgency": reading.urgency,
        "confidence": reading.confidence,
        "needs_person": reading.needs_person,
        "topics": list(reading.topics),
        "language": reading.language,
        "unit": assignment.unit,
        "evidence": [*reading.evidence, *assignment.evidence],
        "doubts": [*reading.doubts, *assignment.doubts],
        "reasons": list(decision.reasons),
        "case_id": plan.case_id,
        "case_code": plan.case_code,
        "reply_id": plan.reply.event_id if plan.reply else None,
        "reply_template": plan.reply.template if plan.reply else None,
        **_memory_fields(message, decision.memory),
        "small_talk_key": _small_talk_key(message.citizen_key, message.received_at.astimezone(UTC).date())
        if plan.reply and plan.case_id is None
        else None,
        "plan": {
            "steps": [_step_document(step) for step in plan.steps],
            "entries": [entry_document(entry) for entry in plan.entries],
            "reply": plan.reply.model_dump(mode="json", exclude_none=True) if plan.reply else None,
            "choice": plan.choice.model_dump(mode="json", exclude_none=True) if plan.choice else None,
        },
    }


def _memory_fields(message: CitizenMessageReceived, memory: Memory | None) -> Document:
    if memory is None:
        return {}
    return {"memory_key": person_of(message), "memory": asdict(memory)}


def _to_plan(document: Document) -> Plan:
    effects = document["plan"]
    return Plan(
        event_id=document["_id"],
        citizen_key=document["citizen_key"],
        case_id=document["case_id"],
        case_code=document["case_code"],
        steps=tuple(
            CaseStep(step["case_id"], step["version"], step["opens"], _decoded(step["values"]))
            for step in effects["steps"]
        ),
        entries=tuple(_to_entry(entry) for entry in effects["entries"]),
        reply=ReplyRequested.model_validate(effects["reply"]) if effects["reply"] else None,
        choice=CitizenChose.model_validate(chosen) if (chosen := effects.get("choice")) else None,
    )
