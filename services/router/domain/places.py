"""Finding places in a text: wards, ward-coded streets, streets, landmarks, and names that lie elsewhere.

The names are data (`data/gazetteer/`). A text is looked up once in one index, so that the cost of a message does not
grow with the number of places.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

from services.router.domain.gazetteer import (
    DISTRICT_PREFIXES,
    LOOK_ALIKE,
    NUMBER,
    QUARTER,
    WARD_PREFIXES,
    Certainty,
    Gazetteer,
    MentionKind,
    Name,
    Role,
    WardCodes,
    is_glued,
    names_of,
)
from services.router.domain.place_guesses import ALONE, BEGINS, CODE, GOES_ON, PlaceGuesser, any_of
from services.router.domain.text import PhraseIndex, Remembered, Span, Words, fold, longest_first
from services.router.domain.values import immutable


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


_OF_A_DISTRICT = frozenset({"quan", "q", "huyen", "o", "ben"})
_CODED = re.compile(r"^p?([a-z]{2,3}?)(\d{1,3}[a-z]{0,2})$")
_JOINED_CODE = re.compile(r"^([a-z]{6,})(\d{1,3}[a-z]{0,2})$")
_NUMBERED_END = re.compile(r"^([a-z]{3,5})(\d{1,3}[a-z]?)$")
_OTHER_DISTRICT = re.compile(r"^q(\d{1,2})$")
_LIKE_A_CODE = re.compile(r"[a-z]+\d{1,3}[a-z]{0,2}$")
_INTRODUCING = WARD_PREFIXES | {"duong", "hem", "d"}

_MARKED_PREFIXES = frozenset(fold("quận phường phố ấp").marked)

_MAY_BE_NAME = re.compile(any_of(BEGINS) + b"(?=" + any_of(GOES_ON) + b")|" + any_of(ALONE))
_MAY_BE_CODE = re.compile(any_of(CODE))

_SIGNS = frozenset[Role]({"theirs", "arrived", "here", "moved"})
"""Roles that say something of a place without standing right before it."""

WORDS_BEFORE = 4
NUMBERED_WARDS = 28
NUMBERED_DISTRICTS = 12


class PlaceFinder:
    """The gazetteer, indexed; the cost of a search does not grow with its size."""

    def __init__(self, gazetteer: Gazetteer) -> None:
        self._codes = WardCodes(gazetteer)
        self._joined = {
            "".join(fold(name).plain): ward for ward, names in gazetteer.wards.items() for name in names.names
        }
        self._ends = frozenset(fold(name).plain[-1] for names in gazetteer.wards.values() for name in names.names)
        self._persons = frozenset(word for phrase in gazetteer.person_words for word in fold(phrase).plain[-1:])
        self._streets = frozenset(word for phrase in gazetteer.street_words for word in fold(phrase).plain[-1:])
        self._traps = {trap.like: trap for trap in gazetteer.traps if trap.like is not None}
        names = list(names_of(gazetteer))
        self._names: PhraseIndex[Name] = PhraseIndex(names, accepts_bare=True)
        self._guesser = PlaceGuesser(gazetteer, names, self._codes, streets=self._streets, persons=self._persons)
        self._known = self._flags_of_known_words()
        self._flags = Remembered(self._flags_of).__getitem__
        self._roles: PhraseIndex[Role] = PhraseIndex(
            (phrase, role) for role, phrases in gazetteer.roles.items() for phrase in phrases
        )
        self._amounts: PhraseIndex[bool] = PhraseIndex(
            [(phrase, True) for phrase in gazetteer.amounts] + [(phrase, False) for phrase in gazetteer.no_amounts]
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
        spans = [span for span in found if span.value is not LOOK_ALIKE and not self._is_a_person(span, words)]
        spans = _without_namesakes(spans, words)
        if not any(_says_where(span.value) for span in spans):
            spans += self._guesser.guess(words, flags, candidates, found)
        if not spans:
            return []
        traps = {span.value for span in self._trap_words.find(words)}
        roles = self._roles.find(words)
        return [self._mention(span, words, traps, roles) for span in spans]

    def _mention(self, span: Span[Name], words: Words, traps: set[str], roles: Sequence[Span[Role]]) -> Mention:
        name = span.value
        role = _role_before(span, roles, words)
        if name.kind == "ward":
            ward = name.wards[0]
            if ward in traps:
                return Mention(
                    self._traps[ward].key, "outside", (), decides=True, role=role, sure="verified", start=span.start
                )
            if span.end < len(words) and NUMBER.match(words.plain[span.end]) and not words.ends_clause[span.end - 1]:
                after = words.plain[span.end + 1] if span.end + 1 < len(words) else ""
                if after not in self._codes.counted:
                    coded = self._codes.street(ward, words.plain[span.end])
                    name = coded if name.sure != "guessed" else replace(coded, sure="guessed")
        return Mention(name.key, name.kind, name.wards, name.decides, role, name.sure, span.start)

    def _is_a_person(self, span: Span[Name], words: Words) -> bool:
        """Streets bear people's names, and people here bear the same: "tên Nguyễn Thị Sáu" is no street."""
        if not span.value.is_person or span.start == 0:
            return False
        before = words.plain[max(0, span.start - 3) : span.start]
        return before[-1] in self._persons and not self._streets.intersection(before)

    def _coded(self, words: Words, places: Iterable[int]) -> Iterable[Span[Name]]:
        """Initials with or without a number, numbered quarters, districts and wards."""
        plain = words.plain
        for at in places:
            word = plain[at]
            before = plain[at - 1] if at else ""
            after = plain[at + 1] if at + 1 < len(plain) else ""
            if (coded := _CODED.match(word)) and coded[1] in self._codes.initials:
                yield Span(at, at + 1, self._codes.street(self._codes.initials[coded[1]], coded[2]), word)
            elif (joined := _JOINED_CODE.match(word)) and (
                ward := self._joined.get(joined[1].removeprefix("phuong")) or self._joined.get(joined[1][1:])
            ):
                yield Span(at, at + 1, self._codes.street(ward, joined[2]), word)
            elif (end := _NUMBERED_END.match(word)) and (span := self._numbered_end(plain, at, *end.groups())):
                yield span
            elif (initials := word if word in self._codes.initials else word.removeprefix("p")) in self._codes.initials:
                if name := self._initials_name(initials, words, at, before, after, has_prefix=initials != word):
                    yield Span(at, at + 1 + (name.kind == "coded_street"), name, word)
            elif word.isdigit() or word[0] in "qka":
                for span in _numbered(word, before, plain[at - 2] if at > 1 else "", at):
                    if span.start == at or not (_is_misread(at - 1, words) or _is_amount(at, self._amounts, words)):
                        yield span

    def _flags_of_known_words(self) -> dict[str, int]:
        beginnings = self._names.tree.children or {}
        known: defaultdict[str, int] = defaultdict(int, self._guesser.flags())
        for flag, words in (
            (BEGINS, beginnings),
            (GOES_ON, chain.from_iterable(node.children or () for node in beginnings.values())),
            (ALONE, (word for word, node in beginnings.items() if node.entry is not None)),
            (CODE, (word for initials in self._codes.initials for word in (initials, f"p{initials}"))),
        ):
            for word in words:
                known[word] |= flag
        return dict(known)

    def _flags_of(self, word: str) -> int:
        """The bits of a word; whatever `_coded` may take for a code has that bit, most words are only words."""
        flags = self._known.get(word, 0)
        return flags if word.isalpha() or not (word.isdigit() or _LIKE_A_CODE.match(word)) else flags | CODE

    def _numbered_end(self, plain: Sequence[str], at: int, last: str, number: str) -> Span[Name] | None:
        """A ward whose number sticks to its last syllable: "hiệp thành13"."""
        for start in (at - 1, at - 2):
            if start >= 0 and last in self._ends and (ward := self._joined.get("".join(plain[start:at]) + last)):
                return Span(start, at + 1, self._codes.street(ward, number), plain[at])
        return None

    def _initials_name(
        self, initials: str, words: Words, at: int, before: str, after: str, *, has_prefix: bool
    ) -> Name | None:
        ward = self._codes.initials[initials]
        is_introduced = has_prefix or before in _INTRODUCING
        if NUMBER.match(after) and (not words.ends_clause[at] or is_glued(words, at)):
            counts = words.plain[at + 2] if at + 2 < len(words) else ""
            is_amount = counts in self._codes.counted or after[-1] == "k"
            if initials not in self._codes.weak or is_introduced or words.is_capital(at):
                return self._codes.street(ward, after)
            if not is_amount and after.lstrip("0") in self._codes.numbers.get(ward, ()):
                return self._codes.street(ward, after)
        if initials not in self._codes.weak or has_prefix or before in WARD_PREFIXES:
            return Name(ward, "ward", (ward,), decides=True)
        return None


def _says_where(name: Name) -> bool:
    """Whether nothing more has to be guessed; somebody from far away may live here all the same."""
    return name.kind in {"ward", "coded_street", "outside"} or (name.decides and name.kind != "far")


def _without_namesakes(spans: list[Span[Name]], words: Words) -> list[Span[Name]]:
    """A place whose name another district follows lies there: "Lê Thị Riêng, quận 1", "trường Nguyễn Trãi Gò Vấp"."""
    elsewhere = [span for span in spans if span.value.kind == "outside"]
    return [span for span in spans if not any(_is_of(span, other, words) for other in elsewhere)]


def _is_of(place: Span[Name], other: Span[Name], words: Words) -> bool:
    if place.value.kind != "place" or place.value.is_on_a_border or other.start < place.end:
        return False
    is_one_clause = not any(words.ends_clause[place.end - 1 : other.start])
    return (is_one_clause or other.value.key.startswith("quan-")) and _OF_A_DISTRICT.issuperset(
        words.plain[place.end : other.start]
    )


def _longest_sure_first(spans: Sequence[Span[Name]]) -> list[Span[Name]]:
    """The longest of overlapping names; an unverified one does not hide the ward's name inside it."""
    if not spans:
        return []
    sure = longest_first(span for span in spans if span.value.sure != "unverified")
    taken = {at for span in sure for at in range(span.start, span.end)}
    unsure = longest_first(span for span in spans if span.value.sure == "unverified")
    return sorted(
        [*sure, *(span for span in unsure if taken.isdisjoint(range(span.start, span.end)))], key=lambda s: s.start
    )


def _numbered(word: str, before: str, before_that: str, at: int) -> Iterable[Span[Name]]:
    """Quarters are numbered anew in every ward: evidence only. Numbered wards and other districts lie elsewhere."""
    if quarter := QUARTER.match(word):
        yield Span(at, at + 1, Name(f"khu-pho-{quarter[1]}", "quarter"), word)
    elif before == "kp" or before == "ap" or (before == "pho" and before_that == "khu"):
        if NUMBER.match(word):
            yield Span(at - 1 - (before == "pho"), at + 1, Name(f"khu-pho-{word}", "quarter"), word)
    elif before in DISTRICT_PREFIXES and word.isdigit() and word != "12" and 0 < int(word) <= NUMBERED_DISTRICTS:
        yield Span(at - 1, at + 1, Name(f"quan-{int(word)}", "outside", decides=True), word)
    elif (
        (district := _OTHER_DISTRICT.match(word)) and district[1] != "12" and 0 < int(district[1]) <= NUMBERED_DISTRICTS
    ):
        yield Span(at, at + 1, Name(f"quan-{int(district[1])}", "outside", decides=True), word)
    elif before in {"p", "phuong", "f"} and word.isdigit() and 0 < int(word) <= NUMBERED_WARDS:
        yield Span(at - 1, at + 1, Name(f"phuong-{int(word)}", "outside", decides=True), word)


def _is_misread(at: int, words: Words) -> bool:
    """Whether the word before a number is another one with marks: "chủ quán 5 triệu"."""
    return words.marked[at] != words.plain[at] and words.marked[at] not in _MARKED_PREFIXES


def _is_amount(at: int, amounts: PhraseIndex[bool], words: Words) -> bool:
    """Whether the number there counts what follows, or tells the time: "lên phường 3 lần", "phường 8 giờ mở cửa"."""
    after = at + 1
    while after < len(words) and words.plain[after].isdigit() and _goes_on(words, after - 1):
        after += 1  # "2-3 lần"
    if not _goes_on(words, after - 1):
        return False
    found = amounts.fitting(words, amounts.tree.candidates(words.plain, sorted({at, after})))
    longest = max(found, key=lambda span: span.end, default=None)
    if longest is None or not longest.value:
        return False
    return longest.end == len(words) or not words.plain[longest.end].isdigit()  # a date: "quận 3 ngày 12"


def _goes_on(words: Words, at: int) -> bool:
    return at + 1 < len(words) and (not words.ends_clause[at] or is_glued(words, at))


def _role_before(place: Span[Name], roles: Sequence[Span[Role]], words: Words) -> Role:
    """The role that the words just before a place give it; the longest phrase that ends nearest.

    Elsewhere is where somebody comes from when the words say that they are here now.
    """
    start = place.start
    is_elsewhere = place.value.kind in {"far", "outside"}
    if is_elsewhere and _is_here_now(place, roles, words):
        return "origin"
    before = [span for span in roles if span.value not in _SIGNS and _is_before(span, start, words)]
    best = min(before, key=lambda span: (start - span.end, span.start - span.end), default=None)
    if best is None:
        return "unsaid"
    is_theirs = is_elsewhere and best.value in {"residence", "incident"} and _is_theirs(best, roles, words)
    return "theirs" if is_theirs else best.value


def _is_before(span: Span[Role], start: int, words: Words) -> bool:
    return 0 <= start - span.end < WORDS_BEFORE and not any(words.ends_clause[span.end - 1 : start - 1])


def _is_theirs(role: Span[Role], roles: Sequence[Span[Role]], words: Words) -> bool:
    """Whether the one who lives there is somebody else: "chồng em ở", "chủ nhà ở"."""
    return any(
        span.value == "theirs"
        and span.start < role.start <= span.end
        and not any(words.ends_clause[span.start : role.start])
        for span in roles
    )


def _is_here_now(place: Span[Name], roles: Sequence[Span[Role]], words: Words) -> bool:
    """Whether the words put the matter here and not there; what stands right before a place says it of that place."""
    is_far = place.value.kind == "far"
    signs = [span for span in roles if span.value == "moved" or (is_far and span.value == "here")]
    if any(_is_before(span, place.start, words) for span in signs):
        return False
    return bool(signs) or (is_far and any(span.value == "arrived" and span.start == place.end for span in roles))
