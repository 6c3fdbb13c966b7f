"""Custom fields: what a page wants to know about people, and what it knows."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from simulator.answers import Answer, as_object, known_contact, success, words
from simulator.errors import ZaloRefusal
from simulator.messages import text_length
from simulator.world import Page

TEXT_MAX_CHARACTERS = 255
TABLE_MAX_PAIRS = 5
_STANDARD = ("name", "phone", "user_dob", "gender")
_NUMBER = re.compile(r"-?\d+(\.\d{1,3})?")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_PHONE = re.compile(r"\+?\d{8,15}")


def _is_datetime(value: Any) -> bool:
    try:
        datetime.fromisoformat(str(value))
    except ValueError:
        return str(value).isdigit()
    return True


def _is_table(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= TABLE_MAX_PAIRS
        and not any(isinstance(member, dict | list) for member in value.values())
    )


_FITS: dict[str, Callable[[Any], bool]] = {
    "boolean": lambda value: str(value).lower() in {"true", "false"},
    "number": lambda value: not isinstance(value, bool) and _NUMBER.fullmatch(str(value)) is not None,
    "text": lambda value: isinstance(value, str) and text_length(value) <= TEXT_MAX_CHARACTERS,
    "datetime": _is_datetime,
    "table": _is_table,
    "email": lambda value: _EMAIL.fullmatch(str(value)) is not None,
    "phone": lambda value: _PHONE.fullmatch(str(value)) is not None,
    "url": lambda value: str(value).startswith(("https://", "http://")),
}


def fields_of(page: Page) -> Answer:
    """GET /v3.0/oa/userfield/get."""
    return success({"fields": list(page.fields.values()), "total": len(page.fields)})


def create_field(page: Page, body: Any) -> Answer:
    """POST /v3.0/oa/userfield/create {key, name, data_type, description?}."""
    body = as_object(body)
    key, data_type = words(body, "key"), body.get("data_type")
    if key in page.fields or key in _STANDARD:
        raise ZaloRefusal(-201, field="key")
    if data_type not in _FITS:
        raise ZaloRefusal(-201, field="data_type")
    page.fields[key] = {
        "key": key,
        "name": words(body, "name"),
        "data_type": str(data_type),
        "description": str(body.get("description") or ""),
    }
    return success(page.fields[key])


def update_field(page: Page, body: Any) -> Answer:
    """POST /v3.0/oa/userfield/update: name and description; key and type stay for ever."""
    body, field = as_object(body), _existing(page, body)
    if body.get("data_type", field["data_type"]) != field["data_type"]:
        raise ZaloRefusal(-201, field="data_type")
    if "name" in body:
        field["name"] = words(body, "name")
    if "description" in body:
        field["description"] = str(body["description"])
    return success(field)


def delete_field(page: Page, body: Any) -> Answer:
    """POST /v3.0/oa/userfield/delete {key}; the values go too."""
    key = _existing(page, body)["key"]
    del page.fields[key]
    for contact in page.contacts.values():
        contact.custom_info.pop(key, None)
    return success()


def read_info(page: Page, data: dict[str, Any]) -> Answer:
    """GET /v3.0/oa/user/detail/custominfo: everything as strings; `fields_to_export` narrows it."""
    contact = known_contact(page, data)
    wanted = data.get("fields_to_export")
    if isinstance(wanted, str):
        wanted = [name.strip() for name in wanted.split(",")]
    shared = contact.shared_info
    info: dict[str, Any] = {name: shared.get(name, "") for name in _STANDARD}
    info["full_address"] = {name: shared.get(name, "") for name in ("user_city_id", "user_ward_id", "user_address")}
    if isinstance(wanted, list):
        info = {name: value for name, value in info.items() if name in wanted}
    custom = {name: value for name, value in contact.custom_info.items() if not wanted or name in wanted}
    return success({"user_id": contact.user_id, **info, "custom_info": custom})


def write_info(page: Page, body: Any) -> Answer:
    """POST /v3.0/oa/user/update/custominfo: members left out stay as they are."""
    body = as_object(body)
    contact = known_contact(page, body)
    custom, address = body.get("custom_info", {}), body.get("full_address", {})
    if not isinstance(custom, dict) or not isinstance(address, dict):
        raise ZaloRefusal(-201, field="custom_info")
    for key, value in custom.items():
        if key not in page.fields or not _FITS[page.fields[key]["data_type"]](value):
            raise ZaloRefusal(-201, field=key)
    contact.custom_info |= {key: _as_string(value) for key, value in custom.items()}
    contact.shared_info |= {name: str(body[name]) for name in _STANDARD if name in body}
    contact.shared_info |= {name: str(value) for name, value in address.items()}
    return success()


def _as_string(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: str(member) for name, member in value.items()}
    return str(value).lower() if isinstance(value, bool) else str(value)


def _existing(page: Page, body: Any) -> dict[str, str]:
    field = page.fields.get(words(as_object(body), "key"))
    if field is None:
        raise ZaloRefusal(-201, field="key")
    return field
