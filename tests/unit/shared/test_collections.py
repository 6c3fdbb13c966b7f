"""Which language a person chose, over all their contacts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.collections import chosen_language

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def a_contact(withdrawn: int | None = None, **chosen: int) -> dict[str, Any]:
    """Minutes after noon at which something happened on a page."""
    languages = {
        language: {"is_on": True, "at": NOON + timedelta(minutes=minutes), "by": "a"}
        for language, minutes in chosen.items()
    }
    withdrawn_at = None if withdrawn is None else NOON + timedelta(minutes=withdrawn)
    return {"choices": {"language": languages}, "withdrawn_at": withdrawn_at}


@pytest.mark.parametrize(
    ("contacts", "language"),
    [
        ([], None),
        ([{}], None),
        ([{"choices": {"broadcasts": {}}}], None),
        ([a_contact(vi=1, en=2)], "en"),
        ([a_contact(vi=1), a_contact(en=2)], "en"),
        ([a_contact(en=1), a_contact(vi=2)], "vi"),
        ([a_contact(withdrawn=3), a_contact(en=2)], None),
        ([a_contact(withdrawn=3), a_contact(vi=2, en=4)], "en"),
    ],
)
def test_the_last_choice_on_any_page_holds_until_a_withdrawal_on_any(
    contacts: list[dict[str, Any]], language: str | None
) -> None:
    assert chosen_language(contacts) == language
