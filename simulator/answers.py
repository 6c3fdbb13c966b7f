"""What the endpoints of the OA API have in common: the shape of success, and reading people and numbers."""

from __future__ import annotations

from typing import Any

from simulator.errors import ZaloRefusal
from simulator.world import Contact, Page

Answer = dict[str, Any]


def success(data: Any = None) -> Answer:
    """Zalo's positive answer; calls that return nothing have no data member."""
    return {"error": 0, "message": "Success"} if data is None else {"data": data, "error": 0, "message": "Success"}


def as_object(body: Any) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ZaloRefusal: -201 when it is something else.
    """
    if not isinstance(body, dict):
        raise ZaloRefusal(-201, field="body")
    return body


def known_contact(page: Page, body: Any) -> Contact:
    """The person whom `user_id` names; a number is read like a string.

    Raises:
        ZaloRefusal: -201 when it is no id, -213 when the page never met that person.
    """
    user_id = body.get("user_id") if isinstance(body, dict) else None
    if isinstance(user_id, int):
        user_id = str(user_id)
    if not isinstance(user_id, str) or not user_id.isascii() or not user_id.isdigit():
        raise ZaloRefusal(-201, field="user_id")
    contact = page.contacts.get(user_id)
    if contact is None or not (contact.follows or contact.last_interaction_ms):
        raise ZaloRefusal(-213)
    return contact


def number(data: dict[str, Any], name: str, default: int, maximum: int) -> int:
    """A whole number from 0 to `maximum`; digits in a string are read too.

    Raises:
        ZaloRefusal: -201 when it is neither.
    """
    value = data.get(name, default)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or not 0 <= value <= maximum:
        raise ZaloRefusal(-201, field=name)
    return value


def words(body: dict[str, Any], name: str) -> str:
    """A string that is not empty.

    Raises:
        ZaloRefusal: -201 when it is missing.
    """
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ZaloRefusal(-201, field=name)
    return value
