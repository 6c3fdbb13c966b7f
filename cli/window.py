"""Whether a citizen can still be written to, as far as can be known before sending."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import yaml

from shared.errors import ConfigurationError


@dataclass(frozen=True)
class WindowRule:
    """Zalo's consultation window.

    Attributes:
        free: after the citizen's last interaction, messages cost nothing for so long.
        allowed: and after so long they are refused.
    """

    free: timedelta
    allowed: timedelta


@dataclass(frozen=True)
class Window:
    """What to tell an officer before sending.

    Attributes:
        state: `free`, `paid`, `closed`, `withdrawn` or `unknown`.
        ends_at: when the state changes for the worse.
    """

    state: str
    ends_at: datetime | None
    last_interaction_at: datetime | None


def read_window_rule(data_dir: Path, day: date) -> WindowRule:
    """The rule that holds on a day.

    Raises:
        ConfigurationError: the file is missing or has no rule for the day.
    """
    file = data_dir / "delivery" / "windows.yaml"
    try:
        rows = yaml.safe_load(file.read_text("utf-8"))["consultation"]
        valid = [row for row in rows if row["valid_from"] <= day]
        newest = max(valid, key=lambda row: row["valid_from"])
        return WindowRule(timedelta(hours=newest["free_hours"]), timedelta(hours=newest["allowed_hours"]))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{file}: no consultation window for {day} ({type(error).__name__})") from error


def window_of(
    last_interaction_at: datetime | None, withdrawn_at: datetime | None, *, rule: WindowRule, now: datetime
) -> Window:
    """Judge; the notifier asks the same again at the moment of sending, and its answer counts."""
    if last_interaction_at is None:
        return Window("unknown", None, None)
    if withdrawn_at is not None and withdrawn_at >= last_interaction_at:
        return Window("withdrawn", None, last_interaction_at)
    age = now - last_interaction_at
    if age >= rule.allowed:
        return Window("closed", None, last_interaction_at)
    if age >= rule.free:
        return Window("paid", last_interaction_at + rule.allowed, last_interaction_at)
    return Window("free", last_interaction_at + rule.free, last_interaction_at)
