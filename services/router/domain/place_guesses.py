"""Guessing wards and places that are not written as they should be: wrong marks, letters missing, cut or pulled apart.

A guess costs what it says: it is made only where nothing named stands in the text, and an officer sees the doubt.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from services.router.domain.gazetteer import (
    MARKED_SURNAMES,
    NUMBER,
    QUARTER,
    WARD_PREFIXES,
    Gazetteer,
    Name,
    WardCodes,
    is_glued,
    names_area,
)
from services.router.domain.spelling import SHORTEST, Guess, Speller
from services.router.domain.text import Candidate, Entry, Span, Words, fold

# What a word may be, one bit each: a text is looked through as these bytes. The first four are the finder's.
BEGINS, GOES_ON, ALONE, CODE, _INTRODUCES, _SYLLABLE, _OF_LONG_WARD, _INITIAL = (1 << bit for bit in range(8))


def any_of(bits: int) -> bytes:
    """A pattern for one byte that has one of these bits."""
    return b"[" + re.escape(bytes(flags for flags in range(256) if flags & bits)) + b"]"


# One syllable of a guessed name may be wrong, so that the first or the second is known, and two of three.
_MAY_INTRODUCE = re.compile(any_of(_INTRODUCES) + b"(?=(?s:.?)" + any_of(_SYLLABLE) + b")")
_MAY_BE_LONG_WARD = re.compile(any_of(_OF_LONG_WARD) + b"(?s:.?)" + any_of(_OF_LONG_WARD))
_MAY_BE_INITIALS = re.compile(any_of(_INITIAL) + b"{2,}")

_TOKEN = re.compile(r"[^\W_]+")
_BETWEEN_INITIALS = frozenset({"", ".", "-", "_"})
_WARD = fold("phường").marked[0]
_QUARTERS = frozenset({"kp", "pho", "ap"})


class PlaceGuesser:
    """Names of the gazetteer by their syllables and sounds."""

    def __init__(
        self,
        gazetteer: Gazetteer,
        names: Sequence[tuple[str, Name]],
        codes: WardCodes,
        *,
        streets: frozenset[str],
        persons: frozenset[str],
    ) -> None:
        """Index the names.

        Args:
            gazetteer: what else stands around a ward.
            names: all names of the index.
            codes: initials and numbered streets.
            streets: words before a street.
            persons: words before a person's name.
        """
        self._codes, self._streets, self._persons = codes, streets, persons
        self._introducing = streets | WARD_PREFIXES
        self._ordinary = frozenset(fold(phrase).marked for phrase in gazetteer.ordinary)
        self._elsewhere = frozenset(fold(phrase).marked for phrase in gazetteer.near_namesakes)
        self._before_ward = frozenset(fold(word).marked[0] for word in gazetteer.before_ward)
        self._letters = frozenset("".join(codes.initials)) | {"p"}
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

    def flags(self) -> dict[str, int]:
        """The bits that guessing asks for, by word."""
        found: dict[str, int] = {}
        for flag, words in (
            (_INTRODUCES, self._introducing),
            (_SYLLABLE, self._speller.syllables),
            (_OF_LONG_WARD, self._long_wards.syllables),
            (_INITIAL, self._letters),
        ):
            found |= {word: found.get(word, 0) | flag for word in words}
        return found

    def guess(
        self,
        words: Words,
        flags: bytes,
        candidates: Iterable[Candidate[list[Entry[Name]]]],
        found: Sequence[Span[Name]],
    ) -> Iterable[Span[Name]]:
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

    def _is_meant(self, entry: Entry[Name], words: Words, start: int, end: int) -> bool:
        """Whether a ward's name with other marks, or half in initials, is one; of two words it takes more to tell."""
        plain = words.plain[start:end]
        right = self._right(words, start, entry.marked)
        is_half = entry.value.sure == "guessed"
        if True not in right or (is_half and False in right):
            return False
        if plain[0] in WARD_PREFIXES:
            return right[0]  # "Phương" is a person
        if self._follows_prefix(words, start):
            return True
        if is_half and not _is_cut_on_purpose(words, start, end):
            return False
        if max(end - start, entry.value.key.count("-") + 1) > SHORTEST:
            return words.marked[start:end] not in self._ordinary and not self._follows_person(words, start)
        return end - start > 1 and self._is_supported(words, start, end, is_half=is_half)

    def _is_meant_place(self, entry: Entry[Name], words: Words, start: int, end: int) -> bool:
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

    def _is_supported(self, words: Words, start: int, end: int, *, is_half: bool) -> bool:
        """Whether what stands around two words, or their capitals, makes a ward of them."""
        plain = words.plain
        if names_area(plain, end):
            return True
        if words.marked[start:end] in self._ordinary or self._follows_person(words, start):
            return False
        if self._follows_preposition(words, start):
            return True
        after = plain[end : end + 2]
        if after and not words.ends_clause[end - 1] and NUMBER.match(after[0]) and after[-1] not in self._codes.counted:
            return any(after[0].lstrip("0") in numbers for numbers in self._codes.numbers.values())
        return not is_half and _has_capitals(words, start, end)

    def _follows_prefix(self, words: Words, start: int) -> bool:
        before = words.marked[start - 1] if start else ""
        return before in WARD_PREFIXES or before == _WARD

    def _follows_preposition(self, words: Words, start: int) -> bool:
        """Whether "ở", "chợ" or the number of a quarter stands before a place."""
        if not start or (words.ends_clause[start - 1] and not QUARTER.match(words.plain[start - 1])):
            return False
        before = words.plain[max(0, start - 2) : start]
        return (
            words.marked[start - 1] in self._before_ward
            or QUARTER.match(before[-1]) is not None
            or (before[0] in _QUARTERS and NUMBER.match(before[-1]) is not None)
        )

    def _follows_person(self, words: Words, start: int) -> bool:
        if not start or words.ends_clause[start - 1] or words.marked[start - 1] in self._before_ward:
            return False
        return words.plain[start - 1] in self._persons or words.marked[start - 1] in MARKED_SURNAMES

    def _spaced_initials(self, words: Words, start: int, end: int) -> Iterable[Span[Name]]:
        """Initials with marks or spaces between them: "H.T 22", "t t n 17", "ở T.T.N"."""
        plain = words.plain
        letters = "".join(plain[start:end])
        has_prefix = letters not in self._codes.initials and letters[0] == "p"
        initials = letters[has_prefix:]
        if initials not in self._codes.initials or _is_letter(words, start - 1) or _is_letter(words, end):
            return
        gaps = [words.gap_after(at) for at in range(start, end)]
        if not {gap.strip() for gap in gaps[:-1]} <= _BETWEEN_INITIALS or any(
            map(_has_other_mark, words.marked[start:end])
        ):
            return
        ward = self._codes.initials[initials]
        number, counts = [*plain[end : end + 2], "", ""][:2]
        is_same_gap = gaps[-1] == gaps[-2] or (gaps[-1] == ". " and initials not in self._codes.weak)
        follows = not words.ends_clause[end - 1] or is_glued(words, end - 1) or is_same_gap
        if number == "so":
            number, counts = counts, ""
        if follows and number.lstrip("0") in self._codes.numbers.get(ward, ()) and counts not in self._codes.counted:
            yield Span(start, plain.index(number, end) + 1, self._codes.street(ward, number), "")
        elif self._follows_person(words, start):
            return
        elif (
            self._follows_prefix(words, start)
            or ((has_prefix or self._follows_preposition(words, start)) and initials not in self._codes.weak)
            or (has_prefix and words.ends_clause[start] and len(set(gaps[:-1])) > 1)  # "P. T.X."
        ):
            yield Span(start, end, Name(ward, "ward", (ward,), decides=True), "")

    def _misspelt(self, words: Words, flags: bytes, found: Sequence[Span[Name]]) -> Iterable[Span[Name]]:
        """Names with one syllable mistyped; a two-syllable one only after "phường", a person's name after "đường"."""
        plain = words.plain
        guesses: list[Guess[Name]] = []
        if introduced := [before.end() for before in _MAY_INTRODUCE.finditer(flags)]:
            guesses += [one for one in self._speller.guesses(plain, introduced) if self._is_introduced(one, words)]
        if _MAY_BE_LONG_WARD.search(flags):
            guesses += [one for one in self._long_wards.guesses(plain) if self._has_marks(one, words)]
        if told := [start for start in self._told_starts(words, found) if self._may_be_short(plain, start)]:
            guesses += [one for one in self._short_wards.guesses(plain, told) if self._is_told(one, words)]
        return (Span(guess.start, guess.end, guess.value, "") for guess in guesses)

    def _told_starts(self, words: Words, found: Sequence[Span[Name]]) -> list[int]:
        """Where a ward is to be expected: after "ở" or a quarter, before "quận 12"."""
        starts = [span.start - SHORTEST if span.value.kind == "area" else span.end for span in found]
        if not self._before_ward.isdisjoint(words.marked):
            starts += [at for at, word in enumerate(words.marked, 1) if word in self._before_ward]
        return sorted(starts)

    def _may_be_short(self, plain: Sequence[str], start: int) -> bool:
        return start >= 0 and not self._short_wards.syllables.isdisjoint(plain[start : start + SHORTEST])

    def _is_introduced(self, guess: Guess[Name], words: Words) -> bool:
        before = words.plain[guess.start - 1]
        if guess.value.kind == "ward":
            return before in WARD_PREFIXES
        return before in self._streets and (guess.end - guess.start > SHORTEST or self._has_a_word(guess, words))

    def _has_a_word(self, guess: Guess[Name], words: Words) -> bool:
        """Whether one of two words is a syllable of a name, with its marks; the other no scrap, nor after a comma."""
        written = words.marked[guess.start : guess.end]
        return (
            not words.ends_clause[guess.start]
            and min(map(len, words.plain[guess.start : guess.end])) > SHORTEST
            and any(word in self._marked_syllables for word in written)
        )

    def _has_marks(self, guess: Guess[Name], words: Words) -> bool:
        """Whether no more than the mistyped one of several syllables is wrong: "tân thời hiện" is no ward."""
        wanted = self._wards_marked[guess.value.key]
        if guess.end - guess.start != len(wanted):
            return guess.end - guess.start > SHORTEST
        return (
            self._right(words, guess.start, wanted).count(False) <= 1
            or self._follows_prefix(words, guess.start)
            or names_area(words.plain, guess.end)
        )

    def _is_told(self, guess: Guess[Name], words: Words) -> bool:
        """Whether two words, one of them mistyped, are a ward: the other one has its marks, and more than that."""
        if names_area(words.plain, guess.end):
            return True
        written, wanted = words.marked[guess.start : guess.end], self._wards_marked[guess.value.key]
        return (
            len(written) == len(wanted)
            and any(one == right and not one.isascii() for one, right in zip(written, wanted, strict=True))
            and self._follows_preposition(words, guess.start)
            and not self._follows_person(words, guess.start)
        )


def _is_letter(words: Words, at: int) -> bool:
    """Whether a bare single letter stands there, so that initials beside it are a person's."""
    return (
        0 <= at < len(words) and len(words.plain[at]) == 1 and words.marked[at].isalpha() and words.marked[at].isascii()
    )


def _has_other_mark(letter: str) -> bool:
    return not letter.isascii() and letter != "đ"


def _is_cut_on_purpose(words: Words, start: int, end: int) -> bool:
    """Whether single letters are capitals or have a full stop: "T.Lộc"; "h thành" may be "giờ thành"."""
    return all(
        len(words.plain[at]) > 1 or words.is_capital(at) or words.gap_after(at).startswith(".")
        for at in range(start, end)
    )


def _has_capitals(words: Words, start: int, end: int) -> bool:
    """Whether words begin with capitals, in a text that is not all in capitals."""
    typed = _TOKEN.findall(words.typed)
    return (
        len(typed) == len(words) and not words.typed.isupper() and all(word[0].isupper() for word in typed[start:end])
    )
