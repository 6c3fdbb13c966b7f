"""Finding places in a text: wards, ward-coded streets, streets, landmarks, and names that lie elsewhere.

The names are data (`data/gazetteer/`). A text is looked up once in one index, so that the cost of a message does not
grow with the number of places.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from services.router.domain.spelling import SHORTEST, Guess, Speller, halves, joined_parts
from services.router.domain.text import (
    Candidate,
    Entry,
    PhraseIndex,
    Remembered,
    Span,
    Words,
    fold,
    longest_first,
    plain_word,
)
from services.router.domain.values import immutable

Role = Literal["residence", "origin", "elsewhere", "office", "incident", "unsaid"]
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
        return self.given_key or _key(self.names[0])


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


@immutable
class Mention:
    """One place named in a text.

    Attributes:
        key: of the gazetteer, or ward and number of a coded street.
        wards: in which it may lie; empty outside the area.
        decides: whether it may choose a ward once its wards are served by one unit.
        role: what the words before it make of it.
        sure: how certain the gazetteer is, or that the spelling was guessed.
    """

    key: str
    kind: MentionKind
    wards: tuple[str, ...]
    decides: bool
    role: Role
    sure: Certainty
    start: int


@dataclass(frozen=True, slots=True)
class _Name:
    key: str
    kind: MentionKind
    wards: tuple[str, ...] = ()
    decides: bool = False
    sure: Certainty = "verified"
    is_person: bool = False
    is_on_a_border: bool = False


_BORDERS = frozenset({"bridge", "crossing", "water"})
_OF_A_DISTRICT = frozenset({"quan", "q", "huyen", "o", "ben"})
_LOOK_ALIKE = _Name("", "area")
_CODED = re.compile(r"^p?([a-z]{2,3}?)(\d{1,3}[a-z]{0,2})$")
_JOINED_CODE = re.compile(r"^([a-z]{6,})(\d{1,3}[a-z]{0,2})$")
_NUMBERED_END = re.compile(r"^([a-z]{3,5})(\d{1,3}[a-z]?)$")
_TOKEN = re.compile(r"[^\W_]+")
_GLUE = frozenset("-./_")
_BETWEEN_INITIALS = frozenset({"", ".", "-", "_"})
_NUMBER = re.compile(r"^\d{1,3}[a-z]{0,2}$")
_OTHER_DISTRICT = re.compile(r"^q(\d{1,2})$")
_QUARTER = re.compile(r"^(?:kp|ap)(\d{1,3}[a-z]?)$")
_WARD_PREFIXES = frozenset({"p", "f", "phuong", "ph", "phuog", "fuong", "phuonq", "ward"})
_INTRODUCING = _WARD_PREFIXES | {"duong", "hem", "d"}
_WARD = fold("phường").marked[0]
_QUARTERS = frozenset({"kp", "pho", "ap"})
_DISTRICT_PREFIXES = frozenset({"q", "quan", "district"})
_MARKED_SURNAMES = frozenset(fold("nguyễn trần lê võ dương hà huỳnh phan bùi trương lâm tô đỗ đặng").marked)
_SURNAMES = frozenset(map(plain_word, _MARKED_SURNAMES))

# What a word may be to the finder, one bit each: a text is looked through as these bytes.
_BEGINS, _GOES_ON, _ALONE, _CODE, _INTRODUCES, _SYLLABLE, _OF_LONG_WARD, _INITIAL = (1 << bit for bit in range(8))


def _any_of(bits: int) -> bytes:
    return b"[" + re.escape(bytes(flags for flags in range(256) if flags & bits)) + b"]"


_MAY_BE_NAME = re.compile(_any_of(_BEGINS) + b"(?=" + _any_of(_GOES_ON) + b")|" + _any_of(_ALONE))
_MAY_BE_CODE = re.compile(_any_of(_CODE))
# One syllable of a guessed name may be wrong, so that the first or the second is known, and two of three.
_MAY_INTRODUCE = re.compile(_any_of(_INTRODUCES) + b"(?=(?s:.?)" + _any_of(_SYLLABLE) + b")")
_MAY_BE_LONG_WARD = re.compile(_any_of(_OF_LONG_WARD) + b"(?s:.?)" + _any_of(_OF_LONG_WARD))
_MAY_BE_INITIALS = re.compile(_any_of(_INITIAL) + b"{2,}")

WORDS_BEFORE = 4
NUMBERED_WARDS = 28
NUMBERED_DISTRICTS = 12


class PlaceFinder:
    """The gazetteer, indexed; the cost of a search does not grow with its size."""

    def __init__(self, gazetteer: Gazetteer) -> None:
        self._initials = {i: ward for ward, names in gazetteer.wards.items() for i in names.initials}
        self._joined = {
            "".join(fold(name).plain): ward for ward, names in gazetteer.wards.items() for name in names.names
        }
        self._ends = frozenset(fold(name).plain[-1] for names in gazetteer.wards.values() for name in names.names)
        self._weak = frozenset(gazetteer.weak_initials)
        self._counted = frozenset(word for phrase in gazetteer.counted for word in fold(phrase).plain)
        self._several = gazetteer.coded_streets_in_several_wards
        self._numbers = {ward: frozenset(numbers) for ward, numbers in gazetteer.coded_streets.items()}
        self._persons = frozenset(word for phrase in gazetteer.person_words for word in fold(phrase).plain[-1:])
        self._streets = frozenset(word for phrase in gazetteer.street_words for word in fold(phrase).plain[-1:])
        self._introducing = self._streets | _WARD_PREFIXES
        self._ordinary = frozenset(fold(phrase).marked for phrase in gazetteer.ordinary)
        self._elsewhere = frozenset(fold(phrase).marked for phrase in gazetteer.near_namesakes)
        self._before_ward = frozenset(fold(word).marked[0] for word in gazetteer.before_ward)
        self._letters = frozenset("".join(self._initials)) | {"p"}
        self._traps = {trap.like: trap for trap in gazetteer.traps if trap.like is not None}
        names = list(_names(gazetteer))
        self._names: PhraseIndex[_Name] = PhraseIndex(names, accepts_bare=True)
        guessable = [
            (fold(name).plain, value)
            for name, value in names
            if value.kind in {"ward", "place"} and value.sure not in {"unverified", "guessed"} and value.wards
        ]
        self._speller = Speller(guessable)
        wards = [(syllables, value) for syllables, value in guessable if value.kind == "ward"]
        self._wards_marked = {ward: fold(names.names[0]).marked for ward, names in gazetteer.wards.items()}
        self._marked_syllables = frozenset(
            word for name, value in names if value.kind in {"ward", "place"} for word in fold(name).marked
        )
        self._long_wards = Speller(one for one in wards if len(one[0]) > SHORTEST)
        self._short_wards = Speller(one for one in wards if len(one[0]) == SHORTEST and min(map(len, one[0])) > 1)
        beginnings = self._names.tree.children or {}
        self._beginnings = frozenset(beginnings)
        self._seconds = frozenset(word for node in beginnings.values() for word in node.children or ())
        self._alone = frozenset(word for word, node in beginnings.items() if node.entry is not None)
        self._flags = Remembered(self._flags_of).__getitem__
        self._roles: PhraseIndex[Role] = PhraseIndex(
            (phrase, role) for role, phrases in gazetteer.roles.items() for phrase in phrases
        )
        self._trap_words: PhraseIndex[str] = PhraseIndex(
            (word, like) for like, trap in self._traps.items() for word in trap.with_words
        )

    def find(self, words: Words) -> list[Mention]:
        """All places named, in order of the text; of overlapping names the longest counts."""
        flags = bytes(map(self._flags, words.plain))
        begins = [name.start() for name in _MAY_BE_NAME.finditer(flags)]
        coded = [code.start() for code in _MAY_BE_CODE.finditer(flags)]
        candidates = self._names.tree.candidates(words.plain, begins)
        named = [span for span in self._names.fitting(words, candidates) if span.value.sure != "guessed"]
        found = _longest_sure_first([*named, *self._coded(words, coded)])
        spans = [span for span in found if span.value is not _LOOK_ALIKE and not self._is_a_person(span, words)]
        spans = _without_namesakes(spans, words)
        if not any(_says_where(span.value) for span in spans):
            spans += self._guessed(words, flags, candidates, found)
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
                    self._traps[ward].key, "outside", (), decides=True, role=role, sure="verified", start=span.start
                )
            if span.end < len(words) and _NUMBER.match(words.plain[span.end]) and not words.ends_clause[span.end - 1]:
                after = words.plain[span.end + 1] if span.end + 1 < len(words) else ""
                if after not in self._counted:
                    coded = self._coded_name(ward, words.plain[span.end])
                    name = coded if name.sure != "guessed" else replace(coded, sure="guessed")
        return Mention(name.key, name.kind, name.wards, name.decides, role, name.sure, span.start)

    def _coded_name(self, ward: str, number: str) -> _Name:
        wards = self._several.get(ward, (ward,))
        known = self._numbers.get(ward)
        sure: Certainty = "verified" if known is None or number.lstrip("0") in known else "likely"
        return _Name(f"{ward}-{number}", "coded_street", wards, decides=True, sure=sure)

    def _is_a_person(self, span: Span[_Name], words: Words) -> bool:
        """Streets bear people's names, and people here bear the same: "tên Nguyễn Thị Sáu" is no street."""
        if not span.value.is_person or span.start == 0:
            return False
        before = words.plain[max(0, span.start - 3) : span.start]
        return before[-1] in self._persons and not self._streets.intersection(before)

    def _guessed(
        self,
        words: Words,
        flags: bytes,
        candidates: Iterable[Candidate[list[Entry[_Name]]]],
        found: Sequence[Span[_Name]],
    ) -> Iterable[Span[_Name]]:
        """The first name that is not written as it should be; a guess never stands beside a name written right."""
        guesses = [
            Span(start, end, entry.value, "")
            for start, end, entries in candidates
            for entry in entries
            if (entry.value.kind == "ward" and self._is_meant(entry, words, start, end))
            or (entry.value.kind == "place" and self._is_meant_place(entry, words, start, end))
        ]
        guesses += self._misspelt(words, flags, found)
        for letters in _MAY_BE_INITIALS.finditer(flags):
            guesses += self._spaced_initials(words, letters.start(), letters.end())
        if not guesses:
            return
        far = {span.start for span in found if span.value.kind == "far"}  # "Thạnh Xuân Hậu Giang"
        taken = {at for span in found for at in range(span.start, span.end)}
        for guess in sorted(guesses, key=lambda one: (one.start, -one.end)):
            if words.marked[guess.start : guess.end] in self._elsewhere:
                continue
            if taken.isdisjoint(range(guess.start, guess.end)) and guess.end not in far:
                yield guess._replace(value=replace(guess.value, sure="guessed"))
                return

    def _is_meant(self, entry: Entry[_Name], words: Words, start: int, end: int) -> bool:
        """Whether a ward's name with other marks, or half in initials, is one; of two words it takes more to tell."""
        plain = words.plain[start:end]
        right = self._right(words, start, entry.marked)
        is_half = entry.value.sure == "guessed"
        if True not in right or (is_half and False in right):
            return False
        has_prefix = plain[0] in _WARD_PREFIXES
        if has_prefix:
            return right[0]  # "Phương" is a person
        if self._follows_prefix(words, start):
            return True
        if is_half and not _is_cut_on_purpose(words, start, end):
            return False
        if max(end - start, entry.value.key.count("-") + 1) > SHORTEST:
            return words.marked[start:end] not in self._ordinary and not self._follows_person(words, start)
        return end - start > 1 and self._is_supported(words, start, end, is_half=is_half)

    def _is_meant_place(self, entry: Entry[_Name], words: Words, start: int, end: int) -> bool:
        """Whether a place of three words or more, one of them with other marks, is one; it may not lie in its ward."""
        if end - start <= SHORTEST or entry.value.is_person or not entry.value.decides:
            return False
        first, *others = self._right(words, start, entry.marked)
        return first and others.count(False) == 1  # "chỗ" is no "chợ"

    def _right(self, words: Words, start: int, marked: Sequence[str]) -> list[bool]:
        """Of each word, whether it has the marks it should have, or none."""
        here = slice(start, start + len(marked))
        return [
            one in (wanted, bare)
            for one, wanted, bare in zip(words.marked[here], marked, words.plain[here], strict=True)
        ]

    def _is_supported(self, words: Words, start: int, end: int, *, is_half: bool = False) -> bool:
        """Whether what stands around two words, or their capitals, makes a ward of them."""
        plain = words.plain
        if self._follows_prefix(words, start) or _names_area(plain, end):
            return True
        if words.marked[start:end] in self._ordinary or self._follows_person(words, start):
            return False
        if self._follows_preposition(words, start):
            return True
        after = plain[end : end + 2]
        if after and not words.ends_clause[end - 1] and _NUMBER.match(after[0]) and after[-1] not in self._counted:
            return any(after[0].lstrip("0") in numbers for numbers in self._numbers.values())
        return not is_half and _has_capitals(words, start, end)

    def _follows_prefix(self, words: Words, start: int) -> bool:
        before = words.marked[start - 1] if start else ""
        return before in _WARD_PREFIXES or before == _WARD

    def _follows_preposition(self, words: Words, start: int) -> bool:
        """Whether "ở", "chợ" or the number of a quarter stands before a place."""
        if not start or (words.ends_clause[start - 1] and not _QUARTER.match(words.plain[start - 1])):
            return False
        before = words.plain[max(0, start - 2) : start]
        return (
            words.marked[start - 1] in self._before_ward
            or _QUARTER.match(before[-1]) is not None
            or (before[0] in _QUARTERS and _NUMBER.match(before[-1]) is not None)
        )

    def _follows_person(self, words: Words, start: int) -> bool:
        if not start or words.ends_clause[start - 1] or words.marked[start - 1] in self._before_ward:
            return False
        return words.plain[start - 1] in self._persons or words.marked[start - 1] in _MARKED_SURNAMES

    def _spaced_initials(self, words: Words, start: int, end: int) -> Iterable[Span[_Name]]:
        """Initials with marks or spaces between them: "H.T 22", "t t n 17", "ở T.T.N"."""
        plain = words.plain
        letters = "".join(plain[start:end])
        has_prefix = letters not in self._initials and letters[0] == "p"
        initials = letters[has_prefix:]
        if initials not in self._initials or _is_letter(words, start - 1) or _is_letter(words, end):
            return
        gaps = _gaps(words.typed)[start + 1 : end + 1]
        if not {gap.strip() for gap in gaps[:-1]} <= _BETWEEN_INITIALS or any(
            map(_has_other_mark, words.marked[start:end])
        ):
            return
        ward = self._initials[initials]
        number, counts = [*plain[end : end + 2], "", ""][:2]
        is_same_gap = gaps[-1] == gaps[-2] or (gaps[-1] == ". " and initials not in self._weak)
        follows = not words.ends_clause[end - 1] or _is_glued(words, end - 1) or is_same_gap
        if number == "so":
            number, counts = counts, ""
        if follows and number.lstrip("0") in self._numbers.get(ward, ()) and counts not in self._counted:
            yield Span(start, plain.index(number, end) + 1, self._coded_name(ward, number), "")
        elif self._follows_person(words, start):
            return
        elif self._follows_prefix(words, start) or (
            (has_prefix or self._follows_preposition(words, start)) and initials not in self._weak
        ):
            yield Span(start, end, _Name(ward, "ward", (ward,), decides=True), "")
        elif has_prefix and words.ends_clause[start] and len(set(gaps[:-1])) > 1:
            yield Span(start, end, _Name(ward, "ward", (ward,), decides=True), "")  # "P. T.X."

    def _misspelt(self, words: Words, flags: bytes, found: Sequence[Span[_Name]]) -> Iterable[Span[_Name]]:
        """Names with one syllable mistyped; a two-syllable one only after "phường", a person's name after "đường"."""
        plain = words.plain
        guesses: list[Guess[_Name]] = []
        if introduced := [before.end() for before in _MAY_INTRODUCE.finditer(flags)]:
            guesses += [one for one in self._speller.guesses(plain, introduced) if self._is_introduced(one, words)]
        if _MAY_BE_LONG_WARD.search(flags):
            guesses += [one for one in self._long_wards.guesses(plain) if self._has_marks(one, words)]
        if told := [start for start in self._told_starts(words, found) if self._may_be_short(plain, start)]:
            guesses += [one for one in self._short_wards.guesses(plain, told) if self._is_told(one, words)]
        return (Span(guess.start, guess.end, guess.value, "") for guess in guesses)

    def _told_starts(self, words: Words, found: Sequence[Span[_Name]]) -> list[int]:
        """Where a ward is to be expected: after "ở" or a quarter, before "quận 12"."""
        starts = [span.start - SHORTEST if span.value.kind == "area" else span.end for span in found]
        if not self._before_ward.isdisjoint(words.marked):
            starts += [at for at, word in enumerate(words.marked, 1) if word in self._before_ward]
        return sorted(starts)

    def _may_be_short(self, plain: Sequence[str], start: int) -> bool:
        return start >= 0 and any(map(self._short_wards.knows, plain[start : start + SHORTEST]))

    def _is_introduced(self, guess: Guess[_Name], words: Words) -> bool:
        before = words.plain[guess.start - 1]
        if guess.value.kind == "ward":
            return before in _WARD_PREFIXES
        return before in self._streets and (guess.end - guess.start > SHORTEST or self._has_a_word(guess, words))

    def _has_a_word(self, guess: Guess[_Name], words: Words) -> bool:
        """Whether one of two words is a syllable of a name, with its marks; the other no scrap, nor after a comma."""
        written = words.marked[guess.start : guess.end]
        return (
            not words.ends_clause[guess.start]
            and min(map(len, words.plain[guess.start : guess.end])) > SHORTEST
            and any(word in self._marked_syllables for word in written)
        )

    def _has_marks(self, guess: Guess[_Name], words: Words) -> bool:
        """Whether no more than the mistyped one of several syllables is wrong: "tân thời hiện" is no ward."""
        wanted = self._wards_marked[guess.value.key]
        if guess.end - guess.start != len(wanted):
            return guess.end - guess.start > SHORTEST
        return (
            self._right(words, guess.start, wanted).count(False) <= 1
            or self._follows_prefix(words, guess.start)
            or _names_area(words.plain, guess.end)
        )

    def _is_told(self, guess: Guess[_Name], words: Words) -> bool:
        """Whether two words, one of them mistyped, are a ward: the other one has its marks, and more than that."""
        if _names_area(words.plain, guess.end):
            return True
        written, wanted = words.marked[guess.start : guess.end], self._wards_marked[guess.value.key]
        return (
            len(written) == len(wanted)
            and any(one == right and not one.isascii() for one, right in zip(written, wanted, strict=True))
            and self._follows_preposition(words, guess.start)
            and not self._follows_person(words, guess.start)
        )

    def _coded(self, words: Words, places: Iterable[int]) -> Iterable[Span[_Name]]:
        """Initials with or without a number, numbered quarters, districts and wards."""
        plain = words.plain
        for at in places:
            word = plain[at]
            before = plain[at - 1] if at else ""
            after = plain[at + 1] if at + 1 < len(plain) else ""
            if (coded := _CODED.match(word)) and coded[1] in self._initials:
                yield Span(at, at + 1, self._coded_name(self._initials[coded[1]], coded[2]), word)
            elif (joined := _JOINED_CODE.match(word)) and (
                ward := self._joined.get(joined[1].removeprefix("phuong")) or self._joined.get(joined[1][1:])
            ):
                yield Span(at, at + 1, self._coded_name(ward, joined[2]), word)
            elif (end := _NUMBERED_END.match(word)) and (span := self._numbered_end(plain, at, *end.groups())):
                yield span
            elif (initials := word if word in self._initials else word.removeprefix("p")) in self._initials:
                if name := self._initials_name(initials, words, at, before, after, has_prefix=initials != word):
                    yield Span(at, at + 1 + (name.kind == "coded_street"), name, word)
            elif word.isdigit() or word[0] in "qka":
                yield from _numbered(word, before, plain[at - 2] if at > 1 else "", at)

    def _flags_of(self, word: str) -> int:
        """The bits of a word."""
        return (
            (_BEGINS if word in self._beginnings else 0)
            | (_GOES_ON if word in self._seconds else 0)
            | (_ALONE if word in self._alone else 0)
            | (_CODE if self._looks_like_code(word) else 0)
            | (_INTRODUCES if word in self._introducing else 0)
            | (_SYLLABLE if self._speller.knows(word) else 0)
            | (_OF_LONG_WARD if self._long_wards.knows(word) else 0)
            | (_INITIAL if word in self._letters else 0)
        )

    def _numbered_end(self, plain: Sequence[str], at: int, last: str, number: str) -> Span[_Name] | None:
        """A ward whose number sticks to its last syllable: "hiệp thành13"."""
        for start in (at - 1, at - 2):
            if start >= 0 and last in self._ends and (ward := self._joined.get("".join(plain[start:at]) + last)):
                return Span(start, at + 1, self._coded_name(ward, number), plain[at])
        return None

    def _looks_like_code(self, word: str) -> bool:
        """Whether `_coded` has to look at a word; most words are only words."""
        return (
            word in self._initials
            or word.removeprefix("p") in self._initials
            or word.isdigit()
            or (
                not word.isalpha()
                and any(
                    pattern.match(word) for pattern in (_CODED, _JOINED_CODE, _NUMBERED_END, _OTHER_DISTRICT, _QUARTER)
                )
            )
        )

    def _initials_name(
        self, initials: str, words: Words, at: int, before: str, after: str, *, has_prefix: bool
    ) -> _Name | None:
        ward = self._initials[initials]
        is_introduced = has_prefix or before in _INTRODUCING
        if _NUMBER.match(after) and (not words.ends_clause[at] or _is_glued(words, at)):
            counts = words.plain[at + 2] if at + 2 < len(words) else ""
            is_amount = counts in self._counted or after[-1] == "k"
            if initials not in self._weak or is_introduced or words.is_capital(at):
                return self._coded_name(ward, after)
            if not is_amount and after.lstrip("0") in self._numbers.get(ward, ()):
                return self._coded_name(ward, after)
        if initials not in self._weak or has_prefix or before in _WARD_PREFIXES:
            return _Name(ward, "ward", (ward,), decides=True)
        return None


def _says_where(name: _Name) -> bool:
    """Whether nothing more has to be guessed; somebody from far away may live here all the same."""
    return name.kind in {"ward", "coded_street", "outside"} or (name.decides and name.kind != "far")


def _names_area(plain: Sequence[str], at: int) -> bool:
    after = plain[at : at + 2]
    return after[:1] == ("q12",) or (after[-1:] == ("12",) and after[0] in _DISTRICT_PREFIXES)


def _is_letter(words: Words, at: int) -> bool:
    """Whether a bare single letter stands there, so that initials beside it are a person's."""
    return (
        0 <= at < len(words) and len(words.plain[at]) == 1 and words.marked[at].isalpha() and words.marked[at].isascii()
    )


def _has_other_mark(letter: str) -> bool:
    return not letter.isascii() and letter != "đ"


def _is_cut_on_purpose(words: Words, start: int, end: int) -> bool:
    """Whether single letters are capitals or have a full stop: "T.Lộc"; "h thành" may be "giờ thành"."""
    gaps = _gaps(words.typed)
    return all(
        len(words.plain[at]) > 1 or words.is_capital(at) or gaps[at + 1].startswith(".") for at in range(start, end)
    )


def _has_capitals(words: Words, start: int, end: int) -> bool:
    """Whether words begin with capitals, in a text that is not all in capitals."""
    typed = _TOKEN.findall(words.typed)
    return (
        len(typed) == len(words) and not words.typed.isupper() and all(word[0].isupper() for word in typed[start:end])
    )


def _without_namesakes(spans: list[Span[_Name]], words: Words) -> list[Span[_Name]]:
    """A place whose name another district follows lies there: "Lê Thị Riêng, quận 1", "trường Nguyễn Trãi Gò Vấp"."""
    elsewhere = [span for span in spans if span.value.kind == "outside"]
    return [span for span in spans if not any(_is_of(span, other, words) for other in elsewhere)]


def _is_of(place: Span[_Name], other: Span[_Name], words: Words) -> bool:
    if place.value.kind != "place" or place.value.is_on_a_border or other.start < place.end:
        return False
    is_one_clause = not any(words.ends_clause[place.end - 1 : other.start])
    return (is_one_clause or other.value.key.startswith("quan-")) and _OF_A_DISTRICT.issuperset(
        words.plain[place.end : other.start]
    )


def _is_glued(words: Words, at: int) -> bool:
    """Whether one mark alone stands between a word and the next: "ht-45", "tl.29"."""
    gaps = _gaps(words.typed)
    return len(gaps) > at + 1 and gaps[at + 1] in _GLUE


@lru_cache(maxsize=8)
def _gaps(typed: str) -> list[str]:
    return _TOKEN.split(typed)


def _longest_sure_first(spans: Sequence[Span[_Name]]) -> list[Span[_Name]]:
    """The longest of overlapping names; an unverified one does not hide the ward's name inside it."""
    if not spans:
        return []
    sure = longest_first(span for span in spans if span.value.sure != "unverified")
    taken = {at for span in sure for at in range(span.start, span.end)}
    unsure = longest_first(span for span in spans if span.value.sure == "unverified")
    return sorted(
        [*sure, *(span for span in unsure if taken.isdisjoint(range(span.start, span.end)))], key=lambda s: s.start
    )


def _numbered(word: str, before: str, before_that: str, at: int) -> Iterable[Span[_Name]]:
    """Quarters are numbered anew in every ward: evidence only. Numbered wards and other districts lie elsewhere."""
    if quarter := _QUARTER.match(word):
        yield Span(at, at + 1, _Name(f"khu-pho-{quarter[1]}", "quarter"), word)
    elif before == "kp" or before == "ap" or (before == "pho" and before_that == "khu"):
        if _NUMBER.match(word):
            yield Span(at - 1 - (before == "pho"), at + 1, _Name(f"khu-pho-{word}", "quarter"), word)
    elif before in _DISTRICT_PREFIXES and word.isdigit() and word != "12" and 0 < int(word) <= NUMBERED_DISTRICTS:
        yield Span(at - 1, at + 1, _Name(f"quan-{int(word)}", "outside", decides=True), word)
    elif (
        (district := _OTHER_DISTRICT.match(word)) and district[1] != "12" and 0 < int(district[1]) <= NUMBERED_DISTRICTS
    ):
        yield Span(at, at + 1, _Name(f"quan-{int(district[1])}", "outside", decides=True), word)
    elif before in {"p", "phuong", "f"} and word.isdigit() and 0 < int(word) <= NUMBERED_WARDS:
        yield Span(at - 1, at + 1, _Name(f"phuong-{int(word)}", "outside", decides=True), word)


def _names(gazetteer: Gazetteer) -> Iterable[tuple[str, _Name]]:
    for ward, names in gazetteer.wards.items():
        for name in names.names:
            yield name, _Name(ward, "ward", (ward,), decides=True)
            yield f"phường {name}", _Name(ward, "ward", (ward,), decides=True)
        yield from ((name, _Name(ward, "ward", (ward,), decides=True)) for name in joined_parts(names.names[0]))
        half = _Name(ward, "ward", (ward,), decides=True, sure="guessed")
        yield from ((name, half) for name in halves(names.names[0]))
    for place in gazetteer.places:
        value = _Name(place.key, "place", place.wards, place.decides and place.sure != "unverified", place.sure)
        for name in place.names:
            is_person = place.kind == "street" and fold(name).plain[0] in _SURNAMES
            yield name, replace(value, is_person=is_person, is_on_a_border=place.kind in _BORDERS)
    for trap in gazetteer.traps:
        yield from ((name, _Name(trap.key, "outside", decides=True)) for name in trap.names)
    yield from ((name, _Name(_key(name), "outside", decides=True)) for name in gazetteer.outside.neighbours)
    yield from ((name, _Name(_key(name), "outside", decides=True)) for name in gazetteer.outside.wards)
    yield from ((name, _Name(_key(name), "far", decides=True)) for name in gazetteer.outside.far)
    yield from ((name, _Name("quan-12", "area")) for name in gazetteer.area_names)
    yield from ((phrase, _LOOK_ALIKE) for phrase in gazetteer.look_alikes)


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
