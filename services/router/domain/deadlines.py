"""Priorities and deadlines: service levels as data, counted in minutes or in working time.

Source: domain page, section 5 (service levels, marked [P]); `data/service_levels.yaml`.
"""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone

from pydantic import BaseModel, ConfigDict, Field

from services.router.domain.understanding import Category, Urgency
from shared.case_codes import CodePrefix, case_code


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WorkingTime(_Data):
    """When offices work.

    Attributes:
        days: ISO weekdays, Monday is 1.
        spans: start and end of each part of a day.
        holidays: days off.
    """

    utc_offset_hours: int
    days: tuple[int, ...]
    spans: tuple[tuple[time, time], ...]
    holidays: tuple[date, ...]

    @property
    def zone(self) -> timezone:
        """The time zone of the units."""
        return timezone(timedelta(hours=self.utc_offset_hours))

    def is_working_day(self, day: date) -> bool:
        """Whether offices are open on this day."""
        return day.isoweekday() in self.days and day not in self.holidays

    def _spans_from(self, start: datetime) -> Iterator[tuple[datetime, datetime]]:
        day = start.date()
        while True:
            if self.is_working_day(day):
                for opens, closes in self.spans:
                    begins = datetime.combine(day, opens, self.zone)
                    ends = datetime.combine(day, closes, self.zone)
                    if ends > start:
                        yield max(begins, start), ends
            day += timedelta(days=1)

    def add_working(self, start: datetime, amount: timedelta) -> datetime:
        """The moment when so much working time has passed."""
        left = amount
        for begins, ends in self._spans_from(start.astimezone(self.zone)):
            if ends - begins >= left:
                return begins + left
            left -= ends - begins
        raise AssertionError("there is always another working day")

    def end_of_working_day(self, start: datetime, days: int) -> datetime:
        """The end of the n-th working day after the day of `start`."""
        day = start.astimezone(self.zone).date()
        while days > 0:
            day += timedelta(days=1)
            days -= self.is_working_day(day)
        return datetime.combine(day, self.spans[-1][1], self.zone)


class ServiceLevel(_Data):
    """What a kind of matter may wait. Exactly one of the three times is set.

    Attributes:
        category: or `unknown` for what no rule could read.
        urgency: None is any.
        topic: None is any; a finer key of the reading.
        priority: 0 is first in every queue.
    """

    key: str
    category: Category
    urgency: Urgency | None = None
    topic: str | None = None
    priority: int = Field(ge=0, le=9)
    minutes: int | None = None
    working_hours: int | None = None
    working_days: int | None = None

    def due_at(self, start: datetime, working_time: WorkingTime) -> datetime:
        """The deadline of a matter that arrived at `start`."""
        if self.minutes is not None:
            return start + timedelta(minutes=self.minutes)
        if self.working_hours is not None:
            return working_time.add_working(start, timedelta(hours=self.working_hours))
        return working_time.end_of_working_day(start, self.working_days or 1)


class Windows(_Data):
    """How long things belong together.

    Attributes:
        acknowledgement_minutes: the same acknowledgement is given once in this time.
        greeting_hours: the same for a greeting.
        follow_up_hours: a message without a matter of its own joins the latest open case that is younger.
        answered_closes_after_hours: an automatically answered case closes itself after this silence.
        reopen_hours: so long after that a request for a person reopens it.
        repeated_question: from this many of the same question on, a person looks too.
    """

    acknowledgement_minutes: int
    greeting_hours: int
    follow_up_hours: int
    answered_closes_after_hours: int
    reopen_hours: int
    repeated_question: int


class ServiceLevels(_Data):
    """`data/service_levels.yaml`."""

    case_code_prefix: CodePrefix
    working_time: WorkingTime
    windows: Windows
    levels: tuple[ServiceLevel, ...]

    def level_of(self, category: Category, urgency: Urgency, topics: tuple[str, ...]) -> ServiceLevel:
        """The first level that fits; the data ends with one that fits everything of a category."""
        return next(
            level
            for level in self.levels
            if level.category == category
            and level.urgency in {None, urgency}
            and (level.topic is None or level.topic in topics)
        )

    def local_day(self, moment: datetime) -> date:
        """The calendar day of the units at a moment."""
        return moment.astimezone(self.working_time.zone).date()

    def case_code(self, day: date, number: int) -> str:
        """The code people quote, such as Q12-261124-0042."""
        return case_code(self.case_code_prefix, day, number)
