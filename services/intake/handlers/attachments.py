"""Attachments: noted when their message arrives, fetched in the background, since the links expire."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import puremagic

from services.intake.domain import (
    SNIFFED_BYTES,
    AttachmentJob,
    AttachmentPlan,
    Captured,
    GiveUp,
    RetryAt,
    after_failed_attempt,
    kept_type,
    plan_attachments,
)
from services.intake.errors import AttachmentError, AttachmentTypeRefused
from services.intake.metrics import ATTACHMENTS
from shared.errors import HubError, StoreUnavailable
from shared.events import CitizenMessageReceived
from shared.kafka import Received
from shared.telemetry import get_logger

log = get_logger()

OUTAGE_PAUSE_SECONDS = 2.0


class AttachmentJobs(Protocol):
    """Where jobs and bytes are kept. Every call raises StoreUnavailable."""

    async def plan(self, planned: Sequence[tuple[CitizenMessageReceived, AttachmentPlan]]) -> int:
        """Create new jobs and say how many are to be fetched."""

    async def claim_due(self, limit: int) -> list[AttachmentJob]:
        """Claim due jobs for one attempt."""

    async def keep(self, job: AttachmentJob, captured: Captured) -> bool:
        """Keep the bytes; say whether the job was still ours."""

    async def retry(self, job: AttachmentJob, *, at: datetime, reason: str) -> None:
        """Put it off."""

    async def give_up(self, job: AttachmentJob, *, reason: str) -> None:
        """Close it without bytes."""


class Fetcher(Protocol):
    """Gets bytes from the web."""

    async def fetch(self, url: str) -> bytes:
        """Raises: AttachmentError."""


@dataclass(frozen=True)
class AttachmentDeps:
    """What the worker needs.

    Attributes:
        wake: set when there is something new to fetch, so that the worker need not wait for its next look.
    """

    jobs: AttachmentJobs
    fetcher: Fetcher
    concurrency: int
    poll_seconds: float
    retry_waits_seconds: Sequence[float]
    wake: asyncio.Event = field(default_factory=asyncio.Event)


async def note_attachments(received: Sequence[Received[CitizenMessageReceived]], deps: AttachmentDeps) -> None:
    """Make a job for each attachment of a batch of messages; a redelivery changes nothing.

    Raises:
        StoreUnavailable: passing; Kafka redelivers the batch.
    """
    planned = [(one.event, plan) for one in received for plan in plan_attachments(one.event)]
    if not planned:
        return
    to_fetch = await deps.jobs.plan(planned)
    if to_fetch:
        deps.wake.set()
    log.info("attachments.noted", attachments=len(planned), to_fetch=to_fetch)


async def fetch_attachments(deps: AttachmentDeps) -> None:
    """Fetch what is due, until cancelled. An outage of MongoDB is waited out."""
    while True:
        deps.wake.clear()
        try:
            jobs = await deps.jobs.claim_due(deps.concurrency)
            await asyncio.gather(*(fetch_attachment(job, deps) for job in jobs))
        except Exception as error:
            # Attachments are the lesser duty: whatever is wrong with them must not stop the webhooks beside them.
            log.warning("attachments.waiting", error=type(error).__name__, exc_info=not isinstance(error, HubError))
            await asyncio.sleep(OUTAGE_PAUSE_SECONDS)
            continue
        if not jobs:
            try:
                async with asyncio.timeout(deps.poll_seconds):
                    await deps.wake.wait()
            except TimeoutError:
                pass


async def fetch_attachment(job: AttachmentJob, deps: AttachmentDeps) -> None:
    """Make one attempt to capture an attachment.

    Raises:
        StoreUnavailable: the outcome is not kept; the job becomes due again.
    """
    try:
        captured = await _capture(job, deps.fetcher)
        is_ours = await deps.jobs.keep(job, captured)
    except AttachmentError as error:
        await _after_failure(job, error.code, deps, retryable=error.retryable)
    except StoreUnavailable:
        raise
    except Exception as error:
        # One odd file must not stop the worker.
        log.exception("attachment.failed", attachment_id=job.attachment_id, error=type(error).__name__)
        await _after_failure(job, AttachmentError.code, deps, retryable=True)
    else:
        outcome = "attachment.stored" if is_ours else "attachment.claim_lost"
        ATTACHMENTS.labels(outcome).inc()
        log.info(
            outcome,
            attachment_id=job.attachment_id,
            event_id=job.message_event_id,
            kind=job.kind,
            content_type=captured.content_type,
            size_bytes=len(captured.content),
            sha256=captured.sha256,
            attempt=job.attempt,
        )


async def _capture(job: AttachmentJob, fetcher: Fetcher) -> Captured:
    content = await fetcher.fetch(job.url)
    captured_at = datetime.now(UTC)
    # Megabytes to hash and tables to search: not on the event loop.
    content_type, sha256 = await asyncio.to_thread(_examine, content)
    if content_type is None:
        raise AttachmentTypeRefused("none of the kinds of files that are kept")
    return Captured(content=content, content_type=content_type, sha256=sha256, captured_at=captured_at)


def _examine(content: bytes) -> tuple[str | None, str]:
    head = content[:SNIFFED_BYTES]
    try:
        matches = puremagic.magic_string(content)
    except (puremagic.PureError, ValueError):
        matches = []
    extensions = [f".{match.extension.lstrip('.')}".lower() for match in matches if match.extension]
    return kept_type(extensions, head), hashlib.sha256(content).hexdigest()


async def _after_failure(job: AttachmentJob, reason: str, deps: AttachmentDeps, *, retryable: bool) -> None:
    step = after_failed_attempt(
        reason,
        retryable=retryable,
        attempt=job.attempt,
        ended_at=datetime.now(UTC),
        retry_waits_seconds=deps.retry_waits_seconds,
    )
    match step:
        case RetryAt(at):
            await deps.jobs.retry(job, at=at, reason=reason)
        case GiveUp(final_reason):
            await deps.jobs.give_up(job, reason=final_reason)
    ATTACHMENTS.labels(reason).inc()
    log.info(
        "attachment.not_captured",
        attachment_id=job.attachment_id,
        event_id=job.message_event_id,
        reason=reason,
        attempt=job.attempt,
        next_at=step.at.isoformat() if isinstance(step, RetryAt) else None,
    )
