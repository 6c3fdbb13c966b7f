"""The gazetteer: what places there are, how people write them, and what a name of the index stands for.

The names are data (`data/gazetteer/`).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from services.router.domain.spelling import halves, joined_parts
from services.router.domain.text import Words, fold, plain_word

Role = Literal["residence", "origin", "elsewhere", "office", "incident", "theirs", "unsaid", "arrived", "here", "moved"]
MentionKind = Literal["ward", "coded_street", "place", "quarter", "outside", "far", "area"]
Certainty = Literal["verified", "likely", "unverified", "guessed"]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WardNames(_Data):
    """How people write a ward."""

    names: tuple[str, ...]
    initials: tuple[str, ...]


class Place(_Data):
    """A street or landmark.

    Attributes:
        given_key: where the first name would make a poor one.
        wards: in which it may lie; several never decide alone.
        decides: false for a border, or for a name that is met elsewhere too.
        sure: an unverified place never decides alone.
        source: letters explained in the file's head.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    given_key: str | None = Field(default=None, alias="key")
    names: tuple[str, ...] = Field(min_length=1)
    kind: str
    wards: tuple[str, ...]
    decides: bool = True
    sure: Literal["verified", "likely", "unverified"]
    source: str = Field(alias="from")

    @cached_property
    def key(self) -> str:
        """Names the place in evidence."""
        return self.given_key or key_of(self.names[0])


class Trap(_Data):
    """A name elsewhere that looks like one of ours; `with_words` give it away."""

    key: str
    names: tuple[str, ...]
    like: str | None
    with_words: tuple[str, ...]


class Outside(_Data):
    """Names outside the area; `wards` only count with their "phường" or "xã"."""

    neighbours: tuple[str, ...]
    far: tuple[str, ...]
    wards: tuple[str, ...] = ()


class Gazetteer(_Data):
    """The files of `data/gazetteer/` that name places, as one."""

    wards: dict[str, WardNames]
    coded_streets_in_several_wards: dict[str, tuple[str, ...]]
    coded_streets: dict[str, tuple[str, ...]] = {}
    weak_initials: tuple[str, ...]
    counted: tuple[str, ...] = ()
    amounts: tuple[str, ...] = ()
    no_amounts: tuple[str, ...] = ()
    area_names: tuple[str, ...]
    look_alikes: tuple[str, ...] = ()
    ordinary: tuple[str, ...] = ()
    near_namesakes: tuple[str, ...] = ()
    before_ward: tuple[str, ...] = ()
    person_words: tuple[str, ...] = ()
    street_words: tuple[str, ...] = ()
    places: tuple[Place, ...]
    traps: tuple[Trap, ...]
    outside: Outside
    roles: dict[Role, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Name:
    """What a name of the index stands for; as `Mention`, and what it takes to be one.

    Attributes:
        is_person: a street that bears a person's name.
        is_on_a_border: what lies between two districts, so that the other one named behind it says nothing.
    """

    key: str
    kind: MentionKind
    wards: tuple[str, ...] = ()
    decides: bool = False
    sure: Certainty = "verified"
    is_person: bool = False
    is_on_a_border: bool = False


LOOK_ALIKE = Name("", "area")
WARD_PREFIXES = frozenset({"p", "f", "phuong", "ph", "phuog", "fuong", "phuonq", "ward"})
DISTRICT_PREFIXES = frozenset({"q", "quan", "district"})
NUMBER = re.compile(r"^\d{1,3}[a-z]{0,2}$")
QUARTER = re.compile(r"^(?:kp|ap)(\d{1,3}[a-z]?)$")
MARKED_SURNAMES = frozenset(fold("nguyễn trần lê võ dương hà huỳnh phan bùi trương lâm tô đỗ đặng").marked)
_SURNAMES = frozenset(map(plain_word, MARKED_SURNAMES))
_BORDERS = frozenset({"bridge", "crossing", "water"})
_GLUE = frozenset("-./_")


class WardCodes:
    """Initials of wards, and the numbered streets that bear them.

    Attributes:
        initials: the ward of each.
        weak: initials that are something else too.
        counted: what numbers count, so that one before it is an amount: "2 tháng".
        numbers: those of the streets known in a ward.
    """

    def __init__(self, gazetteer: Gazetteer) -> None:
        self.initials = {one: ward for ward, names in gazetteer.wards.items() for one in names.initials}
        self.weak = frozenset(gazetteer.weak_initials)
        self.counted = frozenset(word for phrase in gazetteer.counted for word in fold(phrase).plain)
        self.numbers = {ward: frozenset(numbers) for ward, numbers in gazetteer.coded_streets.items()}
        self._several = gazetteer.coded_streets_in_several_wards

    def street(self, ward: str, number: str) -> Name:
        """The street of a ward with this number."""
        wards = self._several.get(ward, (ward,))
        known = self.numbers.get(ward)
        sure: Certainty = "verified" if known is None or number.lstrip("0") in known else "likely"
        return Name(f"{ward}-{number}", "coded_street", wards, decides=True, sure=sure)


def is_glued(words: Words, at: int) -> bool:
    """Whether one mark alone stands between a word and the next: "ht-45", "tl.29"."""
    return words.gap_after(at) in _GLUE


def names_area(plain: Sequence[str], at: int) -> bool:
    """Whether "quận 12" begins there."""
    after = plain[at : at + 2]
    return after[:1] == ("q12",) or (after[-1:] == ("12",) and after[0] in DISTRICT_PREFIXES)


def names_of(gazetteer: Gazetteer) -> Iterable[tuple[str, Name]]:
    """All names with what they stand for."""
    for ward, names in gazetteer.wards.items():
        for name in names.names:
            yield name, Name(ward, "ward", (ward,), decides=True)
            yield f"phường {name}", Name(ward, "ward", (ward,), decides=True)
        yield from ((name, Name(ward, "ward", (ward,), decides=True)) for name in joined_parts(names.names[0]))
        half = Name(ward, "ward", (ward,), decides=True, sure="guessed")
        yield from ((name, half) for name in halves(names.names[0]))
    for place in gazetteer.places:
        value = Name(place.key, "place", place.wards, place.decides and place.sure != "unverified", place.sure)
        for name in place.names:
            is_person = place.kind == "street" and fold(name).plain[0] in _SURNAMES
            yield name, replace(value, is_person=is_person, is_on_a_border=place.kind in _BORDERS)
    for trap in gazetteer.traps:
        yield from ((name, Name(trap.key, "outside", decides=True)) for name in trap.names)
    yield from ((name, Name(key_of(name), "outside", decides=True)) for name in gazetteer.outside.neighbours)
    yield from ((name, Name(key_of(name), "outside", decides=True)) for name in gazetteer.outside.wards)
    yield from ((name, Name(key_of(name), "far", decides=True)) for name in gazetteer.outside.far)
    yield from ((name, Name("quan-12", "area")) for name in gazetteer.area_names)
    yield from ((phrase, LOOK_ALIKE) for phrase in gazetteer.look_alikes)


def key_of(name: str) -> str:
    """A name as a key: without diacritics, joined by hyphens."""
    return "-".join(fold(name).plain)
