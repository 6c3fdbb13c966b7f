"""The directory: units and pages as dated data, read from `data/directory/*.yaml`. It knows facts, no rules.

Units come and go ("11 wards become 5 on 1 July") and a code can survive with another meaning, so nothing is asked of
the directory without a day: `directory.as_of(day)`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import ConfigurationError
from shared.events import Coordinates, Slug

M = TypeVar("M", bound=BaseModel)


class _Dated(BaseModel):
    """Valid from `valid_from` (included; None is always) to `valid_to` (excluded; None is open)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    valid_from: date | None = None
    valid_to: date | None = None

    def is_valid(self, day: date) -> bool:
        """Whether it holds on this day."""
        return (self.valid_from is None or self.valid_from <= day) and (self.valid_to is None or day < self.valid_to)


class UnitCode(_Dated):
    """An official code; ambiguous without its dates."""

    code: str


class Unit(_Dated):
    """A ward police, a professional team or the district.

    Attributes:
        slug: the stable key.
        role: a `ward` has a territory, a `team` a subject; the `district` takes all the rest.
        succeeded_by: the unit that took over, once `valid_to` is set.
        anchors: points inside the territory; several are better than one.
        subjects: procedure subtopics a team answers for.
        places: keys of the gazetteer that a unit serves whatever ward they lie in: what a split gave it.
    """

    slug: Slug
    name: str
    name_en: str
    role: Literal["ward", "team", "district"]
    codes: tuple[UnitCode, ...] = ()
    anchors: tuple[Coordinates, ...] = ()
    subjects: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    phone: str | None = None
    succeeded_by: Slug | None = None


class PageOwnership(_Dated):
    """Which unit owns a page, and when."""

    page: Slug
    unit: Slug


@dataclass(frozen=True)
class DirectoryView:
    """The directory on one day."""

    day: date
    units: dict[str, Unit]
    unit_by_page: dict[str, str]

    def unit_of_page(self, page: str) -> Unit | None:
        """The unit that owns a page on this day."""
        slug = self.unit_by_page.get(page)
        return None if slug is None else self.units.get(slug)

    def wards(self) -> list[Unit]:
        """The units that answer for a territory."""
        return [unit for unit in self.units.values() if unit.role == "ward"]

    def district(self) -> Unit:
        """The unit that takes what belongs to nobody else."""
        return next(unit for unit in self.units.values() if unit.role == "district")


@dataclass(frozen=True)
class Directory:
    """All units and page ownerships, of all times; a unit with a new name or territory is another line of its slug."""

    units: tuple[Unit, ...]
    pages: tuple[PageOwnership, ...]

    def as_of(self, day: date) -> DirectoryView:
        """The directory on a day in the time zone of the units (UTC+7)."""
        return DirectoryView(
            day=day,
            units={unit.slug: unit for unit in self.units if unit.is_valid(day)},
            unit_by_page={owned.page: owned.unit for owned in self.pages if owned.is_valid(day)},
        )

    def successors(self) -> dict[str, str]:
        """Who took over from each unit that ended."""
        return {unit.slug: unit.succeeded_by for unit in self.units if unit.succeeded_by}

    def heirs(self, view: DirectoryView) -> dict[str, str]:
        """Who answers on that day for each unit that has ended, over as many mergers as there were."""
        successors, heirs = self.successors(), dict[str, str]()
        for slug in successors.keys() - view.units.keys():
            line = list(line_of(slug, successors))
            heirs[slug] = next((heir for heir in line if heir in view.units), line[-1])
        return heirs


def line_of(slug: str, successors: Mapping[str, str]) -> Iterator[str]:
    """A unit and all that took over after it, one after the other, each once."""
    passed: set[str] = set()
    current: str | None = slug
    while current is not None and current not in passed:
        yield current
        passed.add(current)
        current = successors.get(current)


class UnitChange(BaseModel):
    """A merger, split, rename or move of pages on one day: `directory/changes/*.yaml`.

    Attributes:
        name: stable; names the change in the journal.
        day: from which it holds.
        opens: new units, or a further line of a slug that goes on with another name or territory.
        closes: units that end, each with the one that takes over.
        pages: pages that move; the pages of a unit that ends follow it by themselves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Slug
    day: date
    opens: tuple[Unit, ...] = ()
    closes: dict[Slug, Slug] = {}
    pages: dict[Slug, Slug] = {}


class ChangeRefused(ConfigurationError):
    """A change that would leave something without a unit; the text begins with a stable code."""


def with_change(directory: Directory, change: UnitChange) -> Directory:
    """The directory after a change.

    Raises:
        ChangeRefused: it closes what is not there, or somebody would be left without a unit.
    """
    before = directory.as_of(change.day)
    opened = {unit.slug for unit in change.opens}
    _refuse_unless("unit_unknown", set(change.closes) <= set(before.units), change)
    _refuse_unless("district_closed", before.district().slug not in change.closes, change)
    _refuse_unless("opened_and_closed", not opened & set(change.closes), change)
    _refuse_unless("page_unknown", set(change.pages) <= set(before.unit_by_page), change)
    remaining = (set(before.units) | opened) - set(change.closes)
    _refuse_unless("successor_unknown", set(change.closes.values()) <= remaining, change)
    _refuse_unless("owner_unknown", set(change.pages.values()) <= remaining, change)
    ending = {slug: change.closes.get(slug) for slug in (*change.closes, *(opened & set(before.units)))}
    units = [
        unit.model_copy(update={"valid_to": change.day, "succeeded_by": ending[unit.slug]})
        if unit.slug in ending and unit.is_valid(change.day)
        else unit
        for unit in directory.units
    ]
    units += [unit.model_copy(update={"valid_from": change.day}) for unit in change.opens]
    moves = {page: change.closes[owner] for page, owner in before.unit_by_page.items() if owner in change.closes}
    moves |= change.pages
    pages = [
        owned.model_copy(update={"valid_to": change.day})
        if owned.page in moves and owned.is_valid(change.day)
        else owned
        for owned in directory.pages
    ]
    pages += [PageOwnership(page=page, unit=unit, valid_from=change.day) for page, unit in moves.items()]
    return Directory(tuple(units), tuple(pages))


def _refuse_unless(code: str, holds: bool, change: UnitChange) -> None:
    if not holds:
        raise ChangeRefused(f"change.{code}: {change.name} of {change.day}")


def load_change(file: Path) -> UnitChange:
    """Read a change.

    Raises:
        ConfigurationError: the file is missing or wrong.
    """
    try:
        return UnitChange.model_validate(yaml.safe_load(file.read_text("utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigurationError(f"{file}: {error}") from error


def load_changes(data_dir: Path) -> list[UnitChange]:
    """The changes in `directory/changes/`, in the order of their days.

    Raises:
        ConfigurationError: a file is wrong.
    """
    files = (data_dir / "directory" / "changes").glob("*.yaml")
    return sorted((load_change(file) for file in files), key=lambda change: (change.day, change.name))


def load_directory(data_dir: Path, *, changes: Sequence[UnitChange] | None = None) -> Directory:
    """Read and check `directory/units.yaml` and `directory/pages.yaml`, with the changes since.

    Args:
        data_dir: the data folder.
        changes: in order; those of `directory/changes/` if not given.

    Raises:
        ConfigurationError: a file is missing or wrong; the text says where.
    """
    units = _load(data_dir / "directory" / "units.yaml", "units", Unit)
    pages = _load(data_dir / "directory" / "pages.yaml", "pages", PageOwnership)
    slugs = {unit.slug for unit in units}
    if strangers := sorted({owned.unit for owned in pages} - slugs):
        raise ConfigurationError(f"pages.yaml names units that do not exist: {', '.join(strangers)}")
    if not any(unit.role == "district" for unit in units):
        raise ConfigurationError("units.yaml has no unit with role district: nobody would take what is unassigned")
    directory = Directory(tuple(units), tuple(pages))
    for change in load_changes(data_dir) if changes is None else changes:
        directory = with_change(directory, change)
    return directory


def _load(file: Path, key: str, model: type[M]) -> list[M]:
    try:
        rows = yaml.safe_load(file.read_text("utf-8"))[key]
        return [model.model_validate(row) for row in rows]
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValidationError) as error:
        raise ConfigurationError(f"{file}: {error}") from error
