from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli.commands.tokens import as_page_token

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def document(**changes: Any) -> dict[str, Any]:
    filled = {
        "_id": "8",
        "page": "tan-chanh-hiep",
        "state": "ok",
        "reason": None,
        "generation": 3,
        "expires_at": NOW + timedelta(hours=20),
        "refreshed_at": NOW - timedelta(hours=5),
    }
    return {**filled, **changes}


def test_a_page_that_works_has_no_alarm() -> None:
    token = as_page_token(document(), NOW)

    assert token.alarm is None
    assert token.refresh_expires_at == NOW - timedelta(hours=5) + timedelta(days=90)


@pytest.mark.parametrize(
    ("changes", "alarm"),
    [
        ({"state": "refused", "reason": "token.refresh_refused"}, "token.refresh_refused"),
        ({"state": "refresh_unknown", "reason": None}, "token.refresh_unknown"),
        ({"expires_at": NOW - timedelta(seconds=1)}, "token.access_expired"),
        ({"refreshed_at": NOW - timedelta(days=80)}, "token.refresh_ends_soon"),
        ({"generation": 0, "state": "new", "expires_at": datetime(1970, 1, 1, tzinfo=UTC)}, None),
    ],
)
def test_what_ends_a_pages_speech_raises_an_alarm(changes: dict[str, Any], alarm: str | None) -> None:
    assert as_page_token(document(**changes), NOW).alarm == alarm
