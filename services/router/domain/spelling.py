"""Guessing mistyped names: one syllable of a known name may be wrong by one letter, or sound alike.

A dictionary look-up for every three words of a text, however many names there are.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress, product
from typing import Generic, TypeVar

T = TypeVar("T")

SHORTEST, LONGEST = 2, 4
"""Names of so many syllables are guessed."""

SHORTEST_WRITTEN_OUT = 3
"""Letters of the word that stays whole when the others are cut: "t.an" may be anything."""

_SOUNDS_ALIKE = (
    (re.compile(r"^tr"), "ch"),
    (re.compile(r"^ph"), "f"),
    (re.compile(r"^gi|^d|^r"), "v"),
    (re.compile(r"^x"), "s"),
    (re.compile(r"y"), "i"),
    (re.compile(r"ng$|nh$"), "n"),
    (re.compile(r"ch$|c$"), "t"),
    (re.compile(r"^k|^q"), "c"),
    (re.compile(r"(.)\1+"), r"\1"),
)


_ONSETS = frozenset({"th", "tr", "ch", "nh", "ph"})
NUMBERS_FOR_LETTERS = str.maketrans("013457", "oieast")


@dataclass(frozen=True, slots=True)
class Guess(Generic[T]):
    """Words `start` to `end` (excluded) are taken for a name."""

    start: int
    end: int
    value: T


class Speller(Generic[T]):
    """Known names with one syllable left out each.

    Attributes:
        syllables: of all names.
    """

    def __init__(self, names: Iterable[tuple[Sequence[str], T]]) -> None:
        self._with_gap: dict[tuple[str, ...], list[tuple[str, T]]] = {}
        self._known: set[tuple[str, ...]] = set()
        self.syllables: set[str] = set()
        lengths: set[int] = set()
        for syllables, value in names:
            if not SHORTEST <= len(syllables) <= LONGEST:
                continue
            self._known.add(tuple(syllables))
            self.syllables.update(syllables)
            lengths.add(len(syllables))
            for gap in range(len(syllables)):
                rest = (*syllables[:gap], "", *syllables[gap + 1 :])
                entries = self._with_gap.setdefault(rest, [])
                if (syllables[gap], value) not in entries:
                    entries.append((syllables[gap], value))
        self._lengths = sorted(lengths, reverse=True)

    def guesses(self, words: Sequence[str], starts: Sequence[int] | None = None) -> Iterator[Guess[T]]:
        """What looks like a known name; longer ones first at each place, names written right are left out.

        Args:
            words: without diacritics.
            starts: where a name may begin; anywhere if not given.
        """
        if starts is not None and not starts:
            return
        known = list(map(self.syllables.__contains__, words))
        if not self._lengths or known.count(True) < self._lengths[-1] - 1:
            return
        # One syllable at most is wrong, so that the first or the second one is known.
        places = list(compress(range(len(words)), known))
        possible = {*places, *[at - 1 for at in places if at]}
        for start in sorted(possible) if starts is None else filter(possible.__contains__, starts):
            for length in self._lengths:
                if start + length > len(words) or known[start : start + length].count(False) > 1:
                    continue
                window = tuple(words[start : start + length])
                if window in self._known:
                    break
                for gap in range(length):
                    near = self._near(window, gap)
                    if near is not None:
                        yield Guess(start, start + length, near)
                        break

    def _near(self, window: tuple[str, ...], gap: int) -> T | None:
        """The one name that differs in this syllable only, and little; two are no guess."""
        entries = self._with_gap.get((*window[:gap], "", *window[gap + 1 :]))
        if not entries:
            return None
        fitting = [value for syllable, value in entries if is_near(window[gap], syllable)]
        return fitting[0] if len(fitting) == 1 else None


@lru_cache(maxsize=16_384)
def sound(syllable: str) -> str:
    """How a syllable without diacritics sounds, roughly, to somebody of the South."""
    for pattern, heard in _SOUNDS_ALIKE:
        syllable = pattern.sub(heard, syllable)
    return syllable


def is_near(written: str, wanted: str) -> bool:
    """Whether a syllable may be a slip for another: it sounds alike, or one letter is missing, doubled or exchanged."""
    if len(written) < 2 or written.isdigit():
        return False
    if not written.isalpha():
        return written.translate(NUMBERS_FOR_LETTERS) == wanted
    return (
        sound(written) == sound(wanted)
        or (len(wanted) > 2 and _one_slip(written, wanted))
        or (written in _ONSETS and wanted.startswith(written))
    )


def _one_slip(one: str, other: str) -> bool:
    if abs(len(one) - len(other)) > 1:
        return False
    if len(one) == len(other):
        differing = [at for at in range(len(one)) if one[at] != other[at]]
        if len(differing) == 1:
            # A wrong first letter makes another syllable more often than a slip.
            return differing[0] > 0
        return (
            len(differing) == 2
            and differing[1] == differing[0] + 1
            and (one[differing[0]] == other[differing[1]] and one[differing[1]] == other[differing[0]])
        )
    short, long = sorted((one, other), key=len)
    return any(long[:at] + long[at + 1 :] == short for at in range(len(long)))


def joined_parts(name: str) -> Iterator[str]:
    """A name with some of its words written together: "tân thớihiệp"."""
    words = name.split()
    for at in range(1, len(words) - 1):
        yield " ".join(["".join(words[: at + 1]), *words[at + 1 :]])
        yield " ".join([*words[:at], "".join(words[at:])])


def halves(name: str) -> Iterator[str]:
    """A name with some of its words cut to how they begin, never the last: "t thới hiệp", "th lộc"."""
    *words, last = name.split()
    if len(last) < SHORTEST_WRITTEN_OUT:
        return
    beginnings = [{word, word[0], word[: 1 + (word[:2] in _ONSETS)]} for word in words]
    for cut in product(*map(sorted, beginnings)):
        if (written := [*cut, last]) != name.split():
            yield " ".join(written)
