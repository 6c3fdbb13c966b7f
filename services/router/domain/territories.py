"""Where a shared location lies: the outlines of the wards of 2025, bounds and anchors of the old ones.

Outlines of the old wards with an open licence were not found, so an old ward is chosen among those that the surrounding
new ward was made of: by published bounds, then by the nearest of several anchors. Source: ADR 0011.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from shared.events import Coordinates

Point = tuple[float, float]
"""Latitude and longitude."""

EDGE_KILOMETRES = 0.15
"""A phone's fix is as far off as this; a point that little outside the area is taken for the nearest ward."""

BORDER_KILOMETRES = 0.4
"""Two wards whose anchors are as near as this to each other in distance: the point may lie on either side."""

NORTH_KILOMETRES, EAST_KILOMETRES = 110.57, 111.32


class OldWard(BaseModel):
    """What is known of an old ward's place; `bounds` are south, west, north, east."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bounds: tuple[float, float, float, float] | None = None
    anchors: tuple[Point, ...]


class Territories(BaseModel):
    """`data/gazetteer/territories.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outlines: dict[str, tuple[Point, ...]]
    old_wards: dict[str, OldWard]


@dataclass(frozen=True, slots=True)
class Located:
    """An old ward, and those that it may be instead.

    Attributes:
        ward: the most likely one.
        kilometres: to its nearest anchor.
        rivals: wards about as near: a border doubt.
    """

    ward: str
    kilometres: float
    rivals: tuple[str, ...] = ()


class Map:
    """Answers in which old ward a point lies."""

    def __init__(self, territories: Territories, parts: Mapping[str, Sequence[str]]) -> None:
        """Take the outlines and which old wards each is made of."""
        self._outlines = territories.outlines
        self._old = territories.old_wards
        self._parts = parts

    def locate(self, point: Coordinates) -> Located | None:
        """The ward of a point; None for null island, exchanged degrees and whatever lies outside the area."""
        at = (point.latitude, point.longitude)
        inside = [name for name, outline in self._outlines.items() if is_inside(at, outline)]
        if not inside:
            distances = sorted((_to_outline(at, outline), name) for name, outline in self._outlines.items())
            if not distances or distances[0][0] > EDGE_KILOMETRES:
                return None
            inside = [distances[0][1]]
        wards = [ward for name in inside for ward in self._parts.get(name, ()) if ward in self._old]
        bounded = [ward for ward in wards if _may_hold(self._old[ward].bounds, at)]
        near = sorted((min(kilometres(at, a) for a in self._old[ward].anchors), ward) for ward in bounded or wards)
        if not near:
            return None
        nearest, ward = near[0]
        rivals = tuple(other for distance, other in near[1:] if distance - nearest < BORDER_KILOMETRES)
        return Located(ward, nearest, rivals)


def kilometres(one: Point, other: Point) -> float:
    """Distance of two near points; a flat map is exact to a metre over a district."""
    east = (one[1] - other[1]) * EAST_KILOMETRES * math.cos(math.radians((one[0] + other[0]) / 2))
    return math.hypot((one[0] - other[0]) * NORTH_KILOMETRES, east)


def is_inside(point: Point, outline: Sequence[Point]) -> bool:
    """Whether a ray to the east crosses the outline an odd number of times."""
    latitude, longitude = point
    crosses = False
    for (north, east), (next_north, next_east) in zip(outline, (*outline[1:], outline[0]), strict=True):
        if (north > latitude) != (next_north > latitude) and longitude < (next_east - east) * (latitude - north) / (
            next_north - north
        ) + east:
            crosses = not crosses
    return crosses


def _may_hold(bounds: tuple[float, float, float, float] | None, point: Point) -> bool:
    if bounds is None:
        return True
    south, west, north, east = bounds
    return south <= point[0] <= north and west <= point[1] <= east


def _to_outline(point: Point, outline: Sequence[Point]) -> float:
    return min(_to_segment(point, start, end) for start, end in zip(outline, (*outline[1:], outline[0]), strict=True))


def _to_segment(point: Point, start: Point, end: Point) -> float:
    shrink = math.cos(math.radians(point[0]))
    x, y = (point[1] - start[1]) * shrink, point[0] - start[0]
    dx, dy = (end[1] - start[1]) * shrink, end[0] - start[0]
    length = dx * dx + dy * dy
    along = 0.0 if length == 0 else max(0.0, min(1.0, (x * dx + y * dy) / length))
    nearest = (start[0] + along * (end[0] - start[0]), start[1] + along * (end[1] - start[1]))
    return kilometres(point, nearest)
