"""Cases, conversations and pictures as one officer may see them.

The repository is made with a scope and puts it into every query: there is no way to ask it for another unit's case.
What belongs to a case (messages, replies, history) is only given for a `Case` that this repository found itself.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from services.console.domain import (
    DECISIONS_SHOWN,
    Case,
    CaseSummary,
    Citizen,
    Contact,
    Departure,
    Entry,
    Line,
    Mark,
    Picture,
    Place,
    QueueView,
    Scope,
    mark_of,
    queue_order,
)
from services.console.errors import CaseNotFound, PictureNotFound
from shared.case_codes import CodeSearch
from shared.collections import chosen_language, contacts_of_person, contacts_of_persons
from shared.ids import citizen_key
from shared.mongo import Binary, Document, Store, store_errors
from shared.topics import OFFICER_ACTIONS

MAX_QUEUE = 200
MAX_FOUND = 50
MAX_LINES = 500
WAITS_FOR_OFFICER = ("waiting_officer",)
WAITS_FOR_CITIZEN = ("answered_automatically", "answered_by_officer")
BY_ITSELF = ("router", "hub")
"""Who the history names where the hub acted and no officer."""

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

    async def _open(self, states: Sequence[str], now: datetime) -> list[CaseSummary]:
        """Open cases in these states, at most `MAX_QUEUE`; those whose time is up are closed and left out."""
        wanted = self._mine({"is_open": True, "state": {"$in": list(states)}})
        with store_errors():
            found = self._store["cases"].find(wanted, _SUMMARY_FIELDS).sort([("priority", 1), ("due_at", 1)])
            documents = await found.limit(MAX_QUEUE).to_list(MAX_QUEUE)
        return [_summary(document, now) for document in documents]

    async def queue(self, view: QueueView, *, limit: int = MAX_QUEUE) -> list[CaseSummary]:
        """The cases to work on, in order: emergencies, then what is due first; the other views newest first.

        Raises:
            StoreUnavailable: try again.
        """
        now = datetime.now(UTC)
        if view == "open":
            cases = queue_order([case for case in await self._open(WAITS_FOR_OFFICER, now) if case.is_open])
            return await self._with_excerpts(await self._with_departures(cases[:limit]))
        answered = await self._open(WAITS_FOR_CITIZEN, now)
        if view == "waiting":
            cases = [case for case in answered if case.is_open]
        else:
            wanted = self._mine({"is_open": False, "last_message_at": {"$gte": now - CLOSED_SHOWN}})
            with store_errors():
                found = self._store["cases"].find(wanted, _SUMMARY_FIELDS).sort([("last_message_at", -1)])
                documents = await found.limit(limit).to_list(limit)
            cases = [case for case in answered if not case.is_open]
            cases += [_summary(document, now) for document in documents]
        newest_first = sorted(cases, key=lambda case: case.last_message_at, reverse=True)
        return await self._with_excerpts(await self._with_departures(newest_first[:limit]))

    async def counts(self) -> dict[str, int]:
        """How many open cases wait for an officer, for the citizen, burn, are overdue; each counted to `MAX_QUEUE`."""
        now = datetime.now(UTC)
        officer = [case for case in await self._open(WAITS_FOR_OFFICER, now) if case.is_open]
        citizen = [case for case in await self._open(WAITS_FOR_CITIZEN, now) if case.is_open]
        return {
            "open": len(officer),
            "waiting": len(citizen),
            "burning": sum(1 for case in officer if case.is_burning),
            "overdue": sum(1 for case in officer if case.due_at is not None and case.due_at < now),
        }

    async def search(self, search: CodeSearch) -> list[CaseSummary]:
        """The case that is meant, or those whose codes begin so, newest first."""
        code = {"$in": list(search.codes)} if search.codes else {"$regex": f"^{re.escape(search.prefix)}"}
        limit = 1 if search.codes else MAX_FOUND
        with store_errors():
            found = self._store["cases"].find(self._mine({"code": code}), _SUMMARY_FIELDS).sort([("code", -1)])
            documents = await found.limit(limit).to_list(limit)
        cases = await self._with_departures([_summary(document, datetime.now(UTC)) for document in documents])
        return await self._with_excerpts(cases)

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
        (summary,) = await self._with_departures([_summary(document, datetime.now(UTC))])
        return _case(document, summary)

    async def conversation(self, case: Case, pending: Iterable[Document] = ()) -> list[Line]:
        """Everything said in a case, oldest first: the citizen, the bot and the officers.

        Args:
            case: found by this repository.
            pending: decisions about it that are not in the ledger yet.
        """
        await self._still_mine(case)
        with store_errors():
            messages, replies, actions = await asyncio.gather(
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
                self._store["case_entries"]
                .find({"case_code": case.code, "by": {"$nin": BY_ITSELF}}, {"by": 1, "details": 1})
                .to_list(MAX_LINES),
            )
        pictures = await self._pictures([message["_id"] for message in messages if message.get("attachments")])
        lines = [_citizen_line(message, pictures.get(message["_id"], ())) for message in messages]
        names = await self._names(action["by"] for action in actions)
        wrote = {action["details"]["reply_id"]: action["by"] for action in actions if "reply_id" in action["details"]}
        for reply in replies:
            officer = wrote.get(reply["_id"])
            lines.append(_reply_line(reply, names.get(officer, officer) if officer else None))
        # The router gives a reply the id of the decision it carries out.
        lines += _pending_lines(pending, {reply["_id"] for reply in replies})
        return sorted(lines, key=lambda line: line.at)

    async def history(self, case: Case) -> list[Entry]:
        """What happened to a case, newest first."""
        await self._still_mine(case)
        with store_errors():
            found = self._store["case_entries"].find({"case_code": case.code}).sort([("at", -1)]).limit(100)
            documents = await found.to_list(100)
        names = await self._names(document["by"] for document in documents if document["by"] not in BY_ITSELF)
        return [_entry(document, names) for document in documents]

    async def contact(self, case: Case, lines: Sequence[Line] = ()) -> Contact:
        """When the citizen last did something that opens the window, as far as anybody here knows."""
        await self._still_mine(case)
        key = citizen_key(case.citizen.oa_id, case.citizen.user_id)
        contact = _contact(await contacts_of_person(self._store["contacts"], key))
        known = [line.at for line in lines if line.side == "citizen"] or [case.summary.last_message_at]
        if contact.last_interaction_at is not None:
            known.append(contact.last_interaction_at)
        return replace(contact, last_interaction_at=max(known))

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
                self._store["messages"].find(wanted, {"case_code": 1, "attachments": 1}).to_list(None),
                self._store["reply_ledger"].find(wanted, _LEDGER_FIELDS).to_list(None),
                self._store["case_entries"].find(wanted, {"case_code": 1}).to_list(None),
            )
        pictures = await self._pictures([message["_id"] for message in messages if message.get("attachments")])
        now = datetime.now(UTC)
        marks: dict[str, list[str]] = {code: [] for code in codes}
        for case in await self._with_departures([_summary(case, now) for case in cases]):
            marks[case.code].append(repr(case))
        keys = {case["code"]: citizen_key(case["oa_id"], case["user_id"]) for case in cases}
        contacts = await contacts_of_persons(self._store["contacts"], keys.values())
        for code, key in keys.items():  # what may be sent, and in which language
            marks[code].append(repr(_contact(contacts[key])))
        for one in (*messages, *entries):
            marks[one["case_code"]].append(str(one["_id"]))
        for message in messages:  # a picture is fetched some time after its message came
            marks[message["case_code"]] += [
                f"{one.attachment_id}{one.state}" for one in pictures.get(message["_id"], ())
            ]
        for reply in replies:
            marks[reply["case_code"]].append(f"{reply['_id']}{_mark(reply)}")
        return {code: "|".join(sorted(parts)) for code, parts in marks.items()}

    async def queue_fingerprint(self) -> str:
        """What changes whenever the queue would look different."""
        now = datetime.now(UTC)
        cases = [*await self._open(WAITS_FOR_OFFICER, now), *await self._open(WAITS_FOR_CITIZEN, now)]
        return "|".join(map(repr, await self._with_departures(cases)))

    async def _still_mine(self, case: Case) -> None:
        """A case handed over while its page was open is not ours any more."""
        if not self._scope.allows(case.unit):
            raise CaseNotFound(case.code)

    async def _names(self, accounts: Iterable[str]) -> dict[str, str]:
        """Names of officers by account."""
        wanted = sorted(set(accounts))
        if not wanted:
            return {}
        with store_errors():
            found = await self._store["accounts"].find({"_id": {"$in": wanted}}, {"name": 1}).to_list(None)
        return {account["_id"]: account["name"] for account in found}

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

    async def _with_departures(self, cases: list[CaseSummary]) -> list[CaseSummary]:
        """The same cases with what is about to take them off the queue, where anything is."""
        if not (newest := await self._newest_departures([case.code for case in cases])):
            return cases
        with store_errors():  # after the decisions, so that none is read as waiting that has had its effect
            found = self._store["cases"].find({"code": {"$in": list(newest)}}, {"officer_event_ids": 1})
            carried_out = {event_id for case in await found.to_list(None) for event_id in case["officer_event_ids"]}
        ahead = {code: action for code, action in newest.items() if action["_id"] not in carried_out}
        refused = await self._parked([action["_id"] for action in ahead.values() if action["state"] == "published"])
        departures = {
            code: Departure(action["_id"], action["to_unit"], action["_id"] in refused)
            for code, action in ahead.items()
        }
        return [replace(case, departure=departures.get(case.code)) for case in cases]

    async def _newest_departures(self, codes: Sequence[str]) -> dict[str, Document]:
        """The newest decision about each case by which it moves or ends, carried out or not."""
        if not codes:
            return {}
        leaves = {
            "case_code": {"$in": list(codes)},
            "decided_at": {"$gte": datetime.now(UTC) - DECISIONS_SHOWN},
            "state": {"$ne": "undone"},
            "$or": [{"to_unit": {"$ne": None}}, {"action": "close"}, {"closes_case": True}],
        }
        with store_errors():
            found = self._store["pending_actions"].find(leaves, {"case_code": 1, "to_unit": 1, "state": 1})
            return {action["case_code"]: action for action in await found.sort([("decided_at", 1)]).to_list(None)}

    async def _parked(self, event_ids: Sequence[str]) -> set[str]:
        """Which of these decisions the router parked, because it could not carry them out."""
        if not event_ids:
            return set()
        headers = [["ce_id", Binary(event_id.encode())] for event_id in event_ids]
        letters = {"service": "router", "state": "parked", "topic": OFFICER_ACTIONS.name, "headers": {"$in": headers}}
        with store_errors():
            found = await self._store["dead_letters"].find(letters, {"headers": 1}).to_list(None)
        return {bytes(dict(letter["headers"])["ce_id"]).decode() for letter in found}

    async def _with_excerpts(self, cases: list[CaseSummary]) -> list[CaseSummary]:
        """The same cases with how many messages each has and its telling text; one query for all of them."""
        if not cases:
            return cases
        of_cases = {"$match": {"case_code": {"$in": [case.code for case in cases]}}}
        with store_errors():
            rows = await self._store.aggregate("messages", [of_cases, _COUNT_AND_TELLING_TEXT])
        found = {row["_id"]: row for row in rows}
        return [
            replace(
                case,
                excerpt=" ".join((found[case.code]["telling"].get("text") or "").split())[:EXCERPT_CHARACTERS],
                message_count=found[case.code]["count"],
            )
            if case.code in found
            else case
            for case in cases
        ]


# Letters as ranges, rough but enough to tell words from emoji and punctuation: regular expressions of the servers that
# speak MongoDB's protocol agree on ranges, not on \p{L}.
_LETTER = "[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u1fff\u2c00-\ud7ff\uf900-\ufdff]"
_HAS_WORDS = {"$regexMatch": {"input": "$text", "regex": _LETTER}}
_TELLS = {
    "$cond": [
        _HAS_WORDS,
        {"$cond": [{"$eq": ["$urgency", "emergency"]}, 3, 2]},
        {"$cond": [{"$gt": ["$text", ""]}, 1, 0]},
    ]
}
_COUNT_AND_TELLING_TEXT = {
    "$group": {
        "_id": "$case_code",
        "count": {"$sum": 1},
        "telling": {"$max": {"tells": _TELLS, "at": "$sent_at", "text": "$text"}},
    }
}
"""What stands in the queue for a case: the newest report of an emergency, else the newest text with words in it."""


# -- reading the documents that the router, intake and the notifier write ---------------------------------------------

_SUMMARY_FIELDS = dict.fromkeys(
    (
        *("code", "unit", "page", "category", "subtopic", "urgency", "priority", "state", "is_open"),
        *("opened_at", "last_message_at", "due_at", "closed_at", "closes_at"),
    ),
    1,
)
_LEDGER_FIELDS = {"case_code": 1, "state": 1, "received_at": 1, "seen_at": 1, "requested_at": 1}


def _summary(document: Document, now: datetime) -> CaseSummary:
    closes_at = document.get("closes_at")
    # An answered case is over when its time is up; the router notes that only when the citizen writes again.
    is_over = closes_at is not None and closes_at <= now
    return CaseSummary(
        code=document["code"],
        unit=document["unit"],
        page=document["page"],
        category=document["category"],
        subtopic=document.get("subtopic"),
        urgency=document["urgency"],
        is_open=document["is_open"] and not is_over,
        waits_for="officer" if document["state"] in WAITS_FOR_OFFICER else "citizen",
        opened_at=document["opened_at"],
        last_message_at=document["last_message_at"],
        due_at=document.get("due_at"),
        closed_at=document.get("closed_at") or (closes_at if is_over else None),
    )


def _case(document: Document, summary: CaseSummary) -> Case:
    return Case(
        summary=summary,
        citizen=Citizen(
            channel=document["channel"],
            page=document["page"],
            oa_id=document["oa_id"],
            user_id=document["user_id"],
            user_id_by_app=document.get("user_id_by_app"),
        ),
        correlation_id=document["correlation_id"],
        reasons=tuple(document.get("reasons", ())),
        doubts=tuple(document.get("doubts", ())),
        evidence=tuple(document.get("evidence", ())),
        confidence=document["confidence"],
    )


def _contact(contacts: Sequence[Document]) -> Contact:
    contact = contacts[0] if contacts else {}
    return Contact(contact.get("last_interaction_at"), contact.get("withdrawn_at"), chosen_language(contacts))


def _citizen_line(message: Document, pictures: tuple[Picture, ...]) -> Line:
    place = message.get("location")
    return Line(
        line_id=message["_id"],
        side="citizen",
        at=message["sent_at"],
        text=message.get("text", ""),
        language=message.get("language"),
        kind=message.get("kind", "text"),
        place=Place(place["latitude"], place["longitude"]) if place else None,
        pictures=pictures,
    )


def _mark(reply: Document) -> Mark:
    return mark_of(reply["state"], received=reply.get("received_at") is not None, seen=reply.get("seen_at") is not None)


def _reply_line(reply: Document, author: str | None) -> Line:
    mark = _mark(reply)
    return Line(
        line_id=reply["_id"],
        side="officer" if reply["origin"] == "officer" else "bot",
        at=reply["requested_at"],
        text=reply["content"].get("text", ""),
        author=author,
        mark=mark,
        failure=reply.get("reason") if mark in {"failed", "uncertain"} else None,
    )


def _pending_lines(pending: Iterable[Document], in_ledger: set[str]) -> list[Line]:
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
        if action["action"] == "reply" and action["state"] != "undone" and action["_id"] not in in_ledger
    ]


def _entry(document: Document, names: Mapping[str, str]) -> Entry:
    by = document["by"]
    is_reply = "reply_id" in document["details"]
    return Entry(
        at=document["at"],
        what=document["kind"],
        by=None if by in BY_ITSELF else names.get(by, by),
        reasons=tuple(document["reasons"]),
        changes=tuple((change["field"], change["from"], change["to"]) for change in document["changes"]),
        note="" if is_reply else document["text"] or "",
    )


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
