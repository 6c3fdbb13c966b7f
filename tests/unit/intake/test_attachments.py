import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.intake.domain import AttachmentJob, AttachmentPlan, Captured
from services.intake.errors import AttachmentGone, AttachmentUnreachable
from services.intake.handlers.attachments import AttachmentDeps, fetch_attachment, fetch_attachments, note_attachments
from shared.errors import StoreUnavailable
from shared.events import Attachment, CitizenMessageReceived
from shared.kafka import Received
from tests.factories import a_message
from tests.unit.intake.support import until

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(40)


@dataclass
class Jobs:
    """Jobs in memory."""

    due: list[AttachmentJob] = field(default_factory=list)
    planned: list[AttachmentPlan] = field(default_factory=list)
    kept: list[Captured] = field(default_factory=list)
    put_off: list[tuple[datetime, str]] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    failure: Exception | None = None

    async def plan(self, planned: Sequence[tuple[CitizenMessageReceived, AttachmentPlan]]) -> int:
        self.planned += [plan for _, plan in planned]
        return sum(plan.skip_reason is None for _, plan in planned)

    async def claim_due(self, limit: int) -> list[AttachmentJob]:
        if self.failure:
            raise self.failure
        claimed, self.due = self.due[:limit], self.due[limit:]
        return claimed

    async def keep(self, job: AttachmentJob, captured: Captured) -> bool:
        assert job.attachment_id
        self.kept.append(captured)
        return True

    async def retry(self, job: AttachmentJob, *, at: datetime, reason: str) -> None:
        assert job.attachment_id
        self.put_off.append((at, reason))

    async def give_up(self, job: AttachmentJob, *, reason: str) -> None:
        assert job.attachment_id
        self.given_up.append(reason)


@dataclass
class Web:
    """What every link leads to."""

    content: bytes = PNG
    failure: Exception | None = None

    async def fetch(self, url: str) -> bytes:
        assert url
        if self.failure:
            raise self.failure
        return self.content


def a_job(attempt: int = 1, **changes: Any) -> AttachmentJob:
    filled = {
        "attachment_id": "a1",
        "message_event_id": "e1",
        "kind": "image",
        "url": "https://x.example/1.png",
        "name": None,
        "attempt": attempt,
        "owner": "me",
    }
    return AttachmentJob(**{**filled, **changes})


def deps_for(jobs: Jobs, web: Web) -> AttachmentDeps:
    return AttachmentDeps(jobs, web, concurrency=2, poll_seconds=0.001, retry_waits_seconds=(5.0, 30.0))


async def test_bytes_are_kept_with_their_digest_type_and_time_of_capture() -> None:
    jobs = Jobs()
    before = datetime.now(UTC)

    await fetch_attachment(a_job(), deps_for(jobs, Web()))

    (captured,) = jobs.kept
    assert captured.content == PNG
    assert captured.sha256 == hashlib.sha256(PNG).hexdigest()
    assert captured.content_type == "image/png"
    assert before <= captured.captured_at <= datetime.now(UTC)


async def test_a_passing_failure_is_put_off_by_the_schedule_and_given_up_at_its_end() -> None:
    jobs, web = Jobs(), Web(failure=AttachmentUnreachable("TimeoutError"))

    for attempt in (1, 2, 3):
        await fetch_attachment(a_job(attempt), deps_for(jobs, web))

    assert [reason for _, reason in jobs.put_off] == ["attachment.unreachable"] * 2
    assert jobs.put_off[1][0] - jobs.put_off[0][0] > timedelta(seconds=20)
    assert jobs.given_up == ["attachment.unreachable"]


async def test_a_final_failure_is_given_up_at_once_with_its_reason() -> None:
    jobs = Jobs()

    await fetch_attachment(a_job(), deps_for(jobs, Web(failure=AttachmentGone("HTTP 404"))))

    assert (jobs.given_up, jobs.put_off) == (["attachment.gone"], [])


@pytest.mark.parametrize(
    "content", [b"<html><script>alert(1)</script>", b"MZ\x90\0" + bytes(60), b"\x7fELF\x02\x01\x01" + bytes(60)]
)
async def test_what_is_no_known_kind_of_file_by_its_content_is_not_kept(content: bytes) -> None:
    jobs = Jobs()

    await fetch_attachment(a_job(name="photo.jpg"), deps_for(jobs, Web(content)))

    assert (jobs.kept, jobs.given_up) == ([], ["attachment.type_refused"])


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(50), "image/jpeg"),
        (b"GIF89a" + bytes(30), "image/gif"),
        (b"RIFF\x24\0\0\0WEBPVP8 " + bytes(30), "image/webp"),
        (b"#!AMR\n" + bytes(30), "audio/amr"),
        (b"\0\0\0\x18ftypmp42\0\0\2\0isomiso2" + bytes(30), "video/mp4"),
        (b"\0\0\0\x18ftypavc1\0\0\2\0isom" + bytes(30), "video/mp4"),
        (b"%PDF-1.7\n" + bytes(30), "application/pdf"),
        ("Tường trình: lúc 22 giờ\n".encode(), "text/plain"),
    ],
)
async def test_what_citizens_send_is_recognised_by_its_content(content: bytes, content_type: str) -> None:
    jobs = Jobs()

    await fetch_attachment(a_job(), deps_for(jobs, Web(content)))

    assert [captured.content_type for captured in jobs.kept] == [content_type]


async def test_a_surprise_counts_as_a_failed_attempt_and_does_not_stop_the_worker() -> None:
    jobs = Jobs()

    await fetch_attachment(a_job(), deps_for(jobs, Web(failure=RuntimeError("odd"))))

    assert [reason for _, reason in jobs.put_off] == ["attachment.failed"]


async def test_an_outage_of_the_store_leaves_the_job_to_its_claim() -> None:
    with pytest.raises(StoreUnavailable):
        await fetch_attachment(a_job(), deps_for(Jobs(), Web(failure=StoreUnavailable("away"))))


def received(*attachments: Attachment) -> Received[CitizenMessageReceived]:
    return Received(a_message(attachments=attachments), 0, 0)


async def test_noting_wakes_the_worker_only_when_there_is_something_to_fetch() -> None:
    jobs = Jobs()
    deps = deps_for(jobs, Web())

    await note_attachments([received(Attachment(index=0, kind="sticker", url="https://x.example/s"))], deps)
    assert not deps.wake.is_set()
    await note_attachments([received(Attachment(index=0, kind="image", url="https://x.example/i"))], deps)
    assert deps.wake.is_set()
    assert len(jobs.planned) == 2


async def test_messages_without_attachments_cost_nothing() -> None:
    jobs = Jobs(failure=StoreUnavailable("away"))

    await note_attachments([received()], deps_for(jobs, Web()))

    assert jobs.planned == []


async def test_the_worker_survives_an_outage_and_fetches_all_that_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.intake.handlers.attachments.OUTAGE_PAUSE_SECONDS", 0.001)
    jobs = Jobs(due=[a_job(attachment_id=f"a{n}") for n in range(7)], failure=StoreUnavailable("away"))
    task = asyncio.create_task(fetch_attachments(deps_for(jobs, Web())))
    await asyncio.sleep(0.01)
    jobs.failure = None

    await until(lambda: len(jobs.kept) == 7)
    task.cancel()
