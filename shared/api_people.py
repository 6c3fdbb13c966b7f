"""People of the notifier's HTTP API: a fresh token, and the row of the secret file that knows it by its digest."""

import hashlib
import secrets
from collections.abc import Sequence
from typing import Any

DEMO_PEOPLE = {"an": ("Nguyễn Văn An", ("publisher",)), "binh": ("Trần Thị Bình", ("approver", "operator"))}
"""Two persons of the demonstration, since whoever writes a broadcast cannot approve it: name and roles."""


def new_person(
    person: str, roles: Sequence[str], *, name: str | None = None, units: Sequence[str] = ()
) -> tuple[str, dict[str, Any]]:
    """Make a token of 256 random bits.

    Returns:
        The token, to be given to the person and kept nowhere else; and the row, which is worthless without it.
    """
    token = secrets.token_urlsafe(32)
    row: dict[str, Any] = {"person": person, "name": name or person, "roles": list(roles)}
    if units:
        row["units"] = list(units)
    return token, row | {"token_sha256": hashlib.sha256(token.encode()).hexdigest()}
