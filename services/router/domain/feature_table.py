"""The features of many texts at once: the numbers that `FeatureReader` finds, as arrays, and the sums of their weights.

What belongs to one word is worked out once and kept in arrays, so that a batch costs some look-ups in numpy and one
dictionary look-up for each word.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from services.router.domain.features import FeatureReader, concept_names, form_names, group_exponent
from services.router.domain.understanding import Findings

K = TypeVar("K", bound=Hashable)
T = TypeVar("T", bound=np.generic)

Numbers = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

MAX_FORMS = 32_768
"""So many words are remembered; Vietnamese has some 7,000 written syllables, the rest are names and slips."""

UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Summed:
    """What the features of texts come to.

    Attributes:
        scores: a row for each text, a column for each column of the weights.
        owners: of each word and each pair of words, the text it stands in.
        numbers: their features.
        weights: what each of them counts.
    """

    scores: Numbers
    owners: Indices
    numbers: Indices
    weights: Numbers


class FeatureTable:
    """Features with their weights."""

    def __init__(self, names: Sequence[str], weights: Numbers) -> None:
        """Index the features.

        Args:
            names: as `FeatureReader` makes them, in the order of the rows.
            weights: a row for each feature.
        """
        by_kind: dict[str, dict[str, int]] = {"b:": {}, "d:": {}}
        others: dict[str, int] = {}
        for at, name in enumerate(names):
            by_kind.get(name[:2], others)[name] = at
        self._lookup = others.get
        self._pairs, self._marked_pairs = _Pairs(by_kind["b:"]), _Pairs(by_kind["d:"])
        self._weights = weights
        self._parts_of = FeatureReader(self._lookup).parts
        self._forget()

    def _forget(self) -> None:
        self._forms: _Numbered[tuple[str, str]] = _Numbered(self._read_form)
        self._words: _Numbered[str] = _Numbered(self._read_word)
        # By form: number of the word, of the marked word, in pairs, in marked pairs, and of the plain word in `_words`.
        self._of_form = _grown(np.zeros((0, 5), dtype=np.intp))
        # By plain word: the sum of the weights of its parts, and how many it has.
        self._parts = _grown(np.zeros((0, self._weights.shape[1]), dtype=np.float32))
        self._part_counts = _grown(np.zeros(0, dtype=np.intp))

    def _read_form(self, form: tuple[str, str], at: int) -> None:
        plain, marked = form
        if at == len(self._of_form):
            self._of_form = _grown(self._of_form)
        self._of_form[at] = (
            self._number(f"w:{plain}"),
            self._number(f"m:{marked}") if marked != plain else UNKNOWN,
            self._pairs.word(plain),
            self._marked_pairs.word(marked),
            self._words[plain],
        )

    def _read_word(self, word: str, at: int) -> None:
        if at == len(self._parts):
            self._parts, self._part_counts = _grown(self._parts), _grown(self._part_counts)
        parts = self._parts_of(word)
        self._parts[at] = self._weights[parts].sum(axis=0)
        self._part_counts[at] = len(parts)

    def _number(self, name: str) -> int:
        number = self._lookup(name)
        return UNKNOWN if number is None else number

    def _known(self, names: Sequence[str]) -> list[int]:
        numbers = dict.fromkeys(map(self._lookup, names))
        numbers.pop(None, None)
        return cast("list[int]", list(numbers))

    def sum(self, findings: Sequence[Findings]) -> Summed:
        """Add up the weights of all features of each text; each gets the very sum it would get alone."""
        if len(self._forms) > MAX_FORMS:
            self._forget()
        count, size = len(findings), len(self._weights)
        texts = [[*map(self._forms.__getitem__, zip(f.words.plain, f.words.marked, strict=True))] for f in findings]
        owners = np.repeat(np.arange(count), [*map(len, texts)])
        forms = np.fromiter(chain.from_iterable(texts), dtype=np.intp, count=len(owners))
        word, marked, in_pairs, in_marked_pairs, plain = self._of_form[forms].T
        words = _each_once(owners, (word, marked), size)
        inside = owners[1:] == owners[:-1]
        pairs = _each_once(
            owners[1:],
            (self._pairs.numbers(in_pairs, inside), self._marked_pairs.numbers(in_marked_pairs, inside)),
            size,
        )
        plain_words = _each_once(owners, (plain,), len(self._words))
        part_counts = np.bincount(plain_words[0], weights=self._part_counts[plain_words[1]], minlength=count)
        word_weights = _weights("words", np.bincount(words[0], minlength=count))
        pair_weights = _weights("pairs", np.bincount(pairs[0], minlength=count))
        scores = (
            word_weights[:, np.newaxis] * _sums(self._weights, *words, count)
            + pair_weights[:, np.newaxis] * _sums(self._weights, *pairs, count)
            + _weights("parts", part_counts)[:, np.newaxis] * _sums(self._parts, *plain_words, count)
        )
        named: tuple[tuple[str, Callable[[Findings], Sequence[str]]], ...] = (
            ("concepts", concept_names),
            ("lexicon", lambda found: found.lexicon),
            ("form", form_names),
        )
        for group, names_of in named:
            rows = [self._known(names_of(found)) for found in findings]
            sizes = np.fromiter(map(len, rows), dtype=np.intp, count=count)
            numbers = np.fromiter(chain.from_iterable(rows), dtype=np.intp, count=int(sizes.sum()))
            sums = _sums(self._weights, np.repeat(np.arange(count), sizes), numbers, count)
            scores += _weights(group, sizes)[:, np.newaxis] * sums
        return Summed(
            scores,
            np.concatenate([words[0], pairs[0]]),
            np.concatenate([words[1], pairs[1]]),
            np.concatenate([word_weights[words[0]], pair_weights[pairs[0]]]),
        )


def _each_once(owners: Indices, found: Sequence[Indices], size: int) -> tuple[Indices, Indices]:
    """Owners and numbers of what was found, each once for an owner and in order; UNKNOWN is left out.

    Args:
        owners: of each place.
        found: numbers below `size`, place by place.
        size: more than any number.
    """
    together = np.unique(np.concatenate([(owners * size + one)[one != UNKNOWN] for one in found]))
    return np.divmod(together, max(size, 1))


def _sums(rows: Numbers, owners: Indices, numbers: Indices, count: int) -> Numbers:
    """For each of `count` owners the sum of its rows; anything for an owner that has none."""
    starts = np.searchsorted(owners, np.arange(count + 1))
    # One number more, so that owners without rows at the end have a place to point at.
    return np.add.reduceat(rows.take(np.append(numbers, 0), axis=0), starts, axis=0)[:-1]


def _weights(group: str, sizes: npt.NDArray[np.intp] | npt.NDArray[np.float64]) -> Numbers:
    """`group_weight` for many sizes."""
    return np.where(sizes > 0, np.maximum(sizes, 1) ** -group_exponent(group), 0.0).astype(np.float32)


def _grown(table: npt.NDArray[T]) -> npt.NDArray[T]:
    """The table with room for as many rows again."""
    return np.concatenate([table, np.zeros((max(len(table), 1_024), *table.shape[1:]), dtype=table.dtype)])


class _Numbered(dict[K, int]):
    """Numbers of keys; a new one is read when it is asked for."""

    def __init__(self, read: Callable[[K, int], None]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, key: K) -> int:
        at = len(self)
        self._read(key, at)
        self[key] = at
        return at


class _Pairs:
    """Pairs of neighbouring words by the numbers of their words."""

    def __init__(self, names: Mapping[str, int]) -> None:
        """Index them.

        Args:
            names: `b:one two` or `d:one two`, with the number of the feature.
        """
        pairs = [name[2:].split(" ") for name in names]
        self._words = {word: at for at, word in enumerate(dict.fromkeys(chain.from_iterable(pairs)), 1)}
        self._width = len(self._words) + 1
        keys = np.array([self._words[one] * self._width + self._words[two] for one, two in pairs], dtype=np.intp)
        order = np.argsort(keys)
        self._keys = np.append(keys[order], np.iinfo(np.intp).max)
        self._numbers = np.append(np.array([*names.values()], dtype=np.intp)[order], UNKNOWN)

    def word(self, word: str) -> int:
        """Number of a word here; 0 for one that stands in no pair."""
        return self._words.get(word, 0)

    def numbers(self, words: Indices, inside: npt.NDArray[np.bool_]) -> Indices:
        """Number of the feature of each word with the one after it; UNKNOWN where there is none.

        Args:
            words: numbers of the words of many texts.
            inside: whether a word and the next one stand in the same text.
        """
        keys = words[:-1] * self._width + words[1:]
        at = np.searchsorted(self._keys, keys)
        return np.where((self._keys[at] == keys) & inside, self._numbers[at], UNKNOWN)
