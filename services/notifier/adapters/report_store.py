"""Echoes and receipts in MongoDB, one document for each message id of each report."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from services.notifier.domain.settlement import Proof
from shared.events import DeliveryReported, TemplateDelivered
from shared.ids import text_digest
from shared.mongo import Document, Store, insert_new, patiently, store_errors

NO_TEXT = text_digest("")
_PROOF_FIELDS = ("message_id", "report", "citizen_key", "text_sha256", "admin_id", "reported_at", "send_id")
PROVING = ("echo", "received", "seen")


class ReportStore:
    """The `delivery_reports` collection."""

    def __init__(self, store: Store) -> None:
        self._reports = store["delivery_reports"]

    async def add(self, reports: Sequence[DeliveryReported]) -> None:
        """Keep reports; a repeated one changes nothing.

        Raises:
            StoreUnavailable: some may be kept; repeat the call.
        """
        documents: dict[str, Document] = {}
        for report in reports:
            for number, message_id in enumerate(report.message_ids):
                document_id = report.event_id if number == 0 else f"{report.event_id}:{number}"
                documents[document_id] = _document(
                    report,
                    document_id,
                    message_id=message_id,
                    report=report.report,
                    citizen_key=report.citizen_key,
                    # An echo of a picture or a file has no text; it is matched with a send that had none.
                    text_sha256=report.text_sha256 or (NO_TEXT if report.report == "echo" else None),
                    admin_id=report.admin_id,
                    reaction=report.reaction,
                    reported_at=report.reported_at,
                )
        await patiently(lambda: insert_new(self._reports, list(documents.values())))

    async def add_deliveries(self, deliveries: Sequence[tuple[TemplateDelivered, str]]) -> None:
        """Keep receipts that name a send of ours, each with the citizen it went to; a repeated one changes nothing.

        Raises:
            StoreUnavailable: some may be kept; repeat the call.
        """
        documents = {
            event.event_id: _document(
                event,
                event.event_id,
                message_id=event.message_id,
                report="received",
                citizen_key=citizen_key,
                reported_at=event.delivered_at,
                send_id=event.tracking_id,
            )
            for event, citizen_key in deliveries
        }
        await patiently(lambda: insert_new(self._reports, list(documents.values())))

    async def of_messages(self, message_ids: Iterable[str]) -> dict[str, dict[str, datetime]]:
        """The earliest moment of each kind of report by message id."""
        with store_errors():
            cursor = self._reports.find(
                {"message_id": {"$in": list(message_ids)}}, {"message_id": 1, "report": 1, "reported_at": 1}
            )
            documents = await cursor.to_list(None)
        moments: dict[str, dict[str, datetime]] = defaultdict(dict)
        for document in documents:
            kind = document["report"]
            if kind in PROVING:
                known = moments[document["message_id"]].get(kind)
                at = document["reported_at"]
                moments[document["message_id"]][kind] = at if known is None else min(known, at)
        return moments

    async def by_people(self, message_ids: Iterable[str]) -> set[str]:
        """Which of these messages a person sent in Zalo's own tool."""
        with store_errors():
            cursor = self._reports.find(
                {"message_id": {"$in": list(message_ids)}, "admin_id": {"$ne": None}}, {"message_id": 1}
            )
            return {document["message_id"] for document in await cursor.to_list(None)}

    async def proofs(self, citizen_keys: Iterable[str], *, since: datetime) -> list[Proof]:
        """What Zalo reported of these citizens since a moment, without what a person wrote in Zalo's own tool."""
        with store_errors():
            cursor = self._reports.find(
                {"citizen_key": {"$in": list(citizen_keys)}, "reported_at": {"$gte": since}},
                dict.fromkeys(_PROOF_FIELDS, 1),
            )
            documents = await cursor.to_list(None)
        by_people = {document["message_id"] for document in documents if document["admin_id"] is not None}
        return [
            Proof(
                message_id=document["message_id"],
                citizen_key=document["citizen_key"],
                kind=document["report"],
                text_sha256=document["text_sha256"],
                at=document["reported_at"],
                send_id=document.get("send_id"),
            )
            for document in documents
            if document["report"] in PROVING and document["message_id"] not in by_people
        ]


def _document(event: DeliveryReported | TemplateDelivered, document_id: str, **facts: Any) -> Document:
    """One report about one message; `facts` say what it reports, and of whom."""
    return {
        "_id": document_id,
        "page": event.page,
        "oa_id": event.oa_id,
        "text_sha256": None,
        "admin_id": None,
        "reaction": None,
        "correlation_id": event.correlation_id,
        **facts,
    }
