"""Finding places in a text: wards, ward-coded streets, streets, landmarks, and names that lie elsewhere.

Source: domain page, "Finding a ward in text"; the names are data (`data/gazetteer.yaml`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from services.router.domain.text import PhraseIndex, Span, Words, fold, longest_first

Role = Literal["residence", "origin", "elsewhere", "incident", "unsaid"]
MentionKind = Literal["ward", "coded_street", "place", "outside", "far", "area"]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WardNames(_Data):
    """How people write a ward."""

    names: tuple[str, ...]
    initials: tuple[str, ...]


class Place(_Data):
    """A street or landmark; `decides: false` when it lies in several wards."""

    key: str
    names: tuple[str, ...]
    kind: str
    wards: tuple[str, ...]
    decides: bool = True
    sure: Literal["V", "U"]


class Trap(_Data):
    """A name elsewhere that looks like one of ours; `with_words` give it away."""

    key: str
    names: tuple[str, ...]
    like: str | None
    with_words: tuple[str, ...]


class Outside(_Data):
    """Names outside the area."""

    neighbours: tuple[str, ...]
    far: tuple[str, ...]


class Gazetteer(_Data):
    """`data/gazetteer.yaml`."""

    wards: dict[str, WardNames]
    coded_streets_in_several_wards: dict[str, tuple[str, ...]]
    weak_initials: tuple[str, ...]
    area_names: tuple[str, ...]
    places: tuple[Place, ...]
    traps: tuple[Trap, ...]
    outside: Outside
    roles: dict[Role, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Mention:
    """One place named in a text.

    Attributes:
        key: of the gazetteer, or ward and number of a coded street.
        wards: in which it may lie; empty outside the area.
        decides: whether it is enough to choose a ward.
        role: what the words before it make of it.
        is_sure: whether the gazetteer's entry is verified.
    """

    key: str
    kind: MentionKind
    wards: tuple[str, ...]
    decides: bool
    role: Role
    is_sure: bool
    start: int


@dataclass(frozen=True, slots=True)
class _Name:
    key: str
    kind: MentionKind
    wards: tuple[str, ...] = ()
    decides: bool = False
    is_sure: bool = True


_CODED = re.compile(r"^p?([a-z]{2,3}?)(\d{1,3}[a-z]{0,2})$")
_NUMBER = re.compile(r"^\d{1,3}[a-z]{0,2}$")
_OTHER_DISTRICT = re.compile(r"^q(\d{1,2})$")
_WARD_PREFIXES = frozenset({"p", "f", "phuong", "ph", "phuog", "fuong", "ward", "duong"})
_DISTRICT_PREFIXES = frozenset({"q", "quan", "district"})
WORDS_BEFORE = 4


class PlaceFinder:
    """The gazetteer, indexed; the cost of a search does not grow with its size."""

    def __init__(self, gazetteer: Gazetteer) -> None:
        self._initials = {i: ward for ward, names in gazetteer.wards.items() for i in names.initials}
        self._weak = frozenset(gazetteer.weak_initials)
        self._several = gazetteer.coded_streets_in_several_wards
        self._traps = {trap.like: trap for trap in gazetteer.traps if trap.like is not None}
        self._names: PhraseIndex[_Name] = PhraseIndex(_names(gazetteer), accepts_bare=True)
        self._roles: PhraseIndex[Role] = PhraseIndex(
            (phrase, role) for role, phrases in gazetteer.roles.items() for phrase in phrases
        )
        self._trap_words: PhraseIndex[str] = PhraseIndex(
            (word, like) for like, trap in self._traps.items() for word in trap.with_words
        )

    def find(self, words: Words) -> list[Mention]:
        """All places named, in order of the text; of overlapping names the longest counts."""
        spans = longest_first([*self._names.find(words), *self._coded(words)])
        if not spans:
            return []
        traps = {span.value for span in self._trap_words.find(words)}
        roles = self._roles.find(words)
        return [self._mention(span, words, traps, roles) for span in spans]

    def _mention(self, span: Span[_Name], words: Words, traps: set[str], roles: Sequence[Span[Role]]) -> Mention:
        name = span.value
        role = _role_before(span.start, roles, words)
        if name.kind == "ward":
            ward = name.wards[0]
            if ward in traps:
                return Mention(
                    self._traps[ward].key, "outside", (), decides=True, role=role, is_sure=True, start=span.start
                )
            if span.end < len(words) and _NUMBER.match(words.plain[span.end]) and not words.ends_clause[span.end - 1]:
                name = self._coded_name(ward, words.plain[span.end])
        return Mention(name.key, name.kind, name.wards, name.decides, role, name.is_sure, span.start)

    def _coded_name(self, ward: str, number: str) -> _Name:
        wards = self._several.get(ward, (ward,))
        return _Name(f"{ward}-{number}", "coded_street", wards, decides=len(wards) == 1)

    def _coded(self, words: Words) -> Iterable[Span[_Name]]:
        """Initials with or without a number, and the numbered districts and wards of the rest of the city."""
        plain = words.plain
        for at, word in enumerate(plain):
            before = plain[at - 1] if at else ""
            after = plain[at + 1] if at + 1 < len(plain) else ""
            if (coded := _CODED.match(word)) and coded[1] in self._initials:
                yield Span(at, at + 1, self._coded_name(self._initials[coded[1]], coded[2]), word)
            elif (initials := word if word in self._initials else word.removeprefix("p")) in self._initials:
                if name := self._initials_name(initials, words, at, before, after, has_prefix=initials != word):
                    yield Span(at, at + 1 + (name.kind == "coded_street"), name, word)
            elif before in _DISTRICT_PREFIXES and word.isdigit() and word != "12" and int(word) < 13:
                yield Span(at - 1, at + 1, _Name(f"quan-{int(word)}", "outside", decides=True), word)
            elif (district := _OTHER_DISTRICT.match(word)) and district[1] != "12" and 0 < int(district[1]) < 13:
                yield Span(at, at + 1, _Name(f"quan-{int(district[1])}", "outside", decides=True), word)
            elif before in {"p", "phuong", "f"} and word.isdigit() and int(word) < 29:
                yield Span(at - 1, at + 1, _Name(f"phuong-{int(word)}", "outside", decides=True), word)

    def _initials_name(
        self, initials: str, words: Words, at: int, before: str, after: str, *, has_prefix: bool
    ) -> _Name | None:
        ward = self._initials[initials]
        is_introduced = has_prefix or before in _WARD_PREFIXES
        if _NUMBER.match(after) and (initials not in self._weak or words.is_capital[at] or is_introduced):
            return self._coded_name(ward, after)
        if initials not in self._weak or is_introduced:
            return _Name(ward, "ward", (ward,), decides=True)
        return None


def _names(gazetteer: Gazetteer) -> Iterable[tuple[str, _Name]]:
    for ward, names in gazetteer.wards.items():
        yield from ((name, _Name(ward, "ward", (ward,), decides=True)) for name in names.names)
    for place in gazetteer.places:
        value = _Name(place.key, "place", place.wards, place.decides, place.sure == "V")
        yield from ((name, value) for name in place.names)
    for trap in gazetteer.traps:
        yield from ((name, _Name(trap.key, "outside", decides=True)) for name in trap.names)
    yield from ((name, _Name(_key(name), "outside", decides=True)) for name in gazetteer.outside.neighbours)
    yield from ((name, _Name(_key(name), "far", decides=True)) for name in gazetteer.outside.far)
    yield from ((name, _Name("quan-12", "area")) for name in gazetteer.area_names)


def _key(name: str) -> str:
    return "-".join(fold(name).plain)


def _role_before(start: int, roles: Sequence[Span[Role]], words: Words) -> Role:
    """The role that the words just before a place give it; the longest phrase that ends nearest."""
    best: tuple[int, int, Role] | None = None
    for span in roles:
        distance = start - span.end
        if 0 <= distance < WORDS_BEFORE and not any(words.ends_clause[span.end - 1 : start - 1]):
            candidate = (distance, span.start - span.end, span.value)
            if best is None or candidate[:2] < best[:2]:
                best = candidate
    return best[2] if best else "unsaid"


def by_ward(mentions: Iterable[Mention]) -> Mapping[str, list[Mention]]:
    """Mentions that are enough to choose a ward, by ward."""
    groups: dict[str, list[Mention]] = {}
    for mention in mentions:
        if mention.decides and len(mention.wards) == 1:
            groups.setdefault(mention.wards[0], []).append(mention)
    return groups
