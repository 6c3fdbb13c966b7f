"""A webhook arrives: check that Zalo sent it, decide what it is, keep it, answer."""

import re
import time
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from opentelemetry.trace import SpanKind

from services.intake.channels.zalo.normalise import Pages, Webhook, decide, record_as
from services.intake.channels.zalo.signature import NotVerified, SignatureCheck
from services.intake.domain import Decision, Disposition
from services.intake.errors import NowhereKept
from services.intake.handlers.keeping import Keeper
from services.intake.metrics import ACK_SECONDS, EVENTS, ODD_FIELDS, REPEATS, WEBHOOKS
from shared.crash import crash_point
from shared.telemetry import get_logger
from shared.tracing import tracing_of

log = get_logger()

MAX_REPEAT_DIGITS = 4
_PLAIN = re.compile(r"[A-Za-z0-9_.\-]{1,128}")


@dataclass(frozen=True)
class Delivery:
    """One request as the HTTP edge took it in.

    Attributes:
        signature: 64 lower-case hex digits from the header.
        timestamp_headers: every value of the time stamp header.
        repeat: Zalo's `num_retry` header, as it came.
        server: the `X-ZEvent-Server` header, as it came.
        began_at: monotonic time of the request's begin.
    """

    raw: bytes
    signature: bytes
    timestamp_headers: Sequence[bytes]
    repeat: bytes
    server: bytes
    began_at: float


@dataclass(frozen=True)
class Answer:
    """What the sender gets to know."""

    status: int
    code: str
    message: str


@dataclass(frozen=True)
class WebhookDeps:
    """What taking in a webhook needs."""

    signatures: SignatureCheck
    pages: Pages
    keeper: Keeper
    acknowledge_within_seconds: float


def refused(status: int, code: str, message: str) -> Answer:
    """Count and log a request that is no webhook."""
    WEBHOOKS.labels(Disposition.REFUSED, code).inc()
    log.info("webhook.refused", status=status, code=code)
    return Answer(status, code, message)


async def accept_webhook(delivery: Delivery, deps: WebhookDeps) -> Answer:
    """Verify, decide and keep one webhook; a repeated delivery makes the same events again.

    Whatever a signed body holds, the answer is 200 once it is kept: an error would only make Zalo send it again.
    503 means that neither Kafka nor MongoDB took it.
    """
    verdict = deps.signatures.verify(delivery.raw, delivery.signature, delivery.timestamp_headers)
    if isinstance(verdict, NotVerified):
        return refused(401, verdict.code, "The signature does not fit this body.")
    webhook = Webhook(
        raw=delivery.raw,
        app_id=verdict.app_id,
        signed_timestamp=verdict.timestamp,
        is_template_server=delivery.server.strip().upper() == b"ZNS",
        received_at=datetime.now(UTC),
    )
    decision = _decide_in_any_case(webhook, deps.pages)
    deadline = delivery.began_at + deps.acknowledge_within_seconds
    try:
        with _span(decision, delivery):
            kept_in: str = await deps.keeper.keep(decision.outgoing, received_at=webhook.received_at, deadline=deadline)
    except NowhereKept as error:
        answer = Answer(503, error.code, "Not kept; please send it again.")
        kept_in = "nowhere"
    else:
        crash_point("intake.after_keep")
        answer = Answer(200, decision.code, decision.disposition)
    _tell(delivery, decision, answer, kept_in, verdict.timestamp_source)
    return answer


def _decide_in_any_case(webhook: Webhook, pages: Pages) -> Decision:
    try:
        return decide(webhook, pages)
    except Exception as error:  # noqa: BLE001 - a fault of ours must not lose what a citizen wrote
        log.error(  # noqa: TRY400 - a traceback would carry the citizen's words; the record keeps them for the repair
            "webhook.normalisation_failed", error=type(error).__name__, place=_place_of(error)
        )
        return record_as(webhook, "event.normalisation_failed")


def _span(decision: Decision, delivery: Delivery) -> AbstractContextManager[None]:
    """The first step of a message's story."""
    return tracing_of("intake").span(
        "intake keeps the webhook",
        decision.outgoing[0].event.correlation_id,
        kind=SpanKind.SERVER,
        started_ns=time.time_ns() - int((time.monotonic() - delivery.began_at) * 1e9),
        attributes={"disposition": decision.disposition.value, "code": decision.code},
    )


def _place_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _tell(delivery: Delivery, decision: Decision, answer: Answer, kept_in: str, timestamp_source: str) -> None:
    seconds = time.monotonic() - delivery.began_at
    ACK_SECONDS.labels(kept_in).observe(seconds)
    WEBHOOKS.labels(decision.disposition, answer.code).inc()
    EVENTS.labels(decision.event_name if decision.disposition is not Disposition.UNKNOWN else "other").inc()
    repeat = _repeat_number(delivery.repeat)
    if repeat:
        REPEATS.inc()
    for name in decision.odd_fields:
        ODD_FIELDS.labels(name).inc()
    log.info(
        "webhook.accepted" if answer.status == 200 else "webhook.not_kept",
        code=answer.code,
        reason=decision.code,
        disposition=decision.disposition.value,
        event_name=_plain(decision.event_name),
        event_id=decision.outgoing[0].event.event_id,
        events=len(decision.outgoing),
        oa_id=_plain(decision.oa_id),
        user_id=_plain(decision.user_id),
        message_id=_plain(decision.message_id),
        kept_in=kept_in,
        repeat=repeat,
        odd_fields=decision.odd_fields,
        timestamp_source=timestamp_source,
        body_bytes=len(delivery.raw),
        milliseconds=round(seconds * 1000, 2),
    )


def _plain(value: str | None) -> str | None:
    """An id or a name as Zalo makes them; anything else a body has in its place may be a person's words."""
    return value if value is None or _PLAIN.fullmatch(value) else "odd"


def _repeat_number(header: bytes) -> int:
    """How often Zalo says it has sent this again; only for the log, never a reason for anything."""
    text = header.strip()
    return int(text) if text.isdigit() and len(text) <= MAX_REPEAT_DIGITS else 0
