"""Reads Zalo's JSON: lenient where real bodies vary, strict for ids. Every function here is total."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import from_json

from services.intake.errors import NotUnderstood
from shared.events import Coordinates

MAX_DEPTH = 50
MAX_WHOLE_NUMBER = 2**53

_PROVIDER_ID = re.compile(r"[A-Za-z0-9_.\-]{1,128}")
_USER_ID = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_DIGITS = re.compile(r"-?[0-9]{1,20}")


def parse_object(raw: bytes) -> dict[str, Any]:
    """Parse a body: UTF-8 JSON without NaN, lone surrogates or bottomless nesting.

    Raises:
        NotUnderstood: `body.not_json`, `body.too_deep` or `body.not_an_object`.
    """
    try:
        body = from_json(raw, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        reason = "body.too_deep" if "recursion limit" in str(error) else "body.not_json"
        raise NotUnderstood(reason) from None  # the parser's error would carry the content into the logs
    if not isinstance(body, dict):
        raise NotUnderstood("body.not_an_object")
    if _deeper_than(body, MAX_DEPTH):
        raise NotUnderstood("body.too_deep")
    return body


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterator[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (one for one in inner if isinstance(one, dict | list))


def at(body: Any, path: str) -> Any:
    """The member at a dotted path, or None."""
    for name in path.split("."):
        if not isinstance(body, Mapping):
            return None
        body = body.get(name)
    return body


def as_text(value: Any) -> str | None:
    """A string; a number becomes its digits, anything else None."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**30:
        return str(value)
    return None


def as_whole_number(value: Any) -> int | None:
    """A whole number of sane size, from a number or from digits."""
    if isinstance(value, str):
        text = value.strip()
        value = int(text) if _DIGITS.fullmatch(text) else None
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) <= MAX_WHOLE_NUMBER else None


def as_real_number(value: Any) -> float | None:
    """A finite number, from a number or from its text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value[:64] if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_plain(value: Any) -> str | int | float | bool | None:
    """A value fit for an event's details: a bounded scalar; a list of strings is joined; anything else None."""
    if isinstance(value, list):
        value = "; ".join(item for item in value[:50] if isinstance(item, str))
    if isinstance(value, str):
        return value[:1_000]
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= MAX_WHOLE_NUMBER else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None


def required_id(value: Any, *, missing: str) -> str:
    """An id of Zalo.

    Raises:
        NotUnderstood: `missing` where there is none; `event.bad_id` where it is no short plain token.
    """
    if value is None or value == "":
        raise NotUnderstood(missing)
    if not isinstance(value, str) or not _PROVIDER_ID.fullmatch(value):
        raise NotUnderstood("event.bad_id")
    return value


def required_user_id(value: Any, *, missing: str) -> str:
    """A citizen's id.

    Raises:
        NotUnderstood: `missing` where there is none; `event.bad_id` where it is no short plain token.
    """
    identifier = required_id(value, missing=missing)
    if not _USER_ID.fullmatch(identifier):
        raise NotUnderstood("event.bad_id")
    return identifier


def is_user_id(value: Any) -> bool:
    """Whether it has the form of a citizen's id."""
    return isinstance(value, str) and bool(_USER_ID.fullmatch(value))


def is_id(value: Any) -> bool:
    """Whether it has the form of an id."""
    return isinstance(value, str) and bool(_PROVIDER_ID.fullmatch(value))


def as_coordinates(value: Any) -> Coordinates | None:
    """A point; Zalo sends both numbers as strings."""
    latitude = as_real_number(_first(value, "latitude", "lat"))
    longitude = as_real_number(_first(value, "longitude", "long", "lng"))
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return None
    return Coordinates(latitude=latitude, longitude=longitude)


def _first(value: Any, *names: str) -> Any:
    return next((member for name in names if (member := at(value, name)) is not None), None)
