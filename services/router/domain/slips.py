"""Slips of the finger inside words: a letter missed, added, exchanged or swapped, undone where the neighbours say so.

Only what is no syllable is touched, and only if the word before or after stands beside the right word in a known
phrase: "xăn cước" is "căn cước", and "xăn" alone stays what it is.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

SHORTEST, LONGEST = 3, 9
"""Letters of a word that may be a slip; a shorter one may be anything."""

Form = tuple[str, str]


class Slips:
    """Words of known phrases with one letter left out each, and which stand beside each other."""

    def __init__(self, phrases: Iterable[Sequence[Form]]) -> None:
        """Index the phrases.

        Args:
            phrases: their words, each plain and marked.
        """
        self._words: set[str] = set()
        self._pairs: dict[tuple[str, str], tuple[str, str]] = {}
        for phrase in phrases:
            self._words.update(plain for plain, _ in phrase if plain.isalpha() and len(plain) > 1)
            for one, two in itertools.pairwise(phrase):
                self._pairs.setdefault((one[0], two[0]), (one[1], two[1]))
        self._with_gap: defaultdict[str, list[str]] = defaultdict(list)
        for word in sorted(self._words):
            for left_out in _with_gaps(word):
                self._with_gap[left_out].append(word)
        self.candidates = lru_cache(maxsize=16_384)(self._candidates)

    def meant(self, before: str, slip: str, after: str) -> Form | None:
        """The one known word that fits best between its neighbours; None where none fits or two do.

        Args:
            before: the plain word before, empty at the start.
            slip: a plain word that is none.
            after: the plain word after, empty at the end.
        """
        fits: dict[int, list[Form]] = {}
        for word in self.candidates(slip):
            left, right = self._pairs.get((before, word)), self._pairs.get((word, after))
            if left or right:
                marked = left[1] if left else right[0] if right else word
                fits.setdefault(bool(left) + bool(right), []).append((word, marked))
        best = fits[max(fits)] if fits else []
        return best[0] if len(best) == 1 else None

    def _candidates(self, slip: str) -> tuple[str, ...]:
        if not SHORTEST <= len(slip) <= LONGEST or not slip.isalpha() or not slip.isascii():
            return ()
        found = set(self._with_gap.get(slip, ()))
        for left_out in _with_gaps(slip):
            found.update(self._with_gap.get(left_out, ()))
            if left_out in self._words:
                found.add(left_out)
        return tuple(sorted(word for word in found if word != slip and _is_one_slip(slip, word)))


def _with_gaps(word: str) -> set[str]:
    return {word[:at] + word[at + 1 :] for at in range(len(word))}


def _is_one_slip(one: str, other: str) -> bool:
    """Whether one letter is missing, too many or another, or two neighbours are swapped; both share a gap already."""
    if len(one) != len(other):
        return True
    differing = [at for at in range(len(one)) if one[at] != other[at]]
    first, last = differing[0], differing[-1]
    return first == last or (last == first + 1 and one[first] == other[last] and one[last] == other[first])
