"""Reads the delivery rules from `data/delivery/*.yaml`."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.notifier.domain.outcomes import ErrorClass, ErrorRule
from services.notifier.domain.rules import CodeRules, DeliveryRules, ErrorTable, LookUpRule, RetrySchedule, WindowRule
from shared.errors import ConfigurationError
from shared.events import ReasonCode

M = TypeVar("M", bound=BaseModel)
NEEDED_SCHEDULES = frozenset({"not_sent", "no_token"})


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Rule(_Row):
    error_class: ErrorClass = Field(alias="class")
    reason: ReasonCode
    retry: str | None = None

    def rule(self) -> ErrorRule:
        return ErrorRule(self.error_class, self.reason, self.retry)


class _CodeRow(_Rule):
    text: dict[str, _Rule] = Field(default_factory=dict)


class _ErrorsFile(_Row):
    codes: dict[int, _CodeRow]
    business_codes: dict[int, _CodeRow]
    http_statuses: dict[int, _Rule]


class _ScheduleRow(_Row):
    waits_seconds: tuple[float, ...] = ()
    give_up_after_seconds: float | None = None
    until_local_hour: int | None = Field(default=None, ge=0, le=23)


class _LookUpRow(_Row):
    after_seconds: float = Field(ge=0)
    absent_after_seconds: float = Field(gt=0)
    retry_within_seconds: float = Field(ge=0)

    def rule(self) -> LookUpRule:
        return LookUpRule(
            timedelta(seconds=self.after_seconds),
            timedelta(seconds=self.absent_after_seconds),
            timedelta(seconds=self.retry_within_seconds),
        )


class _LookUpRows(_Row):
    reply: _LookUpRow
    copy_: _LookUpRow = Field(alias="copy")


class _RetriesFile(_Row):
    schedules: dict[str, _ScheduleRow]
    uncertain_checks_seconds: tuple[float, ...] = Field(min_length=1)
    look_up: _LookUpRows


class _WindowRow(_Row):
    valid_from: date
    free_hours: float
    allowed_hours: float
    source: str


class _WindowsFile(_Row):
    consultation: tuple[_WindowRow, ...] = Field(min_length=1)


def load_delivery_rules(data_dir: Path) -> DeliveryRules:
    """Read and check all rules.

    Raises:
        ConfigurationError: a file is missing or wrong; the text says where.
    """
    folder = data_dir / "delivery"
    errors = read_rules(folder / "zalo_errors.yaml", _ErrorsFile)
    retries = read_rules(folder / "retries.yaml", _RetriesFile)
    windows = read_rules(folder / "windows.yaml", _WindowsFile)
    statuses = {status: row.rule() for status, row in errors.http_statuses.items()}
    table, business_table = (
        ErrorTable(
            codes={
                code: CodeRules(row.rule(), {word: rule.rule() for word, rule in row.text.items()})
                for code, row in rows.items()
            },
            http_statuses=statuses,
        )
        for rows in (errors.codes, errors.business_codes)
    )
    known = [*table.codes.values(), *business_table.codes.values()]
    used = {rule.schedule for rules in known for rule in (rules.usual, *rules.by_text.values())}
    used |= {rule.schedule for rule in statuses.values()}
    if missing := sorted({name for name in used | NEEDED_SCHEDULES if name is not None} - set(retries.schedules)):
        raise ConfigurationError(f"{folder}/retries.yaml lacks the schedules {', '.join(missing)}")
    return DeliveryRules(
        errors=table,
        business_errors=business_table,
        schedules={
            name: RetrySchedule(
                row.waits_seconds,
                None if row.give_up_after_seconds is None else timedelta(seconds=row.give_up_after_seconds),
                row.until_local_hour,
            )
            for name, row in retries.schedules.items()
        },
        uncertain_checks=tuple(timedelta(seconds=wait) for wait in retries.uncertain_checks_seconds),
        reply_look_up=retries.look_up.reply.rule(),
        copy_look_up=retries.look_up.copy_.rule(),
        windows=tuple(
            WindowRule(row.valid_from, timedelta(hours=row.free_hours), timedelta(hours=row.allowed_hours))
            for row in sorted(windows.consultation, key=lambda row: row.valid_from)
        ),
    )


def read_rules(file: Path, model: type[M]) -> M:
    """Read and check one file of rules.

    Raises:
        ConfigurationError: it is missing or wrong; the text says where.
    """
    try:
        content: Any = yaml.safe_load(file.read_text("utf-8"))
        return model.model_validate(content)
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigurationError(f"{file}: {error}") from error


class _Topic(BaseModel):
    slug: str


class _Topics(BaseModel):
    topics: tuple[_Topic, ...]


def load_topics(data_dir: Path) -> frozenset[str]:
    """The subjects that broadcasts can have.

    Raises:
        ConfigurationError: `broadcasts/choices.yaml` is missing or wrong.
    """
    return frozenset(topic.slug for topic in read_rules(data_dir / "broadcasts" / "choices.yaml", _Topics).topics)
