"""Bodies of webhook events: one envelope for each direction, and a template for every event of Zalo's catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from simulator.world import Contact, Page

_DATA = Path(__file__).parent / "data"

# Attachment type of a person's message -> event name and how the wire calls the type.
USER_MESSAGE_EVENTS: dict[str, tuple[str, str]] = {
    "image": ("user_send_image", "image"),
    "gif": ("user_send_gif", "gif"),
    "link": ("user_send_link", "link"),
    "audio": ("user_send_audio", "audio"),
    "video": ("user_send_video", "video"),
    "sticker": ("user_send_sticker", "sticker"),
    "location": ("user_send_location", "location"),
    "file": ("user_send_file", "file"),
    "business_card": ("user_send_business_card", "link"),
}


def from_user(page: Page, contact: Contact, event_name: str, at_ms: int, **body: Any) -> dict[str, Any]:
    """A person did something to a page."""
    return {
        "app_id": page.app.app_id,
        "user_id_by_app": contact.user_id_by_app,
        "event_name": event_name,
        "timestamp": str(at_ms),
        "sender": {"id": contact.user_id},
        "recipient": {"id": page.oa_id},
        **body,
    }


def from_page(page: Page, contact: Contact, event_name: str, at_ms: int, **body: Any) -> dict[str, Any]:
    """A page did something to a person, or (receipts) the person's phone reports on it in the page's name."""
    return {
        "app_id": page.app.app_id,
        "user_id_by_app": contact.user_id_by_app,
        "event_name": event_name,
        "timestamp": str(at_ms),
        "sender": {"id": page.oa_id},
        "recipient": {"id": contact.user_id},
        **body,
    }


def flat(page: Page, event_name: str, at_ms: int, **body: Any) -> dict[str, Any]:
    """An event about a page without sender and recipient."""
    return {
        "oa_id": page.oa_id,
        **body,
        "event_name": event_name,
        "app_id": page.app.app_id,
        "timestamp": str(at_ms),
    }


def follow_change(page: Page, contact: Contact, *, follows: bool, source: str, at_ms: int) -> dict[str, Any]:
    """A person followed a page or left it."""
    return flat(
        page,
        "follow" if follows else "unfollow",
        at_ms,
        follower={"id": contact.user_id},
        user_id_by_app=contact.user_id_by_app,
        source=source,
    )


def delivered_to_phone(page: Page, phone: str, msg_id: str, tracking_id: str, at_ms: int) -> dict[str, Any]:
    """A template message reached a phone number; the person has no id here."""
    message = {"delivery_time": str(at_ms), "msg_id": msg_id, "tracking_id": tracking_id}
    return {
        "app_id": page.app.app_id,
        "oa_id": page.oa_id,
        "event_name": "user_received_message",
        "timestamp": str(at_ms),
        "sender": {"id": page.oa_id},
        "recipient": {"id": phone},
        "message": message,
    }


def user_message_name(attachments: list[dict[str, Any]]) -> str:
    """The event a person's message becomes, by its first attachment."""
    return USER_MESSAGE_EVENTS[attachments[0]["type"]][0] if attachments else "user_send_text"


def wire_attachment(attachment: dict[str, Any]) -> dict[str, Any]:
    """One attachment as Zalo sends it: coordinates and sizes are strings, a business card is a link."""
    kind, payload = attachment["type"], dict(attachment.get("payload") or {})
    if kind == "location":
        coordinates = payload.get("coordinates") or {}
        payload = {"coordinates": {name: str(coordinates.get(name, "")) for name in ("latitude", "longitude")}}
    elif kind in {"image", "gif", "video"}:
        payload.setdefault("thumbnail", payload.get("url", ""))
    if "size" in payload:
        payload["size"] = str(payload["size"])
    return {"payload": payload, "type": USER_MESSAGE_EVENTS[kind][1]}


@cache
def templates() -> Mapping[str, dict[str, Any]]:
    """Every event of the catalogue: envelope kind and a realistic body with placeholders."""
    document = yaml.safe_load((_DATA / "events.yaml").read_text(encoding="utf-8"))
    return dict(document)


def from_template(
    page: Page, contact: Contact, event_name: str, at_ms: int, *, values: Mapping[str, str], override: Mapping[str, Any]
) -> dict[str, Any]:
    """Fill the template of an event and lay the caller's own members over it.

    An event that the catalogue does not know gets the envelope of a person's message, so that a receiver's handling
    of the unknown can be tried.
    """
    template = templates().get(event_name, {"envelope": "user", "body": {}})
    filled: dict[str, Any] = _fill(template.get("body") or {}, values)
    match template["envelope"]:
        case "user":
            event = from_user(page, contact, event_name, at_ms, **filled)
        case "page":
            event = from_page(page, contact, event_name, at_ms, **filled)
        case "group_user":
            event = from_user(page, contact, event_name, at_ms, **filled, oa_id=page.oa_id)
            event["recipient"] = {"id": values["group_id"]}
        case "group_page":
            event = from_page(page, contact, event_name, at_ms, **filled, oa_id=page.oa_id)
            event["recipient"] = {"id": values["group_id"]}
        case _:
            event = flat(page, event_name, at_ms, **filled)
    merged: dict[str, Any] = _merge(event, override)
    return merged


def _fill(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _fill(member, values) for key, member in value.items()}
    if isinstance(value, list):
        return [_fill(member, values) for member in value]
    if isinstance(value, str) and value.startswith("$"):
        return values.get(value[1:], value)
    return value


def _merge(below: Any, above: Any) -> Any:
    """Members of `above` win; objects are merged, null removes a member."""
    if not isinstance(below, dict) or not isinstance(above, Mapping):
        return above
    merged = dict(below)
    for key, member in above.items():
        if member is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged[key], member) if key in merged else member
    return merged
