"""Attachments in MongoDB: one job each in `attachments`, their bytes in the GridFS bucket of the same name.

A job that a worker has claimed stays `pending` with a later `due_at`: when the worker dies, it becomes due again by
itself. Every claim has its own owner, and only the latest may finish the job.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime

from services.intake.domain import AttachmentJob, AttachmentPlan, Captured
from shared.crash import crash_point
from shared.events import CitizenMessageReceived
from shared.mongo import Document, Store, insert_new, patiently, server_time_in, store_errors

BUCKET = "attachments"


class AttachmentStore:
    """Jobs and files of attachments."""

    def __init__(self, store: Store, *, claim_seconds: float) -> None:
        self._store = store
        self._jobs = store["attachments"]
        self._claim_milliseconds = int(claim_seconds * 1000)

    async def plan(self, planned: Sequence[tuple[CitizenMessageReceived, AttachmentPlan]]) -> int:
        """Create jobs; those that exist stay as they are.

        Returns:
            How many are new and to be fetched.

        Raises:
            StoreUnavailable: perhaps some are created; may be repeated.
        """
        documents = {plan.attachment_id: _document(message, plan) for message, plan in planned}
        inserted = await patiently(lambda: insert_new(self._jobs, list(documents.values())))
        return sum(documents[attachment_id]["state"] == "pending" for attachment_id in inserted)

    async def claim_due(self, limit: int) -> list[AttachmentJob]:
        """Claim jobs that are due by the database's clock, for one attempt each.

        Raises:
            StoreUnavailable: perhaps some are claimed; they become due again.
        """
        with store_errors():
            now = await self._store.server_now()
            due = (
                await self._jobs.find({"state": "pending", "due_at": {"$lte": now}})
                .sort([("due_at", 1)])
                .limit(limit)
                .to_list(limit)
            )
            return [job for document in due if (job := await self._claim(document)) is not None]

    async def _claim(self, document: Document) -> AttachmentJob | None:
        owner = secrets.token_hex(8)
        update = {
            "$set": {
                "owner": owner,
                "due_at": server_time_in(self._claim_milliseconds),
                "attempts": {"$add": ["$attempts", 1]},
            }
        }
        # The due time is part of the filter: of two workers that saw the same job only one finds it unchanged.
        result = await self._jobs.update_one(
            {"_id": document["_id"], "state": "pending", "due_at": document["due_at"]}, [update]
        )
        if result.modified_count == 0:
            return None
        return AttachmentJob(
            attachment_id=document["_id"],
            message_event_id=document["message_event_id"],
            kind=document["kind"],
            url=document["url"],
            name=document["name"],
            attempt=document["attempts"] + 1,
            owner=owner,
        )

    async def keep(self, job: AttachmentJob, captured: Captured) -> bool:
        """Keep the bytes and close the job.

        Each attempt writes a file of its own, so that a slow worker cannot mix its chunks with those of another.

        Returns:
            False if another worker has claimed the job meanwhile; then its file counts and ours is deleted.

        Raises:
            StoreUnavailable: the job becomes due again.
        """
        file_id = _file_id(job.attachment_id, job.attempt)
        with store_errors():
            await self._store.files(BUCKET).upload_from_stream_with_id(
                file_id,
                job.name or job.attachment_id,
                captured.content,
                metadata={
                    "attachment_id": job.attachment_id,
                    "message_event_id": job.message_event_id,
                    "content_type": captured.content_type,
                    "sha256": captured.sha256,
                    "captured_at": captured.captured_at,
                },
            )
        crash_point("intake.attachment.after_upload")
        is_ours = await self._finish(
            job,
            {
                "state": "stored",
                "reason": "attachment.stored",
                "file_id": file_id,
                "content_type": captured.content_type,
                "size_bytes": len(captured.content),
                "sha256": captured.sha256,
                "captured_at": captured.captured_at,
            },
        )
        left_behind = range(1, job.attempt) if is_ours else (job.attempt,)
        for attempt in left_behind:
            await self._delete_file(_file_id(job.attachment_id, attempt))
        return is_ours

    async def retry(self, job: AttachmentJob, *, at: datetime, reason: str) -> None:
        """Note a failed attempt and when the next one is due.

        Raises:
            StoreUnavailable: the job becomes due when the claim ends.
        """
        await self._finish(job, {"state": "pending", "due_at": at, "reason": reason})

    async def give_up(self, job: AttachmentJob, *, reason: str) -> None:
        """Close a job without bytes.

        Raises:
            StoreUnavailable: the job becomes due again.
        """
        await self._finish(job, {"state": "failed", "reason": reason})

    async def _finish(self, job: AttachmentJob, fields: Document) -> bool:
        mine = {"_id": job.attachment_id, "owner": job.owner}
        result = await patiently(lambda: self._jobs.update_one(mine, {"$set": fields}))
        return bool(result.matched_count)

    async def _delete_file(self, file_id: str) -> None:
        # By hand, since the bucket's own delete raises for a file whose upload broke off before its end.
        with store_errors():
            await self._store[f"{BUCKET}.files"].delete_one({"_id": file_id})
            await self._store[f"{BUCKET}.chunks"].delete_many({"files_id": file_id})


def _file_id(attachment_id: str, attempt: int) -> str:
    return f"{attachment_id}.{attempt}"


def _document(message: CitizenMessageReceived, plan: AttachmentPlan) -> Document:
    return {
        "_id": plan.attachment_id,
        "message_event_id": message.event_id,
        "message_id": message.message_id,
        "channel": message.channel,
        "page": message.page,
        "citizen_key": message.citizen_key,
        "index": plan.index,
        "kind": plan.kind,
        "url": plan.url,
        "name": plan.name,
        "declared_bytes": plan.declared_bytes,
        "state": "skipped" if plan.skip_reason else "pending",
        "reason": plan.skip_reason,
        "attempts": 0,
        "owner": None,
        "due_at": message.received_at,
        "sent_at": message.sent_at,
        "received_at": message.received_at,
    }
