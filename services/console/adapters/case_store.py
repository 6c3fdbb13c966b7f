"""Cases, conversations and pictures as one officer may see them.

The repository is made with a scope and puts it into every query: there is no way to ask it for another unit's case.
What belongs to a case (messages, replies, history) is only given for a `Case` that this repository found itself.
"""

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from services.console.domain import (
    Case,
    CaseSummary,
    Citizen,
    CodeSearch,
    Contact,
    Entry,
    Line,
    Picture,
    Place,
    QueueView,
    Reason,
    Scope,
    mark_of,
    queue_order,
)
from services.console.errors import CaseNotFound, PictureNotFound
from shared.mongo import Document, Store, store_errors

MAX_QUEUE = 200
MAX_LINES = 500
CLOSED_SHOWN = timedelta(days=90)
EXCERPT_CHARACTERS = 160


class CaseRepository:
    """What one officer may read. Every query carries the scope."""

    def __init__(self, store: Store, scope: Scope) -> None:
        self._store = store
        self._scope = scope

    def _mine(self, wanted: Document) -> Document:
        """The query, within the scope; the scope is put in last, so nothing asked for can widen it."""
        if self._scope.units is None:
            return wanted
        return {**wanted, "unit": {"$in": sorted(self._scope.units)}}

    async def queue(self, view: QueueView, *, limit: int = MAX_QUEUE) -> list[CaseSummary]:
        """The cases to work on, in order: emergencies, then what is due first; closed ones newest first.

        Raises:
            StoreUnavailable: try again.
        """
        cases = self._store["cases"]
        if view == "closed":
            since = datetime.now(UTC) - CLOSED_SHOWN
            wanted = self._mine({"is_open": False, "last_message_at": {"$gte": since}})
            with store_errors():
                found = await cases.find(wanted).sort([("last_message_at", -1)]).limit(limit).to_list(limit)
            return await self._with_excerpts([_summary(document) for document in found])
        with store_errors():
            found = (
                await cases.find(self._mine({"is_open": True}))
                .sort([("priority", 1), ("due_at", 1)])
                .limit(MAX_QUEUE)
                .to_list(MAX_QUEUE)
            )
        everything = queue_order([_summary(document) for document in found])
        waits_for = "citizen" if view == "waiting" else "officer"
        return await self._with_excerpts([case for case in everything if case.waits_for == waits_for][:limit])

    async def counts(self) -> dict[str, int]:
        """How many open cases wait for an officer, for the citizen, burn, are overdue; counted up to `MAX_QUEUE`."""
        now = datetime.now(UTC)
        with store_errors():
            found = (
                await self._store["cases"]
                .find(self._mine({"is_open": True}), _SUMMARY_FIELDS)
                .sort([("priority", 1), ("due_at", 1)])
                .limit(MAX_QUEUE)
                .to_list(MAX_QUEUE)
            )
        cases = [_summary(document) for document in found]
        officer = [case for case in cases if case.waits_for == "officer"]
        return {
            "open": len(officer),
            "waiting": len(cases) - len(officer),
            "burning": sum(1 for case in officer if case.is_burning),
            "overdue": sum(1 for case in officer if case.due_at is not None and case.due_at < now),
        }

    async def search(self, search: CodeSearch) -> list[CaseSummary]:
        """Cases whose code is this or begins with it, newest first."""
        code: Any = search.prefix if search.is_whole else {"$regex": f"^{re.escape(search.prefix)}"}
        with store_errors():
            found = self._store["cases"].find(self._mine({"code": code})).sort([("code", -1)]).limit(50)
            documents = await found.to_list(50)
        return await self._with_excerpts([_summary(document) for document in documents])

    async def case(self, code: str) -> Case:
        """One case.

        Raises:
            CaseNotFound: none with this code in the scope.
            StoreUnavailable: try again.
        """
        with store_errors():
            document = await self._store["cases"].find_one(self._mine({"code": code}))
        if document is None:
            raise CaseNotFound(code)
        return _case(document)

    async def conversation(self, case: Case, pending: Iterable[Document] = ()) -> list[Line]:
        """Everything said in a case, oldest first: the citizen, the bot and the officers.

        Args:
            case: found by this repository.
            pending: decisions about it that are not in the ledger yet.
        """
        await self._still_mine(case)
        with store_errors():
            messages, replies = await asyncio.gather(
                self._store["messages"]
                .find({"case_code": case.code})
                .sort([("sent_at", 1)])
                .limit(MAX_LINES)
                .to_list(MAX_LINES),
                self._store["reply_ledger"]
                .find({"case_code": case.code})
                .sort([("requested_at", 1)])
                .limit(MAX_LINES)
                .to_list(MAX_LINES),
            )
        pictures = await self._pictures([message["_id"] for message in messages if message.get("attachments")])
        lines = [_citizen_line(message, pictures.get(message["_id"], ())) for message in messages]
        lines += [_reply_line(reply) for reply in replies]
        lines += _pending_lines(pending, replies)
        return sorted(lines, key=lambda line: line.at)

    async def history(self, case: Case) -> list[Entry]:
        """What happened to a case, newest first."""
        await self._still_mine(case)
        with store_errors():
            found = self._store["case_entries"].find({"case_code": case.code}).sort([("at", -1)]).limit(100)
            return [_entry(document) for document in await found.to_list(100)]

    async def contact(self, case: Case, lines: Sequence[Line] = ()) -> Contact:
        """When the citizen last did something that opens the window, as far as anybody here knows."""
        await self._still_mine(case)
        with store_errors():
            found = await self._store["contacts"].find_one({"_id": f"{case.citizen.oa_id}:{case.citizen.user_id}"})
        contact = found or {}
        known = [line.at for line in lines if line.side == "citizen"] or [case.summary.last_message_at]
        if contact.get("last_interaction_at") is not None:
            known.append(contact["last_interaction_at"])
        return Contact(max(known), contact.get("withdrawn_at"))

    async def picture(self, attachment_id: str) -> tuple[Picture, bytes]:
        """One attachment with its bytes.

        Raises:
            PictureNotFound: not there, not fetched yet, or of a case outside the scope.
        """
        with store_errors():
            document = await self._store["attachments"].find_one({"_id": attachment_id})
            message = document and await self._store["messages"].find_one(
                {"_id": document["message_event_id"]}, {"case_code": 1}
            )
        if document is None or not message or not message.get("case_code"):
            raise PictureNotFound(attachment_id)
        try:
            await self.case(message["case_code"])
        except CaseNotFound as error:
            raise PictureNotFound(attachment_id) from error
        picture = _picture(document)
        if picture.state != "ready":
            raise PictureNotFound(attachment_id)
        with store_errors():
            stream = await self._store.files("attachments").open_download_stream(document.get("file_id", attachment_id))
            return picture, await stream.read()

    async def fingerprints(self, codes: Sequence[str]) -> dict[str, str]:
        """What changes whenever a case's page would look different; for the live view, many cases at once."""
        wanted = {"case_code": {"$in": list(codes)}}
        with store_errors():
            cases, messages, replies, entries = await asyncio.gather(
                self._store["cases"].find(self._mine({"code": {"$in": list(codes)}})).to_list(None),
                self._store["messages"].find(wanted, {"case_code": 1}).to_list(None),
                self._store["reply_ledger"].find(wanted, _LEDGER_FIELDS).to_list(None),
                self._store["case_entries"].find(wanted, {"case_code": 1}).to_list(None),
            )
        marks: dict[str, list[str]] = {code: [] for code in codes}
        for case in cases:
            marks[case["code"]].append(repr(_summary(case)))
        for one in (*messages, *entries):
            marks[one["case_code"]].append(str(one["_id"]))
        for reply in replies:
            marks[reply["case_code"]].append(f"{reply['_id']}{_reply_line(reply).mark}")
        return {code: "|".join(sorted(parts)) for code, parts in marks.items()}

    async def queue_fingerprint(self) -> str:
        """What changes whenever the queue would look different."""
        with store_errors():
            found = (
                await self._store["cases"]
                .find(self._mine({"is_open": True}), _SUMMARY_FIELDS)
                .sort([("priority", 1), ("due_at", 1)])
                .limit(MAX_QUEUE)
                .to_list(MAX_QUEUE)
            )
        return "|".join(repr(_summary(document)) for document in found)

    async def _still_mine(self, case: Case) -> None:
        """A case handed over while its page was open is not ours any more."""
        if not self._scope.allows(case.unit):
            raise CaseNotFound(case.code)

    async def _pictures(self, message_ids: Sequence[str]) -> dict[str, tuple[Picture, ...]]:
        if not message_ids:
            return {}
        with store_errors():
            found = self._store["attachments"].find({"message_event_id": {"$in": list(message_ids)}})
            documents = await found.sort([("index", 1)]).to_list(MAX_LINES)
        pictures: dict[str, tuple[Picture, ...]] = {}
        for document in documents:
            key = document["message_event_id"]
            pictures[key] = (*pictures.get(key, ()), _picture(document))
        return pictures

    async def _with_excerpts(self, cases: list[CaseSummary]) -> list[CaseSummary]:
        if not cases:
            return cases
        with store_errors():
            found = self._store["messages"].find(
                {"case_code": {"$in": [case.code for case in cases]}}, {"case_code": 1, "text": 1, "kind": 1}
            )
            messages = await found.sort([("sent_at", 1)]).limit(5 * MAX_QUEUE).to_list(5 * MAX_QUEUE)
        texts: dict[str, str] = {}
        counts: dict[str, int] = {}
        for message in messages:
            code = message["case_code"]
            counts[code] = counts.get(code, 0) + 1
            if message.get("text"):
                texts[code] = message["text"]
        return [
            replace(
                case,
                excerpt=" ".join(texts.get(case.code, "").split())[:EXCERPT_CHARACTERS],
                message_count=counts.get(case.code, 0),
            )
            for case in cases
        ]


# -- reading the documents that the router, intake and the notifier write ---------------------------------------------

_SUMMARY = (
    *("code", "unit", "page", "category", "subtopic", "urgency", "is_open", "state"),
    *("opened_at", "last_message_at", "due_at", "closed_at"),
)
_SUMMARY_FIELDS = dict.fromkeys(_SUMMARY, 1)
_LEDGER_FIELDS = {"case_code": 1, "state": 1, "received_at": 1, "seen_at": 1, "requested_at": 1}


def _summary(document: Document) -> CaseSummary:
    return CaseSummary(
        code=document["code"],
        unit=document["unit"],
        page=document["page"],
        category=document["category"],
        subtopic=document.get("subtopic"),
        urgency=document["urgency"],
        is_open=document["is_open"],
        waits_for="citizen" if document.get("state") == "answered" else "officer",
        opened_at=document["opened_at"],
        last_message_at=document["last_message_at"],
        due_at=document.get("due_at"),
        closed_at=document.get("closed_at"),
    )


def _case(document: Document) -> Case:
    return Case(
        summary=_summary(document),
        citizen=Citizen(
            channel=document.get("channel", "zalo"),
            page=document["page"],
            oa_id=document["oa_id"],
            user_id=document["user_id"],
            user_id_by_app=document.get("user_id_by_app"),
        ),
        correlation_id=document.get("correlation_id", ""),
        reasons=tuple(_reason(raw) for raw in document.get("reasons", ())),
        confidence=document.get("confidence"),
    )


def _reason(raw: Any) -> Reason:
    if isinstance(raw, str):
        return Reason(raw)
    return Reason(raw["code"], {name: value for name, value in raw.items() if name != "code"})


def _citizen_line(message: Document, pictures: tuple[Picture, ...]) -> Line:
    place = message.get("location")
    return Line(
        line_id=message["_id"],
        side="citizen",
        at=message["sent_at"],
        text=message.get("text", ""),
        kind=message.get("kind", "text"),
        place=Place(place["latitude"], place["longitude"]) if place else None,
        pictures=pictures,
    )


def _reply_line(reply: Document) -> Line:
    content = reply.get("content") or {}
    return Line(
        line_id=reply["_id"],
        side="officer" if reply.get("origin") == "officer" else "bot",
        at=reply["requested_at"],
        text=content.get("text", ""),
        mark=mark_of(
            reply["state"],
            received=reply.get("received_at") is not None,
            seen=reply.get("seen_at") is not None,
        ),
        failure=reply.get("reason"),
    )


def _pending_lines(pending: Iterable[Document], replies: Sequence[Document]) -> list[Line]:
    known = {reply.get("answers_event_id") for reply in replies} | {reply["_id"] for reply in replies}
    return [
        Line(
            line_id=action["_id"],
            side="officer",
            at=action["decided_at"],
            text=action["text"],
            author=action["officer_name"],
            mark="undo" if action["state"] == "waiting" else "waiting",
            due_at=action["due_at"],
        )
        for action in pending
        if action["action"] == "reply" and action["state"] != "undone" and action["_id"] not in known
    ]


def _entry(document: Document) -> Entry:
    return Entry(at=document["at"], what=document["kind"], by=document.get("by"), details=document.get("details", {}))


def _picture(document: Document) -> Picture:
    states: dict[str, Literal["ready", "waiting", "failed"]] = {"stored": "ready", "pending": "waiting"}
    return Picture(
        attachment_id=str(document["_id"]),
        kind=document.get("kind", "other"),
        state=states.get(document["state"], "failed"),
        content_type=document.get("content_type"),
        name=document.get("name"),
        size_bytes=document.get("size_bytes"),
    )
