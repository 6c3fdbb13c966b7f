"""Events with every field that a test is not about already filled."""

from datetime import UTC, datetime
from typing import Any

from shared.events import (
    CitizenChanged,
    CitizenMessageReceived,
    DeliveryReported,
    Event,
    OfficerActed,
    ReplyContent,
    ReplyRequested,
    TemplateDelivered,
    WebhookRecorded,
)
from shared.ids import deterministic_id

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
PAGE, OA_ID = "tan-chanh-hiep", "4000000000000000008"


def _common(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    event_id = deterministic_id(name, repr(sorted(changes.items(), key=lambda item: item[0])))
    return {"event_id": event_id, "occurred_at": NOW, "correlation_id": event_id}


def _of_citizen(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    return {**_common(name, changes), "page": PAGE, "oa_id": OA_ID, "user_id": "2000000000000000001"}


def a_message(**changes: Any) -> CitizenMessageReceived:
    """A citizen's text message."""
    filled = {
        **_of_citizen("message", changes),
        "message_id": deterministic_id("msg_id", repr(changes))[:20],
        "kind": "text",
        "text": "làm căn cước cần giấy tờ gì vậy",
        "sent_at": NOW,
        "received_at": NOW,
    }
    return CitizenMessageReceived(**{**filled, **changes})


def a_template_delivery(**changes: Any) -> TemplateDelivered:
    """A receipt of a template that was sent by phone number."""
    filled = {
        "event_id": deterministic_id("delivery", repr(sorted(changes.items()))),
        "correlation_id": "c" * 32,
        "occurred_at": NOW,
        "page": PAGE,
        "oa_id": OA_ID,
        "message_id": "m1",
        "delivered_at": NOW,
    }
    return TemplateDelivered(**{**filled, **changes})


def a_report(**changes: Any) -> DeliveryReported:
    """Zalo's echo of a message that a page sent."""
    filled = {**_of_citizen("report", changes), "report": "echo", "message_ids": ("m1",), "reported_at": NOW}
    return DeliveryReported(**{**filled, **changes})


def a_change(**changes: Any) -> CitizenChanged:
    """A citizen follows a page."""
    filled = {**_of_citizen("change", changes), "change": "followed", "changed_at": NOW}
    return CitizenChanged(**{**filled, **changes})


def a_record(**changes: Any) -> WebhookRecorded:
    """A webhook that led to nothing."""
    filled = {**_common("record", changes), "reason": "event.unknown", "raw_base64": "e30=", "received_at": NOW}
    return WebhookRecorded(**{**filled, **changes})


def a_reply(**changes: Any) -> ReplyRequested:
    """An automatic answer that is asked for."""
    filled = {
        **_of_citizen("reply", changes),
        "origin": "automatic",
        "template": "procedure.can_cuoc",
        "content": ReplyContent(text="Mang theo giấy tờ tùy thân."),
    }
    return ReplyRequested(**{**filled, **changes})


def an_officer_reply(**changes: Any) -> OfficerActed:
    """An officer's answer."""
    filled = {
        **_of_citizen("officer", changes),
        "case_code": "Q12-261124-0042",
        "action": "reply",
        "officer": "Nguyễn Văn An",
        "text": "Mời bác đến trụ sở.",
    }
    return OfficerActed(**{**filled, **changes})


def one_of_each() -> list[Event]:
    """One event of every kind."""
    return [a_message(), a_report(), a_change(), a_record(), a_reply(), an_officer_reply()]
