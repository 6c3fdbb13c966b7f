"""The router's reading and assignment without a broker or a database: the same code over lines of a file."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from services.router.adapters.data_files import load_service_levels, load_understanding, load_unit_resolver
from services.router.domain.assignment import Assignment
from services.router.domain.layers import LayeredUnderstanding
from services.router.domain.understanding import MessageContext, Reading
from services.router.domain.values import immutable
from shared.directory import Directory, DirectoryView, load_change, load_changes, load_directory
from shared.errors import HubError
from shared.events import MAX_TEXT_CHARACTERS, Coordinates, Slug

BEFORE_THE_MERGER = datetime(2025, 6, 30, 5, tzinfo=UTC)
"""The day of the directory for a message without a time."""

MERGER = "merger-2025.yaml"

NO_PAGE = "district"

BATCH = 200
"""Lines that are read at once: as many as the router takes by default."""


class LineInvalid(HubError):
    """A line is no message; the others are read all the same."""

    code = "line.invalid"


class _Place(BaseModel):
    model_config = ConfigDict(frozen=True)

    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)


class Line(BaseModel):
    """One message of a file; further fields are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str | int
    text: str
    page: Slug | None = None
    location: _Place | None = None
    home_ward: Slug | None = None
    sent_at: AwareDatetime | None = None


@immutable
class _Message:
    """A line as a message."""

    page: str
    text: str
    location: Coordinates | None


@immutable
class Understood:
    """What the router makes of a line.

    Attributes:
        ward: in whose territory the matter lies, also where a team answers; None outside the area, where nobody can
            tell, and for allegations against staff.
    """

    reading: Reading
    assignment: Assignment
    ward: str | None


def directory_with_the_merger(data_dir: Path) -> Directory:
    """The directory with all changes and the merger of 2025, whether that is applied here yet or only planned.

    Raises:
        ConfigurationError: a file is missing or wrong.
    """
    merger = load_change(data_dir / "directory" / "plans" / MERGER)
    changes = load_changes(data_dir)
    if merger.name not in {change.name for change in changes}:
        changes = sorted([*changes, merger], key=lambda change: (change.day, change.name))
    return load_directory(data_dir, changes=changes)


class OfflineRouter:
    """Understanding and units as the router wires them."""

    def __init__(
        self,
        data_dir: Path,
        model: str | None = None,
        understanding: LayeredUnderstanding | None = None,
        *,
        is_merged: bool = True,
    ) -> None:
        """Load the data files.

        Args:
            data_dir: the data folder.
            model: name of a model; the current one if not given.
            understanding: reads instead of the model.
            is_merged: with the merger of 2025 even where it is not applied; False is the directory of the services.

        Raises:
            ConfigurationError: one is missing or wrong.
        """
        self._directory = directory_with_the_merger(data_dir) if is_merged else load_directory(data_dir)
        self._view = lru_cache(maxsize=64)(self._directory.as_of)
        self._levels = load_service_levels(data_dir)
        self._units = load_unit_resolver(data_dir, self._directory)
        self.understanding = understanding or load_understanding(data_dir, model)

    def understand(self, line: Line) -> Understood:
        """Read one message and find its unit."""
        return self.understand_all([line])[0]

    def understand_all(self, lines: Sequence[Line]) -> list[Understood]:
        """Read many messages and find their units: the same as one by one, for less."""
        return [one for start in range(0, len(lines), BATCH) for one in self._understand(lines[start : start + BATCH])]

    def _understand(self, lines: Sequence[Line]) -> list[Understood]:
        messages = [_message(line) for line in lines]
        views = [self._view(self._levels.local_day(line.sent_at or BEFORE_THE_MERGER)) for line in lines]
        asked = []
        for line, message, view in zip(lines, messages, views, strict=True):
            page_unit = view.unit_of_page(message.page)
            context = MessageContext("text", line.sent_at or BEFORE_THE_MERGER, page_unit.slug if page_unit else None)
            asked.append((message.text, context))
        readings = self.understanding.read_all(asked)
        return [self._place(*one) for one in zip(lines, messages, readings, views, strict=True)]

    def _place(self, line: Line, message: _Message, reading: Reading, view: DirectoryView) -> Understood:
        territory = assignment = self._units(message, reading, view, home_ward=line.home_ward)
        if assignment.basis == "team":  # the team answers its subject; the place still lies in a ward
            territory = self._units(replace(message, page=NO_PAGE), reading, view, home_ward=line.home_ward)
        unit = view.units.get(territory.unit)
        return Understood(reading, assignment, unit.slug if unit and unit.role == "ward" else None)


def _message(line: Line) -> _Message:
    location = Coordinates(latitude=line.location.lat, longitude=line.location.lon) if line.location else None
    return _Message(line.page or NO_PAGE, line.text[:MAX_TEXT_CHARACTERS], location)


def parse(raw: bytes) -> Line:
    """One line of a file.

    Raises:
        LineInvalid: it is no JSON object with an id and a text, or a field is wrong.
    """
    try:
        return Line.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise LineInvalid(f"{where}: {first['msg']}" if where else first["msg"]) from error


def as_line(line: Line, understood: Understood) -> dict[str, Any]:
    """The answer to one line."""
    reading, assignment = understood.reading, understood.assignment
    reasons = [*reading.reasons, *(f"word:{phrase.removeprefix('=')}" for phrase in reading.evidence[:4])]
    return {
        "id": line.id,
        "category": reading.category,
        "subtopic": reading.subtopic,
        "urgency": reading.urgency,
        "ward": understood.ward,
        "confidence": reading.confidence,
        "needs_person": reading.needs_person,
        "reasons": [*reasons, *assignment.reasons, *assignment.evidence[:4], *reading.doubts, *assignment.doubts],
    }
