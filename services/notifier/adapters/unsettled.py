"""What settlement asks of a ledger. Replies and copies of broadcasts are rows of different collections, asked alike."""

from collections import defaultdict
from collections.abc import Collection as Collection_
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.notifier.domain.next_step import Fail, TryAgain
from services.notifier.domain.settlement import OpenSend
from shared.mongo import EPOCH, Collection, Document, store_errors, value_of_each

NOTED_AT_ONCE = 100


@dataclass(frozen=True)
class Names:
    """What the fields of a ledger are called in which the two differ.

    Attributes:
        started_at: when the call began.
        kind: what kind of message it is.
        listed: the kinds that Zalo's list of a conversation shows.
        own: what the message key begins with as long as Zalo's id is not known.
    """

    started_at: str
    kind: str
    listed: Collection_[Any]
    own: str


async def in_states(
    rows: Collection, citizen_keys: Iterable[str], states: Sequence[str], names: Names
) -> list[OpenSend]:
    """Sends to these citizens in some states."""
    wanted: Document = {"citizen_key": {"$in": list(citizen_keys)}, "state": {"$in": list(states)}}
    return await _sends(rows, wanted, names)


async def nameless(rows: Collection, citizen_keys: Iterable[str], names: Names) -> list[OpenSend]:
    """Sends to these citizens that Zalo has, under an id that is not known."""
    own_name = {"$gte": f"{names.own} ", "$lt": f"{names.own}!"}
    wanted: Document = {"citizen_key": {"$in": list(citizen_keys)}, "state": "sent", "message_key": own_name}
    return await _sends(rows, wanted, names)


async def _sends(rows: Collection, wanted: Document, names: Names) -> list[OpenSend]:
    fields = ("citizen_key", "text_sha256", names.started_at, "attempt", "state", "requested_at", names.kind)
    with store_errors():
        documents = await rows.find(wanted, dict.fromkeys(fields, 1)).to_list(None)
    return [
        OpenSend(
            id=document["_id"],
            citizen_key=document["citizen_key"],
            text_sha256=document["text_sha256"] or "",
            started_at=document[names.started_at],
            attempt=document["attempt"],
            state=document["state"],
            requested_at=document["requested_at"],
            is_listed=document[names.kind] in names.listed,
        )
        for document in documents
    ]


async def owned(rows: Collection, message_ids: Iterable[str]) -> set[str]:
    """Which of Zalo's message ids a row has already."""
    with store_errors():
        cursor = rows.find({"message_key": {"$in": list(message_ids)}}, {"message_key": 1})
        return {document["message_key"] for document in await cursor.to_list(None)}


async def uncertain_due(rows: Collection, *, now: datetime, limit: int, **narrowed: Any) -> dict[str, tuple[str, int]]:
    """Uncertain rows that are to be looked at again: citizen and number of checks by id.

    Args:
        rows: of the ledger.
        now: by the database's clock.
        limit: the most at once.
        **narrowed: further conditions, for the ledger's index.
    """
    due: Document = {"state": "uncertain", **narrowed, "due_at": {"$gt": EPOCH, "$lte": now}}
    with store_errors():
        documents = await rows.find(due, {"citizen_key": 1, "checks": 1}).limit(limit).to_list(limit)
    return {document["_id"]: (document["citizen_key"], document["checks"]) for document in documents}


async def check_again(rows: Collection, at: Mapping[str, tuple[int, datetime]]) -> None:
    """Set when uncertain rows are looked at next: number of checks and moment by id."""
    alike: dict[tuple[int, datetime], list[str]] = defaultdict(list)
    for row_id, next_check in at.items():
        alike[next_check].append(row_id)
    for (checks, due_at), row_ids in alike.items():
        with store_errors():
            await rows.update_many(
                {"_id": {"$in": row_ids}, "state": "uncertain"}, {"$set": {"checks": checks, "due_at": due_at}}
            )


def without(send: OpenSend, step: TryAgain | Fail, *, now: datetime) -> tuple[Document, Document]:
    """How an uncertain row becomes one that Zalo provably lacks: its filter and what to set."""
    fields: Document = {"reason": step.reason, "settled_by": "not_listed"}
    match step:
        case TryAgain(at, _, failures):
            fields |= {"state": "queued", "due_at": at, "failures": failures}
        case Fail():
            fields |= {"state": "failed", "finished_at": now}
    return {"_id": send.id, "state": "uncertain", "attempt": send.attempt}, fields


async def note_moments(rows: Collection, name: str, moments: Mapping[str, datetime], *, by: str = "_id") -> None:
    """Note when something happened to each row, where that is earlier than what it says.

    Args:
        rows: of the ledger.
        name: of the field with the moment.
        moments: by what the rows have in the field `by`.
        by: `_id`, or another field that an index finds.
    """
    keys = list(moments)
    for start in range(0, len(keys), NOTED_AT_ONCE):
        part = {key: moments[key] for key in keys[start : start + NOTED_AT_ONCE]}
        earliest = {"$min": [f"${name}", value_of_each(part, field=by)]}  # null and missing are no minimum
        with store_errors():
            await rows.update_many({by: {"$in": list(part)}}, [{"$set": {name: earliest}}])
