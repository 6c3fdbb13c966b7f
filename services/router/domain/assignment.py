"""Which unit answers, each decision with its evidence and its doubts.

The words come first: a place that the citizen names. Without one, a location they shared, if it lies in the area; then
the page they chose; and if all that names no ward, the district. (A known home ward will stand before the district.)
The district also takes what is said against staff, and a team keeps its own subjects on its own page. What a text
orders the hub to do is content and moves nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from services.router.domain.places import Mention, PlaceFinder, by_ward
from services.router.domain.text import fold
from services.router.domain.understanding import INCIDENTS, Reading
from shared.directory import DirectoryView, Unit
from shared.events import CitizenMessageReceived, Coordinates

BASIS_STRENGTH = {"officer": 6, "staff": 5, "team": 4, "place": 3, "location": 2, "page": 1, "district": 0}
"""A later message moves a case only with a stronger or an equally explicit basis."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who answers, and why.

    Attributes:
        unit: slug of the responsible unit.
        basis: key of BASIS_STRENGTH.
        reasons: reason codes.
        evidence: keys of our gazetteer, distances; no words of the text.
        doubts: reason codes of what a person should check.
        is_outside: the place lies outside the area: the citizen is told where to go.
    """

    unit: str
    basis: str
    reasons: tuple[str, ...]
    evidence: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    is_outside: bool = False


class ResponsibleUnit(Protocol):
    """Chooses the unit. Pure."""

    def __call__(self, message: CitizenMessageReceived, reading: Reading, view: DirectoryView) -> Assignment:
        """Say who answers the message by the directory of its day."""
        ...


@dataclass(frozen=True, slots=True)
class NewWard:
    """A ward of 2025: its name may mean any of its old wards from `works_from` on."""

    named_like: str
    old_wards: tuple[str, ...]
    works_from: date


MAX_KILOMETRES_FROM_ANCHOR = 4.0
"""No point of the area lies farther from its ward's anchor; what does is somewhere else."""

BORDER_KILOMETRES = 0.4
"""Two anchors as near as this to each other in distance: the point may lie on either side."""


class UnitResolver:
    """The rule engine of `ResponsibleUnit`."""

    def __init__(
        self, finder: PlaceFinder, *, successors: Mapping[str, str], new_wards: Sequence[NewWard] = ()
    ) -> None:
        self._finder = finder
        self._successors = successors
        self._new_wards = {new.named_like: new for new in new_wards}

    def __call__(self, message: CitizenMessageReceived, reading: Reading, view: DirectoryView) -> Assignment:
        """Decide; see the module."""
        page_unit = view.unit_of_page(message.page)
        if reading.accuses_staff:
            return Assignment(view.district().slug, "staff", ("unit.staff_allegation",))
        if page_unit and page_unit.role == "team" and _is_subject(page_unit, reading):
            return Assignment(page_unit.slug, "team", ("unit.team_subject",), (f"team:{page_unit.slug}",))
        mentions = self._finder.find(fold(message.text)) if message.text else []
        found = self._by_text(mentions, reading, view)
        if found is None and message.location is not None:
            found = _by_location(message.location, view)
        if found is None:
            found = _by_page(page_unit, view)
            if message.location is not None:
                found = _with(found, doubts=("unit.location_unusable",))
        named = tuple(f"place:{m.key}" for m in mentions if not m.decides)
        return _with(found, evidence=named)

    def _by_text(self, mentions: Sequence[Mention], reading: Reading, view: DirectoryView) -> Assignment | None:
        candidates = by_ward(m for m in mentions if m.role != "origin" or len(mentions) == 1)
        if len(candidates) > 1:
            candidates = self._narrow(candidates, reading, view)
        if len(candidates) == 1:
            ward, named = next(iter(candidates.items()))
            return self._ward_assignment(ward, named, view)
        if len(candidates) > 1:
            keys = tuple(f"place:{m.key}" for named in candidates.values() for m in named)
            return Assignment(view.district().slug, "place", ("unit.two_places",), keys, ("unit.which_place",))
        if any(m.kind == "area" or (m.wards and not m.decides) for m in mentions):
            return None  # the area is named, only not the ward
        outside = [m for m in mentions if _is_outside(m, reading)]
        if outside:
            evidence = tuple(f"outside:{m.key}" for m in outside)
            return Assignment(view.district().slug, "place", ("unit.place_outside",), evidence, is_outside=True)
        return None

    def _narrow(
        self, candidates: Mapping[str, list[Mention]], reading: Reading, view: DirectoryView
    ) -> Mapping[str, list[Mention]]:
        """Of several wards keep those that the text means: the more exact one, then by what each is to the writer."""
        exact = {ward: named for ward, named in candidates.items() if any(m.kind != "ward" for m in named)}
        loose = set(candidates) - set(exact)
        if len(exact) == 1 and all(self._covers(name, next(iter(exact)), view) for name in loose):
            return exact
        wanted = ("incident", "unsaid") if reading.category in INCIDENTS else ("residence", "incident")
        for role in (wanted[0], *wanted[1:]):
            kept = {ward: named for ward, named in candidates.items() if any(m.role == role for m in named)}
            if len(kept) == 1:
                return kept
        kept = {ward: named for ward, named in candidates.items() if any(m.role != "elsewhere" for m in named)}
        return kept if len(kept) == 1 else candidates

    def _covers(self, named: str, exact: str, view: DirectoryView) -> bool:
        new = self._new_wards.get(named)
        return new is not None and exact in new.old_wards and view.day >= new.works_from

    def _ward_assignment(self, ward: str, named: Sequence[Mention], view: DirectoryView) -> Assignment:
        doubts = []
        if all(not m.is_sure for m in named):
            doubts.append("unit.gazetteer_unverified")
        new = self._new_wards.get(ward)
        only_by_name = all(m.kind == "ward" for m in named)
        if only_by_name and new and view.day >= new.works_from and len(new.old_wards) > 1:
            doubts.append("unit.name_covers_more")
        unit = self._serving(ward, view)
        evidence = tuple(f"place:{m.key}" for m in named)
        if unit is None:
            return Assignment(view.district().slug, "place", ("unit.without_successor",), evidence, tuple(doubts))
        return Assignment(unit, "place", ("unit.place_in_text",), evidence, tuple(doubts))

    def _serving(self, slug: str, view: DirectoryView) -> str | None:
        """The unit itself on that day, or the one that took over."""
        seen: set[str] = set()
        current: str | None = slug
        while current is not None and current not in view.units and current not in seen:
            seen.add(current)
            current = self._successors.get(current)
        return current if current in view.units else None


def _is_outside(mention: Mention, reading: Reading) -> bool:
    if mention.role in {"origin", "elsewhere"}:
        return False
    if mention.kind == "outside":
        return True
    # A far province is where somebody comes from, unless something happened there.
    return (
        mention.kind == "far"
        and mention.role in {"incident", "residence"}
        and (reading.category in INCIDENTS or mention.role == "residence")
    )


def _is_subject(team: Unit, reading: Reading) -> bool:
    return reading.category == "procedure" and any(
        key in team.subjects for key in (reading.subtopic, *reading.topics) if key
    )


def _by_page(page_unit: Unit | None, view: DirectoryView) -> Assignment:
    district = view.district().slug
    if page_unit is None:
        return Assignment(district, "district", ("unit.page_unknown",), doubts=("unit.page_unknown",))
    if page_unit.role == "ward":
        return Assignment(page_unit.slug, "page", ("unit.page",), (f"page:{page_unit.slug}",))
    if page_unit.role == "team":
        return Assignment(district, "district", ("unit.not_the_teams_subject",), (f"page:{page_unit.slug}",))
    return Assignment(district, "district", ("unit.no_place",))


def kilometres(one: Coordinates, other: Coordinates) -> float:
    """Distance of two near points; a flat map is exact to a metre over a district."""
    north = (one.latitude - other.latitude) * 110.57
    east = (one.longitude - other.longitude) * 111.32 * math.cos(math.radians((one.latitude + other.latitude) / 2))
    return math.hypot(north, east)


def _by_location(location: Coordinates, view: DirectoryView) -> Assignment | None:
    """The ward with the nearest anchor; None for null island, swapped degrees and far-away points."""
    distances = sorted(
        (min(kilometres(location, anchor) for anchor in ward.anchors), ward.slug)
        for ward in view.wards()
        if ward.anchors
    )
    if not distances or distances[0][0] > MAX_KILOMETRES_FROM_ANCHOR:
        return None
    nearest, slug = distances[0]
    is_border = len(distances) > 1 and distances[1][0] - nearest < BORDER_KILOMETRES
    return Assignment(
        slug,
        "location",
        ("unit.shared_location",),
        (f"anchor:{slug}", f"kilometres:{nearest:.1f}"),
        ("unit.near_border",) if is_border else (),
    )


def _with(found: Assignment, *, evidence: tuple[str, ...] = (), doubts: tuple[str, ...] = ()) -> Assignment:
    if not evidence and not doubts:
        return found
    return Assignment(
        found.unit,
        found.basis,
        found.reasons,
        (*found.evidence, *evidence)[:12],
        (*found.doubts, *doubts),
        found.is_outside,
    )


def failed_assignment(message: CitizenMessageReceived, view: DirectoryView) -> Assignment:
    """What stands in when the map failed: the unit of the page, and a doubt for the person who reads it."""
    return _with(_by_page(view.unit_of_page(message.page), view), doubts=("unit.map_failed",))
