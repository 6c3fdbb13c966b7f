"""An event as Zalo would send it: body, signature, headers."""

import hashlib
import json
from typing import Any

MESSAGE_EVENTS = "user_send_"
FOLLOWER_EVENTS = frozenset({"follow", "unfollow"})
RECEIPT_EVENTS = frozenset({"user_received_message", "user_seen_message"})
ECHO_EVENTS = "oa_send_"

DEMO_PICTURE = "https://example.invalid/picture.jpg"


def event_body(
    event_name: str, *, app_id: str, oa_id: str, user_id: str, text: str, message_id: str, timestamp_ms: int
) -> bytes:
    """Build the body of an event in the shape its family has; a name we do not know gets that of a message."""
    common: dict[str, Any] = {"app_id": app_id, "event_name": event_name, "timestamp": str(timestamp_ms)}
    by_app = f"by-app-{user_id}"[:64]
    to_page = {"sender": {"id": user_id}, "recipient": {"id": oa_id}, "user_id_by_app": by_app}
    from_page = {"sender": {"id": oa_id}, "recipient": {"id": user_id}, "user_id_by_app": by_app}
    body: dict[str, Any]
    if event_name in FOLLOWER_EVENTS:
        body = {"oa_id": oa_id, "follower": {"id": user_id}, "user_id_by_app": by_app, "source": "oa_profile"}
    elif event_name == "user_received_message":
        body = {**from_page, "message": {"msg_id": message_id}}
    elif event_name == "user_seen_message":
        body = {**from_page, "message": {"msg_ids": [message_id]}}
    elif event_name.startswith(ECHO_EVENTS):
        body = {**from_page, "message": {"msg_id": message_id, "text": text}}
    else:
        message: dict[str, Any] = {"msg_id": message_id, "text": text}
        if attachment := _attachment(event_name.removeprefix(MESSAGE_EVENTS)):
            message["attachments"] = [attachment]
        body = {**to_page, "message": message}
    return json.dumps({**common, **body}, ensure_ascii=False, separators=(",", ":")).encode()


def _attachment(kind: str) -> dict[str, Any] | None:
    match kind:
        case "image" | "gif":
            return {"type": kind, "payload": {"thumbnail": DEMO_PICTURE, "url": DEMO_PICTURE}}
        case "location":
            return {"type": kind, "payload": {"coordinates": {"latitude": "10.8630", "longitude": "106.6300"}}}
        case "sticker":
            return {"type": kind, "payload": {"id": "1", "url": DEMO_PICTURE}}
        case "link" | "audio" | "video":
            return {"type": kind, "payload": {"url": DEMO_PICTURE, "thumbnail": DEMO_PICTURE, "description": ""}}
        case _:
            return None


def sign(body: bytes, *, app_id: str, timestamp: str, secret_key: str) -> str:
    """The signature header: SHA-256 over app id, body, time stamp and the page key, simply joined; no HMAC."""
    return "mac=" + hashlib.sha256(app_id.encode() + body + timestamp.encode() + secret_key.encode()).hexdigest()


def read_addressing(body: bytes) -> tuple[str | None, str | None, str | None]:
    """App id, page id and time stamp of a body, where it can be read."""
    try:
        content = json.loads(body)
    except ValueError:
        return None, None, None
    if not isinstance(content, dict):
        return None, None, None
    sides = [content.get("oa_id")]
    sides += [side.get("id") for name in ("recipient", "sender") if isinstance(side := content.get(name), dict)]
    page = next((str(side) for side in sides if side is not None), None)
    app_id, timestamp = content.get("app_id"), content.get("timestamp")
    return (
        None if app_id is None else str(app_id),
        page,
        None if timestamp is None else str(timestamp),
    )
