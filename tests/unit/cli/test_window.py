from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from cli.window import WindowRule, read_window_rule, window_of
from shared.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[3]
RULE = WindowRule(free=timedelta(hours=48), allowed=timedelta(days=7))
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours_ago", "state"),
    [(0, "free"), (47.9, "free"), (48, "paid"), (167.9, "paid"), (168, "closed"), (999, "closed")],
)
def test_the_window_closes_in_two_steps(hours_ago: float, state: str) -> None:
    window = window_of(NOW - timedelta(hours=hours_ago), None, rule=RULE, now=NOW)

    assert window.state == state
    assert (window.ends_at is None) == (state == "closed")


def test_the_end_of_the_free_time_is_told() -> None:
    window = window_of(NOW - timedelta(hours=10), None, rule=RULE, now=NOW)

    assert window.ends_at == NOW + timedelta(hours=38)


def test_without_an_interaction_nothing_is_known() -> None:
    assert window_of(None, None, rule=RULE, now=NOW).state == "unknown"


def test_a_withdrawal_ends_the_window_until_the_citizen_writes_again() -> None:
    yesterday, hour_ago = NOW - timedelta(days=1), NOW - timedelta(hours=1)

    assert window_of(yesterday, hour_ago, rule=RULE, now=NOW).state == "withdrawn"
    assert window_of(hour_ago, yesterday, rule=RULE, now=NOW).state == "free"


def test_the_rule_comes_from_the_dated_data() -> None:
    assert read_window_rule(ROOT / "data", date(2026, 11, 24)) == RULE
    with pytest.raises(ConfigurationError, match=r"windows\.yaml"):
        read_window_rule(ROOT / "data", date(1999, 1, 1))
    with pytest.raises(ConfigurationError, match=r"windows\.yaml"):
        read_window_rule(ROOT / "nowhere", date(2026, 11, 24))
