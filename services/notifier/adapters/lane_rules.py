"""Reads the lane rules from `data/delivery/lanes.yaml`."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.notifier.adapters.delivery_rules import read_rules
from services.notifier.domain.lanes import ArticleRule, Cost, Hours, Lane, LaneBook, LaneRule, Policy

Hour = Annotated[int, Field(ge=0, le=24)]
Count = Annotated[int, Field(ge=0)]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    valid_from: date
    valid_to: date | None = None
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be later than valid_from")
        return self


class _LaneRow(_Row):
    lane: Lane
    window: Literal["free", "allowed"] | None = None
    hours: tuple[Hour, Hour] | None = None
    cost: Cost


class _ArticleRow(_Row):
    per_follower_a_day: Count
    per_page_a_month: dict[str, Count | None]


class _PolicyRow(_Row):
    a_day: Count
    a_week: Count
    quiet_hours: tuple[Hour, Hour]


class _LanesFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    lanes: tuple[_LaneRow, ...] = Field(min_length=1)
    article: tuple[_ArticleRow, ...] = Field(min_length=1)
    packages: dict[str, str]
    article_targets: dict[str, Count]
    policy: tuple[_PolicyRow, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _packages_are_known(self) -> Self:
        known = {package for row in self.article for package in row.per_page_a_month}
        if "default" not in self.packages:
            raise ValueError("packages needs a default")
        if strangers := sorted(set(self.packages.values()) - known):
            raise ValueError(f"packages names packages without a number: {', '.join(strangers)}")
        return self


def load_lane_book(data_dir: Path) -> LaneBook:
    """Read and check the lane rules.

    Raises:
        ConfigurationError: the file is missing or wrong; the text says where.
    """
    rows = read_rules(data_dir / "delivery" / "lanes.yaml", _LanesFile)
    return LaneBook(
        lanes=tuple(
            LaneRule(
                row.lane, row.valid_from, row.valid_to, row.window, Hours(*row.hours) if row.hours else None, row.cost
            )
            for row in rows.lanes
        ),
        articles=tuple(
            ArticleRule(row.valid_from, row.valid_to, row.per_follower_a_day, row.per_page_a_month)
            for row in rows.article
        ),
        policies=tuple(
            Policy(row.valid_from, row.valid_to, row.a_day, row.a_week, Hours(*row.quiet_hours))
            for row in sorted(rows.policy, key=lambda row: row.valid_from)
        ),
        packages=rows.packages,
        article_targets=rows.article_targets,
    )
