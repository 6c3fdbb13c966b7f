"""What the model sees of a text: words, pairs of words, parts of words, and what the rule book found in it.

This is the definition, and what training reads; the router finds the same numbers for many texts at once
(`feature_table.py`), and a test compares the two.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from typing import cast

from services.router.domain.text import Words
from services.router.domain.understanding import Findings

Lookup = Callable[[str], int | None]
"""A feature's number; None for one that the model does not know."""

GROUPS = ("words", "pairs", "parts", "concepts", "lexicon", "form")
"""Groups of features. Each is weighted by its own size, so that a long text counts no more than a short one."""


def group_exponent(group: str) -> float:
    """One feature counts 1 over the size of its group to the power of this."""
    return 0.25 if group in {"concepts", "lexicon"} else 0.5


def group_weight(group: str, size: int) -> float:
    """What one feature counts in a group of this size."""
    return size ** -group_exponent(group) if size else 0.0


_GROUP_OF = {"w": "words", "m": "words", "b": "pairs", "d": "pairs", "p": "parts", "l": "lexicon", "u": "lexicon"}
_GROUP_OF |= dict.fromkeys("cnkrR", "concepts") | dict.fromkeys(("f", "first", "last"), "form")


def group_of(name: str) -> str:
    """The group that a feature's name belongs to."""
    return _GROUP_OF[name.partition(":")[0]]


PART_LENGTHS = (3, 4)
MAX_LETTERS_OF_A_WORD = 100
"""So many are looked at: the longest written word, several joined, has 47."""

LONG_TEXT_WORDS = (3, 6, 12, 25, 50)


class FeatureReader:
    """Turns findings into numbers of features, group by group."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._word = lru_cache(maxsize=32_768)(self._word_features)
        self.parts = lru_cache(maxsize=32_768)(self._part_features)

    def read(self, findings: Findings) -> tuple[list[int], ...]:
        """Feature numbers of a text, each once, in one list for each of GROUPS; of parts, those of each plain word."""
        words = findings.weighed
        forms = dict.fromkeys(zip(words.plain, words.marked, strict=True))
        return (
            list(dict.fromkeys(chain.from_iterable(map(self._word, forms)))),
            self._known(pair_names(words)),
            list(chain.from_iterable(map(self.parts, dict.fromkeys(words.plain)))),
            self._known(concept_names(findings)),
            self._known(findings.lexicon),
            self._known(form_names(findings)),
        )

    def _known(self, names: Sequence[str]) -> list[int]:
        numbers = dict.fromkeys(map(self._lookup, names))
        numbers.pop(None, None)
        return cast("list[int]", list(numbers))

    def _word_features(self, form: tuple[str, str]) -> list[int]:
        plain, marked = form
        return self._known((f"w:{plain}", f"m:{marked}") if marked != plain else (f"w:{plain}",))

    def _part_features(self, word: str) -> list[int]:
        return self._known([f"p:{part}" for part in parts_of(word)])


def pair_names(words: Words) -> list[str]:
    """Words side by side, without their marks and with them, as names of features."""
    names = [f"b:{one} {two}" for one, two in pairwise(words.plain)]
    names += [f"d:{one} {two}" for one, two in pairwise(words.marked)]
    return names


def concept_names(findings: Findings) -> list[str]:
    """What the rule book found, as names of features."""
    names = [f"c:{name}" for name in findings.found]
    names += [f"n:{name}" for name in findings.negated]
    names += [f"k:{mask.phrase}" for mask in findings.masks]
    for match in findings.matches:
        names += (f"r:{match.rule.key}", f"R:{match.rule.category}")
    return names


def form_names(findings: Findings) -> list[str]:
    """Length, first and last words and the like, as names of features."""
    words = findings.weighed
    count = len(words)
    names = [f"f:longer_than_{limit}" for limit in LONG_TEXT_WORDS if count > limit]
    if findings.has_question_mark:
        names.append("f:question_mark")
    if any(map(is_long_number, words.plain)):
        names.append("f:long_number")
    names += [f"first:{word}" for word in words.plain[:2]]
    names += [f"last:{word}" for word in words.plain[-2:]]
    return names


def parts_of(word: str) -> list[str]:
    """Some letters in a row of a plain word, its ends marked."""
    edged = f"<{word}>"[:MAX_LETTERS_OF_A_WORD]
    return [edged[at : at + n] for n in PART_LENGTHS for at in range(len(edged) - n + 1) if n < len(edged)]


def is_long_number(word: str) -> bool:
    """Whether a word is something like a telephone number."""
    return len(word) >= 8 and word.isdigit()
