"""Which unit answers, each decision with its evidence and its doubts.

The words come first: a place that the citizen names. Without one, a location they shared, if it lies in the area; then
the page they chose; then the ward they told us to remember; and if all that names no ward, the district. The district
also takes what is said against staff, and a team keeps its own subjects on its own page. What a text orders the hub to
do is content and moves nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Protocol

from services.router.domain.gazetteer import Role
from services.router.domain.places import Mention, PlaceFinder
from services.router.domain.territories import Map
from services.router.domain.text import fold
from services.router.domain.understanding import INCIDENTS, Reading
from services.router.domain.values import immutable
from shared.directory import DirectoryView, Unit, line_of
from shared.events import Coordinates

BASIS_STRENGTH = {
    "officer": 8,
    "staff": 7,
    "team": 6,
    "told": 5,
    "place": 4,
    "location": 3,
    "page": 2,
    "home": 1,
    "district": 0,
}
"""A later message moves a case only with a stronger basis. `told` is the answer to our question."""

MAX_CANDIDATES = 4
"""A question with more buttons than this is no help."""


@immutable
class Assignment:
    """Who answers, and why.

    Attributes:
        unit: slug of the responsible unit.
        basis: key of BASIS_STRENGTH.
        reasons: reason codes.
        evidence: keys of our gazetteer, distances; no words of the text.
        doubts: reason codes of what a person should check.
        is_outside: the place lies outside the area: the citizen is told where to go.
        candidates: units between which only the citizen can choose.
        residence: the ward in which the text says the writer lives.
    """

    unit: str
    basis: str
    reasons: tuple[str, ...]
    evidence: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    is_outside: bool = False
    candidates: tuple[str, ...] = ()
    residence: str | None = None


class Said(Protocol):
    """What of a message may tell whose it is; a `CitizenMessageReceived` is one."""

    @property
    def page(self) -> str:
        """Key of the page it was sent to."""
        ...

    @property
    def text(self) -> str:
        """What was written."""
        ...

    @property
    def location(self) -> Coordinates | None:
        """Where the citizen says they are."""
        ...


class ResponsibleUnit(Protocol):
    """Chooses the unit. Pure."""

    def __call__(
        self,
        message: Said,
        reading: Reading,
        view: DirectoryView,
        *,
        home_ward: str | None = None,
    ) -> Assignment:
        """Say who answers the message by the directory of its day.

        Args:
            message: what was written, where and when.
            reading: what it is about.
            view: the directory of the day on which it was sent.
            home_ward: the ward that the citizen told us to remember.
        """
        ...


@dataclass(frozen=True, slots=True)
class NewWard:
    """A ward of 2025: its name may mean any of its old wards from `works_from` on."""

    named_like: str
    old_wards: tuple[str, ...]
    works_from: date


@immutable
class _Named:
    """A place of the text with the units that serve it on the day."""

    mention: Mention
    units: tuple[str, ...]


_RANKS: Mapping[bool, tuple[Role, ...]] = {
    True: ("incident", "unsaid", "residence", "theirs", "office", "elsewhere", "origin"),
    False: ("residence", "incident", "unsaid", "theirs", "office", "elsewhere", "origin"),
}
"""Which place counts first: of an incident where it happened, else where the person lives."""


class UnitResolver:
    """The rule engine of `ResponsibleUnit`."""

    def __init__(
        self,
        finder: PlaceFinder,
        *,
        successors: Mapping[str, str],
        new_wards: Sequence[NewWard] = (),
        territory: Map | None = None,
    ) -> None:
        self._finder = finder
        self._successors = successors
        self._new_wards = {new.named_like: new for new in new_wards}
        self._map = territory

    def __call__(
        self,
        message: Said,
        reading: Reading,
        view: DirectoryView,
        *,
        home_ward: str | None = None,
    ) -> Assignment:
        """Decide; see the module."""
        page_unit = view.unit_of_page(message.page)
        if reading.accuses_staff:
            return Assignment(view.district().slug, "staff", ("unit.staff_allegation",))
        if page_unit and page_unit.role == "team" and _is_subject(page_unit, reading):
            return Assignment(page_unit.slug, "team", ("unit.team_subject",), (f"team:{page_unit.slug}",))
        mentions = self._finder.find(fold(message.text)) if message.text else []
        places = {(mention.key, mention.wards): mention for mention in mentions}
        units = {place: self._serving_all(mention, view) for place, mention in places.items()}
        named = [_Named(mention, units[mention.key, mention.wards]) for mention in mentions]
        located = self._by_location(message, view)
        found = self._by_text(named, reading, view, located)
        if found is None or (_is_weak(found, named) and _knows_better(located, page_unit)):
            weak = found
            found = located or self._without_place(named, page_unit, home_ward, view)
            if weak is not None:
                found = replace(found, doubts=(*found.doubts, "unit.place_is_elsewhere"))
        if message.location is not None and located is None:
            found = replace(found, doubts=(*found.doubts, "unit.location_unusable"))
        return self._complete(found, named)

    # ------------------------------------------------------------------ the text

    def _by_text(
        self, named: Sequence[_Named], reading: Reading, view: DirectoryView, located: Assignment | None
    ) -> Assignment | None:
        if not named:
            return None
        inside = [one for one in named if one.mention.decides and len(one.units) == 1]
        outside = [one for one in named if one.mention.kind in {"outside", "far"} and _is_meant(one.mention, reading)]
        ranks = _RANKS[reading.category in INCIDENTS]
        if inside:
            if outside and _first(outside, ranks) < _first(inside, ranks) and _is_said(outside):
                return _outside(outside, view)
            return self._of_several(self._chosen(inside, ranks, view), named, view, located)
        crossing = self._crossing(named)
        if crossing is not None:
            keys = tuple(f"place:{one.mention.key}" for one in named if one.units)
            return Assignment(crossing, "place", ("unit.crossing",), keys, ("unit.crossing",))
        if any(one.mention.kind in {"area", "quarter"} or one.mention.wards for one in named):
            return None  # the area is named, only not the ward
        return _outside(outside, view) if outside else None

    def _chosen(self, inside: Sequence[_Named], ranks: Sequence[Role], view: DirectoryView) -> Sequence[_Named]:
        """Of the places that name a unit keep those that the text is about."""
        if len({one.units[0] for one in inside}) == 1:
            return inside
        exact = {one.units[0] for one in inside if one.mention.kind != "ward"}
        loose = {one.units[0]: one.mention.wards[0] for one in inside if one.mention.kind == "ward"}
        if len(exact) == 1:
            unit = next(iter(exact))
            ward = next(one.mention.wards[0] for one in inside if one.units[0] == unit and one.mention.kind != "ward")
            if all(other == unit or self._covers(name, ward, view) for other, name in loose.items()):
                return [one for one in inside if one.units[0] == unit]
        if not exact:
            older = [
                one
                for one in inside
                if not all(self._covers(loose[one.units[0]], ward, view) for ward in loose.values())
            ]
            if len({one.units[0] for one in older}) == 1:  # "Thới An (Thạnh Xuân cũ)"
                return older
        best = min(ranks.index(one.mention.role) for one in inside)
        return [one for one in inside if ranks.index(one.mention.role) == best]

    def _of_several(
        self, chosen: Sequence[_Named], named: Sequence[_Named], view: DirectoryView, located: Assignment | None
    ) -> Assignment:
        units = tuple(dict.fromkeys(one.units[0] for one in chosen))
        keys = tuple(dict.fromkeys(f"place:{one.mention.key}" for one in chosen))
        if len(units) > 1:
            return Assignment(
                view.district().slug,
                "district",
                ("unit.two_places",),
                keys,
                ("unit.which_place",),
                candidates=units if len(units) <= MAX_CANDIDATES else (),
            )
        doubts = []
        certainties = {one.mention.sure for one in chosen}
        if "verified" not in certainties:
            doubts.append("unit.spelling_guessed" if certainties == {"guessed"} else "unit.gazetteer_unverified")
        if any(other.units and units[0] not in other.units for other in named if other.mention.kind == "place"):
            doubts.append("unit.other_place_named")
        candidates = self._name_covers(chosen, view)
        if len(candidates) > 1:
            if located is not None and located.unit in candidates and not located.candidates:
                return replace(located, reasons=("unit.name_narrowed",), evidence=(*keys, *located.evidence))
            doubts.append("unit.name_covers_more")
        return Assignment(
            units[0], "place", ("unit.place_in_text",), keys, tuple(doubts), candidates=candidates[:MAX_CANDIDATES]
        )

    def _name_covers(self, chosen: Sequence[_Named], view: DirectoryView) -> tuple[str, ...]:
        """The units that a bare ward's name may mean since a new ward bears it."""
        if any(one.mention.kind != "ward" for one in chosen):
            return ()
        new = self._new_wards.get(chosen[0].mention.wards[0])
        if new is None or view.day < new.works_from:
            return ()
        units = dict.fromkeys(unit for ward in new.old_wards if (unit := self._serving(ward, view)))
        return tuple(units) if len(units) > 1 else ()

    def _crossing(self, named: Sequence[_Named]) -> str | None:
        """Two long streets that meet in one ward only."""
        streets = [
            set(one.units)
            for one in _first_of_each(named)
            if len(one.units) > 1 and one.mention.sure == "verified" and one.mention.decides
        ]
        common = set.intersection(*streets) if len(streets) > 1 else set()
        return common.pop() if len(common) == 1 else None

    def _covers(self, name: str, ward: str, view: DirectoryView) -> bool:
        new = self._new_wards.get(name)
        return new is not None and ward in new.old_wards and view.day >= new.works_from

    # ------------------------------------------------------------------ without a place in the text

    def _by_location(self, message: Said, view: DirectoryView) -> Assignment | None:
        if message.location is None or self._map is None:
            return None
        found = self._map.locate(message.location)
        unit = self._serving(found.ward, view) if found else None
        if found is None or unit is None:
            return None
        rivals = tuple(
            dict.fromkeys(r for w in found.rivals if (r := self._serving(w, view)) is not None and r != unit)
        )
        return Assignment(
            unit,
            "location",
            ("unit.shared_location",),
            (f"location:{found.ward}", f"kilometres:{found.kilometres:.1f}"),
            ("unit.near_border",) if rivals else (),
            candidates=(unit, *rivals)[:MAX_CANDIDATES] if rivals else (),
        )

    def _without_place(
        self, named: Sequence[_Named], page_unit: Unit | None, home_ward: str | None, view: DirectoryView
    ) -> Assignment:
        found = _by_page(page_unit, view)
        possible = tuple(dict.fromkeys(unit for one in named for unit in one.units))
        if found.basis == "page":
            if possible and found.unit not in possible:
                found = replace(found, doubts=(*found.doubts, "unit.page_is_elsewhere"))
            return found
        home = self._serving(home_ward, view) if home_ward else None
        if home is not None and (not possible or home in possible):
            return Assignment(home, "home", ("unit.home_ward",), (f"home:{home_ward}",))
        if 0 < len(possible) <= MAX_CANDIDATES:
            found = replace(found, candidates=possible, doubts=(*found.doubts, "unit.which_place"))
        return found

    # ------------------------------------------------------------------ directory

    def _serving(self, slug: str, view: DirectoryView) -> str | None:
        """The unit itself on that day, or the one that took over."""
        return next((unit for unit in line_of(slug, self._successors) if unit in view.units), None)

    def _serving_all(self, mention: Mention, view: DirectoryView) -> tuple[str, ...]:
        for unit in view.units.values():
            if mention.key in unit.places:
                return (unit.slug,)
        units = (self._serving(ward, view) or view.district().slug for ward in mention.wards)
        return tuple(dict.fromkeys(units))

    def _complete(self, found: Assignment, named: Sequence[_Named]) -> Assignment:
        """Add what else was seen: it explains the decision to whoever reads it."""
        if not named:
            return found
        keys = tuple(f"place:{one.mention.key}" for one in named if one.mention.kind not in {"outside", "far", "area"})
        homes = {
            one.units[0]
            for one in named
            if one.mention.role == "residence" and len(one.units) == 1 and one.mention.decides
        }
        return replace(
            found,
            evidence=tuple(dict.fromkeys((*found.evidence, *keys)))[:12],
            doubts=tuple(dict.fromkeys(found.doubts)),
            residence=homes.pop() if len(homes) == 1 else None,
        )


def _first_of_each(named: Sequence[_Named]) -> Iterable[_Named]:
    """Each place once, where it is named first."""
    return {one.mention.key: one for one in reversed(named)}.values()


def _first(named: Sequence[_Named], ranks: Sequence[Role]) -> int:
    return min(ranks.index(one.mention.role) for one in named)


def _is_said(outside: Sequence[_Named]) -> bool:
    """Whether the words say what the place elsewhere is; a name dropped in passing moves nothing out of the area."""
    return any(one.mention.role in {"incident", "residence"} for one in outside)


def _is_meant(mention: Mention, reading: Reading) -> bool:
    if mention.role in {"origin", "elsewhere"}:
        return False
    if mention.kind == "outside":  # where somebody else lives says nothing, what happened to them there does
        return mention.role != "theirs" or reading.category in INCIDENTS
    # A far province is where somebody comes from, unless something happened there.
    return mention.role == "residence" or (mention.role == "incident" and reading.category in INCIDENTS)


def _outside(outside: Sequence[_Named], view: DirectoryView) -> Assignment:
    evidence = tuple(f"outside:{one.mention.key}" for one in outside)
    return Assignment(view.district().slug, "place", ("unit.place_outside",), evidence, is_outside=True)


def _is_weak(found: Assignment, named: Sequence[_Named]) -> bool:
    """Whether the only places named are where somebody works, or where a thief ran to."""
    if found.is_outside or found.basis != "place":
        return False
    deciding = [one for one in named if found.unit in one.units]
    return bool(deciding) and all(one.mention.role == "elsewhere" for one in deciding)


def _knows_better(located: Assignment | None, page_unit: Unit | None) -> bool:
    return located is not None or (page_unit is not None and page_unit.role == "ward")


def _is_subject(team: Unit, reading: Reading) -> bool:
    return reading.category == "procedure" and any(
        key in team.subjects for key in (reading.subtopic, *reading.topics) if key
    )


def _by_page(page_unit: Unit | None, view: DirectoryView) -> Assignment:
    if page_unit is not None and page_unit.role == "ward":
        return Assignment(page_unit.slug, "page", ("unit.page",), (f"page:{page_unit.slug}",))
    district = view.district().slug
    if page_unit is None:
        return Assignment(district, "district", ("unit.page_unknown",), doubts=("unit.page_unknown",))
    if page_unit.role == "team":
        return Assignment(district, "district", ("unit.not_the_teams_subject",), (f"page:{page_unit.slug}",))
    return Assignment(district, "district", ("unit.no_place",))


def failed_assignment(message: Said, view: DirectoryView) -> Assignment:
    """What stands in when the map failed: the unit of the page, and a doubt for the person who reads it."""
    found = _by_page(view.unit_of_page(message.page), view)
    return replace(found, doubts=(*found.doubts, "unit.map_failed"))
