"""Consultation messages (v3 message/cs): pure rules from a request body and a state to what is delivered."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from simulator.errors import ZaloRefusal
from simulator.uploads import Upload
from simulator.world import PERSON_SWITCHES, Contact

TEXT_MAX_CHARACTERS = 2_000
BUTTON_TITLE_MAX_CHARACTERS = 100
BUTTONS_MAX = 5
HOUR_MS = 3_600_000
FREE_WINDOW_MS = 48 * HOUR_MS
WINDOW_MS = 7 * 24 * HOUR_MS

QuotaType = Literal["reply", "welcome_msg", "sub_quota"]
UploadLookup = Callable[[str], Upload | None]

_BUTTON_TYPES = frozenset(
    {"oa.open.url", "oa.query.show", "oa.query.hide", "oa.open.phone", "oa.open.sms"},
)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that Zalo understood: what the phone shows and what the echo repeats."""

    user_id: str
    event_name: str
    text: str = ""
    quote_message_id: str = ""
    attachments: list[dict[str, Any]] = field(default_factory=list)
    buttons: list[dict[str, Any]] = field(default_factory=list)


def read_message(body: Any, find_upload: UploadLookup, *, app_id: str, media_url: str, now_ms: int) -> Outgoing:
    """Understand the body of POST /v3.0/oa/message/cs.

    Args:
        body: the parsed JSON.
        find_upload: the uploads, by attachment id or file token.
        app_id: the calling app; uploads of other apps are unknown to it.
        media_url: address under which uploaded files are served, with a closing slash.
        now_ms: the simulated time, for the seven days of an upload.

    Raises:
        ZaloRefusal: -201, -210, -233 or -100.
    """
    user_id, message = _envelope(body)
    text = _text(message)
    quote = message.get("quote_message_id") or ""
    if not isinstance(quote, str):
        raise ZaloRefusal(-201, field="quote_message_id")
    attachment = message.get("attachment")
    if attachment is None:
        if not text:
            raise ZaloRefusal(-201, field="text")
        return Outgoing(user_id, "oa_send_text", text, quote)
    if not isinstance(attachment, dict) or not isinstance(payload := attachment.get("payload"), dict):
        raise ZaloRefusal(-201, field="attachment")

    uploads = _Uploads(find_upload, app_id, media_url, now_ms)
    match attachment.get("type"), payload.get("template_type"):
        case "file", _:
            return Outgoing(user_id, "oa_send_file", text, quote, [uploads.file(payload)])
        case "template", "media":
            kind, shown = uploads.media(payload)
            return Outgoing(user_id, f"oa_send_{kind}", text, quote, [shown])
        case "template", "request_user_info":
            return Outgoing(user_id, "oa_send_template", text, quote, [_request_user_info(payload)])
        case "template", None | "button":
            if not text:
                raise ZaloRefusal(-201, field="text")
            return Outgoing(user_id, "oa_send_text", text, quote, [], _buttons(payload))
        case _:
            raise ZaloRefusal(-233)


def admit(contact: Contact | None, now_ms: int) -> QuotaType:
    """Decide whether a person may be written to now, and at whose cost.

    Raises:
        ZaloRefusal: the person's own switches, -213 for strangers, -230 and -232 for the window.
    """
    if contact is None:
        raise ZaloRefusal(-213)
    if code := PERSON_SWITCHES[contact.switch]:
        raise ZaloRefusal(code)
    if contact.left or not (contact.follows or contact.last_interaction_ms):
        raise ZaloRefusal(-213)
    if not contact.last_interaction_ms:
        raise ZaloRefusal(-232)
    silent_ms = now_ms - contact.last_interaction_ms
    if silent_ms > WINDOW_MS:
        raise ZaloRefusal(-230)
    if silent_ms > FREE_WINDOW_MS:
        return "sub_quota"
    return "reply" if contact.wrote else "welcome_msg"


def text_length(text: str) -> int:
    """Characters as Zalo counts them: after NFC, so decomposed Vietnamese is not punished."""
    return len(text) if text.isascii() else len(unicodedata.normalize("NFC", text))


def _envelope(body: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(body, dict):
        raise ZaloRefusal(-201, field="body")
    recipient, message = body.get("recipient"), body.get("message")
    user_id = recipient.get("user_id") if isinstance(recipient, dict) else None
    if isinstance(user_id, int):
        user_id = str(user_id)
    if not isinstance(user_id, str) or not user_id.isascii() or not user_id.isdigit():
        raise ZaloRefusal(-201, field="user_id")
    if not isinstance(message, dict):
        raise ZaloRefusal(-201, field="message")
    return user_id, message


def _text(message: dict[str, Any]) -> str:
    text = message.get("text")
    if text is None:
        return ""
    if not isinstance(text, str):
        raise ZaloRefusal(-201, field="text")
    if text_length(text) > TEXT_MAX_CHARACTERS:
        raise ZaloRefusal(-210)
    return text


def _one_element(payload: dict[str, Any]) -> dict[str, Any]:
    elements = payload.get("elements")
    if not isinstance(elements, list) or len(elements) != 1 or not isinstance(elements[0], dict):
        raise ZaloRefusal(-201, field="elements")
    return elements[0]


def _request_user_info(payload: dict[str, Any]) -> dict[str, Any]:
    element = _one_element(payload)
    for name in ("title", "subtitle", "image_url"):
        if not isinstance(element.get(name), str) or not element[name]:
            raise ZaloRefusal(-201, field=name)
    shown = {name: element[name] for name in ("title", "subtitle", "image_url")}
    return {"type": "template", "payload": {"template_type": "request_user_info", **shown}}


def _buttons(payload: dict[str, Any]) -> list[dict[str, Any]]:
    buttons = payload.get("buttons")
    if not isinstance(buttons, list) or not buttons:
        raise ZaloRefusal(-201, field="buttons")
    if len(buttons) > BUTTONS_MAX:
        raise ZaloRefusal(-210)
    return [_button(button) for button in buttons]


def _button(button: Any) -> dict[str, Any]:
    if not isinstance(button, dict) or button.get("type") not in _BUTTON_TYPES:
        raise ZaloRefusal(-201, field="buttons.type")
    title, payload = button.get("title"), button.get("payload")
    if not isinstance(title, str) or not title:
        raise ZaloRefusal(-201, field="buttons.title")
    if text_length(title) > BUTTON_TITLE_MAX_CHARACTERS:
        raise ZaloRefusal(-210)
    if not _button_payload_is_valid(button["type"], payload):
        raise ZaloRefusal(-201, field="buttons.payload")
    return {"title": title, "type": button["type"], "payload": payload}


def _button_payload_is_valid(button_type: str, payload: Any) -> bool:
    if button_type.startswith("oa.query."):
        return isinstance(payload, str) and payload != ""
    if not isinstance(payload, dict):
        return False
    if button_type == "oa.open.url":
        return _is_web_address(payload.get("url"))
    return isinstance(payload.get("phone_code"), str) and payload["phone_code"] != ""


def _is_web_address(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("https://", "http://"))


@dataclass(frozen=True, slots=True)
class _Uploads:
    """Turns references to uploads into what the recipient sees."""

    find: UploadLookup
    app_id: str
    media_url: str
    now_ms: int

    def file(self, payload: dict[str, Any]) -> dict[str, Any]:
        upload = self._get(payload.get("token"), {"file"}, "token")
        return {
            "type": "file",
            "payload": {
                "url": self.media_url + upload.media,
                "size": str(upload.size),
                "name": upload.name,
                "checksum": upload.md5,
                "type": upload.extension,
            },
        }

    def media(self, payload: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        element = _one_element(payload)
        match element.get("media_type"):
            case "image":
                return "image", self._image(element)
            case "gif":
                for name in ("width", "height"):
                    if not str(element.get(name, "")).isdigit():
                        raise ZaloRefusal(-201, field=name)
                url = self.media_url + self._get(element.get("attachment_id"), {"gif"}, "attachment_id").media
                return "gif", {"type": "gif", "payload": {"thumbnail": url, "url": url}}
            case "sticker":
                sticker = element.get("attachment_id")
                if not isinstance(sticker, str) or not sticker:
                    raise ZaloRefusal(-201, field="attachment_id")
                return "sticker", {"type": "sticker", "payload": {"id": sticker, "url": ""}}
            case _:
                raise ZaloRefusal(-233)

    def _image(self, element: dict[str, Any]) -> dict[str, Any]:
        if "attachment_id" in element:
            url = self.media_url + self._get(element["attachment_id"], {"image", "gif"}, "attachment_id").media
        elif _is_web_address(element.get("url")):
            url = element["url"]
        else:
            raise ZaloRefusal(-201, field="url")
        return {"type": "image", "payload": {"thumbnail": url, "url": url}}

    def _get(self, handle: Any, kinds: set[str], field_name: str) -> Upload:
        upload = self.find(handle) if isinstance(handle, str) else None
        if upload is None or upload.app_id != self.app_id or upload.kind not in kinds:
            raise ZaloRefusal(-201, field=field_name)
        if upload.expired(self.now_ms):
            raise ZaloRefusal(-100)
        return upload
