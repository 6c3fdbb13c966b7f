"""The rules of delivery as data: error table, retry schedules, windows. Read once by the `delivery_rules` adapter."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone

from services.notifier.domain.outcomes import ErrorRule

VIETNAM = timezone(timedelta(hours=7))


def next_local_hour(at: datetime, hour: int) -> datetime:
    """When this hour begins next in Vietnam; 24 is midnight."""
    local = at.astimezone(VIETNAM)
    same_day = local.replace(hour=hour % 24, minute=0, second=0, microsecond=0)
    return same_day if same_day > local else same_day + timedelta(days=1)


@dataclass(frozen=True)
class CodeRules:
    """What one code means: the usual rule, and others told by a word in Zalo's text."""

    usual: ErrorRule
    by_text: dict[str, ErrorRule] = field(default_factory=dict)


@dataclass(frozen=True)
class ErrorTable:
    """What we do about Zalo's codes and about HTTP statuses."""

    codes: dict[int, CodeRules]
    http_statuses: dict[int, ErrorRule]

    def rule_of(self, code: int, text: str) -> ErrorRule | None:
        """The rule for an error answer; None for a code nobody documented, which proves nothing."""
        rules = self.codes.get(code)
        if rules is None:
            return None
        lowered = text.lower()
        return next((rule for word, rule in rules.by_text.items() if word in lowered), rules.usual)


@dataclass(frozen=True)
class RetrySchedule:
    """When to try again; see `data/delivery/retries.yaml`."""

    waits_seconds: tuple[float, ...] = ()
    give_up_after: timedelta | None = None
    until_local_hour: int | None = None

    def next_at(self, *, failures: int, now: datetime, requested_at: datetime) -> datetime | None:
        """When to try again.

        Args:
            failures: proven failures so far, this one included; from 1.
            now: when the attempt ended.
            requested_at: when the reply was asked for.

        Returns:
            The moment, or None to give up.
        """
        if self.until_local_hour is not None:
            return next_local_hour(now, self.until_local_hour)
        if self.give_up_after is not None:
            if now - requested_at >= self.give_up_after:
                return None
        elif failures > len(self.waits_seconds):
            return None
        return now + timedelta(seconds=self.waits_seconds[min(failures, len(self.waits_seconds)) - 1])


@dataclass(frozen=True)
class WindowRule:
    """How long after a citizen's last act a page may answer, from a day on."""

    valid_from: date
    free: timedelta
    allowed: timedelta


@dataclass(frozen=True)
class LookUpRule:
    """When Zalo's list of a conversation is asked about an uncertain message; see `data/delivery/retries.yaml`.

    Attributes:
        after: since the attempt began; echoes are quicker.
        absent_after: what is not in the list by then was never taken.
        retry_within: since it was first asked for; an absent message that is older fails.
    """

    after: timedelta
    absent_after: timedelta
    retry_within: timedelta


@dataclass(frozen=True)
class DeliveryRules:
    """All rules together.

    Attributes:
        errors: of the OA API.
        business_errors: of the host that sends templates by phone number.
    """

    errors: ErrorTable
    business_errors: ErrorTable
    schedules: dict[str, RetrySchedule]
    uncertain_checks: tuple[timedelta, ...]
    reply_look_up: LookUpRule
    copy_look_up: LookUpRule
    windows: tuple[WindowRule, ...]

    def window_on(self, day: date) -> WindowRule:
        """The window rule that holds on a day; before the first one, the first one."""
        valid = [rule for rule in self.windows if rule.valid_from <= day]
        return max(valid, key=lambda rule: rule.valid_from) if valid else self.windows[0]
