"""From the verified body of a Zalo webhook to our events: decides, and never raises for what the body holds."""

import base64
import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, get_args

from services.intake.channels.zalo import reading
from services.intake.channels.zalo.catalogue import (
    CATALOGUE,
    TEMPLATE_DELIVERED,
    Change,
    Envelope,
    Message,
    Record,
    Report,
    Rule,
)
from services.intake.domain import Decision, Disposition, Outgoing, believable_time, normalise_text
from services.intake.errors import NotUnderstood
from shared import topics
from shared.events import (
    MAX_TEXT_CHARACTERS,
    Attachment,
    AttachmentKind,
    CitizenChanged,
    CitizenMessageReceived,
    Coordinates,
    DeliveryReported,
    TemplateDelivered,
    WebhookRecorded,
)
from shared.ids import deterministic_id, text_digest
from shared.zalo_config import ZaloPage

Pages = Mapping[str, ZaloPage]
"""Our pages by Zalo's id of them."""

CONSOLE_MESSAGE_ID = "This is message id"
"""What the developer console puts for a message id into the samples by which it tries an address."""

MAX_ATTACHMENTS = 20
MAX_CITIZENS_OF_ONE_EVENT = 200
MAX_MESSAGES_OF_ONE_REPORT = 1_000

_ATTACHMENT_KINDS: Mapping[str, AttachmentKind] = {kind: kind for kind in get_args(AttachmentKind)}
_ACCEPTED = {
    Disposition.MESSAGE: "message.accepted",
    Disposition.ECHO: "echo.accepted",
    Disposition.RECEIPT: "receipt.accepted",
    Disposition.FOLLOWER_CHANGE: "follower.accepted",
    Disposition.PROFILE_CHANGE: "profile.accepted",
    Disposition.WITHDRAWAL: "withdrawal.accepted",
    Disposition.TAG: "tag.accepted",
    Disposition.CALL: "call.accepted",
    Disposition.FEEDBACK: "feedback.accepted",
}


@dataclass(frozen=True)
class Webhook:
    """A webhook whose signature is right.

    Attributes:
        raw: the body, byte for byte.
        app_id: whose key signed it.
        signed_timestamp: the time stamp that was signed; stands in where the body has none.
        is_template_server: Zalo's template (ZNS) servers sent it.
    """

    raw: bytes
    app_id: str
    signed_timestamp: str
    is_template_server: bool
    received_at: datetime


@dataclass(frozen=True)
class _Subject:
    """Whose event it is and when it happened."""

    page: ZaloPage
    user_id: str
    user_id_by_app: str | None
    occurred_at: datetime


@dataclass
class _Draft:
    """What is known so far of one webhook; filled while reading, so that a record can name it."""

    webhook: Webhook
    body: Mapping[str, Any] = field(default_factory=dict)
    event_name: str | None = None
    oa_id: str | None = None
    user_id: str | None = None
    message_id: str | None = None
    odd: list[str] = field(default_factory=list)


def decide(webhook: Webhook, pages: Pages) -> Decision:
    """Decide what becomes of a webhook. The same body always makes the same event ids."""
    draft = _Draft(webhook)
    disposition = Disposition.UNKNOWN
    try:
        draft.body = reading.parse_object(webhook.raw)
        name = reading.as_text(reading.at(draft.body, "event_name") or reading.at(draft.body, "event"))
        draft.event_name = name[:128] if name else None
        _note_participants(draft, pages)
        if _is_console_check(draft.body):
            return _recorded(draft, Disposition.IGNORED, "console.check")
        rule = CATALOGUE.get(name or "")
        if rule is None:
            return _recorded(draft, Disposition.UNKNOWN, "event.unknown" if name else "event.without_name")
        disposition = rule.disposition
        return _follow(rule, draft, pages)
    except NotUnderstood as problem:
        return _recorded(draft, disposition, problem.reason)


def record_as(webhook: Webhook, reason: str) -> Decision:
    """Keep a webhook as a record without looking into it."""
    return _recorded(_Draft(webhook), Disposition.UNKNOWN, reason)


def _follow(rule: Rule, draft: _Draft, pages: Pages) -> Decision:
    outgoing: tuple[Outgoing, ...]
    disposition, code = rule.disposition, _ACCEPTED.get(rule.disposition, "")
    match rule.becomes:
        case Record(reason):
            return _recorded(draft, rule.disposition, reason)
        case Report("received") if _is_template_receipt(draft):
            draft.user_id = None  # a phone number or its hash, which belongs in no log
            disposition, code = Disposition.RECEIPT, TEMPLATE_DELIVERED
            outgoing = (Outgoing(topics.TEMPLATES_DELIVERED, _template_delivered(draft, pages)),)
        case Message() as message:
            outgoing = (Outgoing(topics.CITIZEN_MESSAGES, _message(message, _citizen(rule, draft, pages), draft)),)
        case Report() as report:
            outgoing = (Outgoing(topics.DELIVERY_REPORTS, _report(report, _citizen(rule, draft, pages), draft)),)
        case Change() as change:
            outgoing = tuple(
                Outgoing(topics.CITIZEN_CHANGES, _changed(change, subject, draft))
                for subject in _citizens(rule, change, draft, pages)
            )
    return Decision(
        disposition,
        code,
        outgoing,
        event_name=draft.event_name,
        oa_id=draft.oa_id,
        user_id=draft.user_id,
        message_id=draft.message_id,
        odd_fields=tuple(draft.odd),
    )


def _is_console_check(body: Mapping[str, Any]) -> bool:
    return CONSOLE_MESSAGE_ID in (reading.at(body, "message.msg_id"), reading.at(body, "msg_id"))


def _is_template_receipt(draft: _Draft) -> bool:
    message = reading.at(draft.body, "message")
    return draft.webhook.is_template_server or any(
        reading.at(message, name) is not None for name in ("delivery_time", "tracking_id")
    )


def _note_participants(draft: _Draft, pages: Pages) -> None:
    """Find the ids for the log and for a record, whatever they look like; decisions use `_citizen`."""
    body = draft.body
    sender, recipient = reading.at(body, "sender.id"), reading.at(body, "recipient.id")
    ids = [value for value in (reading.at(body, "oa_id"), recipient, sender) if isinstance(value, str) and value]
    ours = [value for value in ids if value in pages]
    draft.oa_id = next(iter(ours or ids), None)
    people = (reading.at(body, "user_id"), reading.at(body, "follower.id"), sender, recipient)
    draft.user_id = next((one for one in people if isinstance(one, str) and one and one != draft.oa_id), None)
    draft.oa_id = draft.oa_id[:128] if draft.oa_id else None
    draft.user_id = draft.user_id[:128] if draft.user_id else None


def _page(oa_id: str, draft: _Draft, pages: Pages) -> ZaloPage:
    page = pages.get(oa_id)
    if page is None:
        raise NotUnderstood("page.unknown")
    if page.app_id != draft.webhook.app_id:
        raise NotUnderstood("page.of_another_app")  # the key of one app must not speak for the pages of another
    draft.oa_id = page.oa_id
    return page


def _citizen(rule: Rule, draft: _Draft, pages: Pages) -> _Subject:
    """The citizen of an event that has exactly one."""
    sender, recipient = reading.at(draft.body, "sender.id"), reading.at(draft.body, "recipient.id")
    citizen, oa_id = (sender, recipient) if rule.envelope is Envelope.FROM_CITIZEN else (recipient, sender)
    if isinstance(citizen, str) and citizen in pages and not (isinstance(oa_id, str) and oa_id in pages):
        citizen, oa_id = oa_id, citizen  # sources disagree on the direction of receipts and reactions
    page = _page(reading.required_id(oa_id, missing="event.no_page"), draft, pages)
    return _subject(page, reading.required_user_id(citizen, missing="event.no_citizen"), draft)


def _citizens(rule: Rule, change: Change, draft: _Draft, pages: Pages) -> list[_Subject]:
    """The citizens of a change: one, or each of a list."""
    if rule.envelope is not Envelope.FLAT:
        return [_citizen(rule, draft, pages)]
    body = draft.body
    oa_id = reading.at(body, "oa_id")
    if oa_id is None:  # some captures of these events have the envelope of a message
        oa_id = next((one for one in _participants(body) if isinstance(one, str) and one in pages), None)
    page = _page(reading.required_id(oa_id, missing="event.no_page"), draft, pages)
    named = [
        *(reading.at(body, path) for path in ("user_id", "follower.id", "data.user_id", "message.user_id")),
        *(one for one in _participants(body) if one != page.oa_id),
    ]
    one = next((value for value in named if value is not None and value != ""), None)
    several = [value for path in ("user_ids", "tag.user_ids", "data.user_ids") for value in _list(body, path)]
    ids = dict.fromkeys(
        reading.required_user_id(value, missing=change.no_citizen) for value in ([] if one is None else [one]) + several
    )
    if not ids:
        raise NotUnderstood(change.no_citizen)
    if len(ids) > MAX_CITIZENS_OF_ONE_EVENT:
        raise NotUnderstood("event.too_many_citizens")
    return [_subject(page, user_id, draft, alone=len(ids) == 1) for user_id in ids]


def _participants(body: Mapping[str, Any]) -> tuple[Any, Any]:
    return reading.at(body, "sender.id"), reading.at(body, "recipient.id")


def _list(body: Mapping[str, Any], path: str) -> list[Any]:
    value = reading.at(body, path)
    return value[: MAX_CITIZENS_OF_ONE_EVENT + 1] if isinstance(value, list) else []


def _subject(page: ZaloPage, user_id: str, draft: _Draft, *, alone: bool = True) -> _Subject:
    draft.user_id = user_id
    by_app = reading.at(draft.body, "user_id_by_app") if alone else None
    if by_app not in (None, "") and not reading.is_user_id(by_app):
        draft.odd.append("user_id_by_app")
        by_app = None
    return _Subject(page, user_id, by_app or None, _occurred_at(draft))


def _occurred_at(draft: _Draft) -> datetime:
    milliseconds = reading.as_whole_number(_timestamp(draft))
    moment, is_own = believable_time(milliseconds, draft.webhook.received_at)
    if not is_own and "timestamp" not in draft.odd:
        draft.odd.append("timestamp")
    return moment


def _timestamp(draft: _Draft) -> str:
    value = reading.at(draft.body, "timestamp")
    number = reading.as_whole_number(value)
    written = reading.as_text(value) if number is None else str(number)
    return written.strip() if written and written.strip() else draft.webhook.signed_timestamp


def _message_id(draft: _Draft) -> str:
    written = reading.at(draft.body, "message.msg_id")
    if written is None:
        written = reading.at(draft.body, "message.mid")  # an older spelling
    draft.message_id = reading.required_id(written, missing="event.no_message_id")
    return draft.message_id


def _optional_id(draft: _Draft, path: str) -> str | None:
    value = reading.at(draft.body, path)
    if value is None or value == "":
        return None
    if not reading.is_id(value):
        draft.odd.append(path.rpartition(".")[2])
        return None
    return str(value)


def _common(subject: _Subject, event_id: str) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "correlation_id": event_id,
        "occurred_at": subject.occurred_at,
        "page": subject.page.page,
        "oa_id": subject.page.oa_id,
        "user_id": subject.user_id,
        "user_id_by_app": subject.user_id_by_app,
    }


def _message(rule: Message, subject: _Subject, draft: _Draft) -> CitizenMessageReceived:
    message_id = _message_id(draft)
    text = normalise_text(_text(draft) or "")
    attachments, location = _attachments(rule, draft)
    event_id = deterministic_id("zalo", subject.page.oa_id, str(draft.event_name), message_id)
    return CitizenMessageReceived(
        **_common(subject, event_id),
        message_id=message_id,
        kind=rule.kind,
        text=text.text,
        original_text=text.original,
        text_was_cut=text.was_cut,
        location=location,
        attachments=attachments,
        quoted_message_id=_optional_id(draft, "message.quote_msg_id"),
        conversation_id=_optional_id(draft, "message.conversation_id"),
        sent_at=subject.occurred_at,
        received_at=draft.webhook.received_at,
    )


def _text(draft: _Draft) -> str | None:
    written = reading.at(draft.body, "message.text")
    text = reading.as_text(written)
    if written is not None and text is None:
        draft.odd.append("text")
    return text


def _attachments(rule: Message, draft: _Draft) -> tuple[tuple[Attachment, ...], Coordinates | None]:
    written = reading.at(draft.body, "message.attachments")
    if written is None:
        written = reading.at(draft.body, "attachments")  # seen in hand-made senders
    if isinstance(written, dict):
        written = [written]
    if written is not None and not isinstance(written, list):
        draft.odd.append("attachments")
    listed = written if isinstance(written, list) else []
    if len(listed) > MAX_ATTACHMENTS:
        draft.odd.append("attachments")
    attachments: list[Attachment] = []
    location = reading.as_coordinates(reading.at(draft.body, "message.location"))
    for item in listed[:MAX_ATTACHMENTS]:
        point = reading.as_coordinates(reading.at(item, "payload.coordinates"))
        if point is not None:
            location = location or point
        elif reading.at(item, "type") == "location":
            draft.odd.append("coordinates")
        else:
            attachments.append(_attachment(rule, item, len(attachments), draft))
    return tuple(attachments), location


def _attachment(rule: Message, item: Any, index: int, draft: _Draft) -> Attachment:
    payload = reading.at(item, "payload")
    written = reading.at(item, "type")
    # A business card travels as a link; only the event's name tells.
    known = _ATTACHMENT_KINDS.get(written, "other") if isinstance(written, str) else "other"
    size_bytes = reading.as_whole_number(reading.at(payload, "size"))
    return Attachment(
        index=index,
        kind="business_card" if rule.kind == "business_card" else known,
        url=_url(payload, "url", draft),
        thumbnail_url=_url(payload, "thumbnail", draft),
        name=_short_text(payload, "name", 512),
        size_bytes=size_bytes if size_bytes is not None and size_bytes >= 0 else None,
        description=_short_text(payload, "description", MAX_TEXT_CHARACTERS),
    )


def _url(payload: Any, name: str, draft: _Draft) -> str | None:
    written = reading.at(payload, name)
    if written is None or written == "":
        return None
    if not isinstance(written, str) or len(written) > 4_096:
        draft.odd.append(name)
        return None
    return written


def _short_text(payload: Any, name: str, limit: int) -> str | None:
    text = reading.as_text(reading.at(payload, name))
    return normalise_text(text).text[:limit] if text else None


def _report(rule: Report, subject: _Subject, draft: _Draft) -> DeliveryReported:
    reaction = None
    digest = None
    match rule.report:
        case "seen":
            message_ids = _seen_ids(draft)
            parts = (*message_ids, _timestamp(draft))
        case "reacted":
            message_ids = (_message_id(draft),)
            reaction = (reading.as_text(reading.at(draft.body, "message.react_icon")) or "")[:32] or None
            parts = (*message_ids, reaction or "", _timestamp(draft))
        case "echo":
            message_ids = (_message_id(draft),)
            parts = message_ids
            text = _text(draft)
            digest = text_digest(unicodedata.normalize("NFC", text)) if text else None
        case "received":
            message_ids = (_message_id(draft),)
            parts = message_ids
    event_id = deterministic_id("zalo", subject.page.oa_id, str(draft.event_name), subject.user_id, *parts)
    return DeliveryReported(
        **_common(subject, event_id),
        report=rule.report,
        message_ids=message_ids,
        text_sha256=digest,
        admin_id=_optional_id(draft, "sender.admin_id"),
        reaction=reaction,
        reported_at=subject.occurred_at,
    )


def _template_delivered(draft: _Draft, pages: Pages) -> TemplateDelivered:
    if draft.oa_id is None or draft.oa_id not in pages:
        draft.oa_id = None  # it may be the phone number
        raise NotUnderstood("page.unknown")
    page = _page(draft.oa_id, draft, pages)
    message_id, tracking_id = _message_id(draft), _optional_id(draft, "message.tracking_id")
    occurred_at = _occurred_at(draft)
    written = reading.as_whole_number(reading.at(draft.body, "message.delivery_time"))
    delivered_at, is_own = believable_time(written, draft.webhook.received_at)
    event_id = deterministic_id("zalo", page.oa_id, str(draft.event_name), "template", message_id)
    return TemplateDelivered(
        event_id=event_id,
        correlation_id=event_id,
        occurred_at=occurred_at,
        page=page.page,
        oa_id=page.oa_id,
        message_id=message_id,
        tracking_id=tracking_id,
        delivered_at=delivered_at if is_own else occurred_at,
    )


def _seen_ids(draft: _Draft) -> tuple[str, ...]:
    written = reading.at(draft.body, "message.msg_ids")
    if not isinstance(written, list):
        written = [reading.at(draft.body, "message.msg_id") if written is None else written]
    if len(written) > MAX_MESSAGES_OF_ONE_REPORT:
        draft.odd.append("msg_ids")
    ids = tuple(
        dict.fromkeys(
            reading.required_id(one, missing="event.no_message_id") for one in written[:MAX_MESSAGES_OF_ONE_REPORT]
        )
    )
    if not ids:
        raise NotUnderstood("event.no_message_id")
    draft.message_id = ids[0]
    return ids


def _changed(rule: Change, subject: _Subject, draft: _Draft) -> CitizenChanged:
    details = {}
    for name, paths in rule.details.items():
        written = next((value for path in paths if (value := reading.at(draft.body, path)) is not None), None)
        plain = reading.as_plain(written)
        if plain is not None:
            details[name] = str(plain) if name == "phone" else plain
        elif written is not None:
            draft.odd.append(name)
    talked = (reading.as_whole_number(reading.at(draft.body, "talk_time")) or 0) > 0
    # Two changes of one citizen within a millisecond differ in what they are about.
    about = [str(details[key]) for key in ("call_id", "message_id", "tag") if key in details]
    event_id = deterministic_id(
        "zalo", subject.page.oa_id, str(draft.event_name), _timestamp(draft), subject.user_id, *about
    )
    return CitizenChanged(
        **_common(subject, event_id),
        change=rule.change,
        details=details,
        is_interaction=rule.interaction == "always" or (rule.interaction == "if_talked" and talked),
        changed_at=subject.occurred_at,
    )


def _recorded(draft: _Draft, disposition: Disposition, reason: str) -> Decision:
    webhook = draft.webhook
    event_id = deterministic_id("zalo", "record", hashlib.sha256(webhook.raw).hexdigest())
    event = WebhookRecorded(
        event_id=event_id,
        correlation_id=event_id,
        occurred_at=webhook.received_at,
        reason=reason,
        event_name=draft.event_name,
        oa_id=draft.oa_id,
        user_id=draft.user_id,
        raw_base64=base64.b64encode(webhook.raw).decode(),
        received_at=webhook.received_at,
    )
    return Decision(
        disposition,
        reason,
        (Outgoing(topics.WEBHOOK_RECORDS, event),),
        event_name=draft.event_name,
        oa_id=draft.oa_id,
        user_id=draft.user_id,
        message_id=draft.message_id,
        odd_fields=tuple(draft.odd),
    )
