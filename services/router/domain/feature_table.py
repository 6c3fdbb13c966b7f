"""The features of many texts at once: the numbers that `FeatureReader` finds, as arrays, and the sums of their weights.

What belongs to one word is worked out once and kept in arrays, so that a batch costs some look-ups in numpy and one
dictionary look-up for each word.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from services.router.domain.features import LONG_TEXT_WORDS, group_exponent, is_long_number, parts_of
from services.router.domain.text import plain_word
from services.router.domain.understanding import Findings

T = TypeVar("T", bound=np.generic)

Numbers = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

MAX_FORMS = 32_768
"""So many words are remembered; Vietnamese has some 7,000 written syllables, the rest are names and slips."""

MIN_ROWS = 1_024
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
        of_kind: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for at, name in enumerate(names):
            kind, _, what = name.partition(":")
            of_kind[kind][what] = at
        self._pairs, self._marked_pairs = _Pairs(of_kind.pop("b", {})), _Pairs(of_kind.pop("d", {}))
        self._lexicon = {f"{kind}:{what}": at for kind in "lu" for what, at in of_kind[kind].items()}
        self._found, self._negated, self._masks = of_kind["c"], of_kind["n"], of_kind["k"]
        self._rules, self._categories = of_kind["r"], of_kind["R"]
        self._plain_words, self._marked_words, self._parts_of_words = of_kind["w"], of_kind["m"], of_kind["p"]
        self._first, self._last = of_kind["first"], of_kind["last"]
        longer_than = [of_kind["f"].get(f"longer_than_{limit}") for limit in LONG_TEXT_WORDS]
        self._lengths = [longer_than[:passed] for passed in range(len(longer_than) + 1)]
        self._question_mark, self._long_number = of_kind["f"].get("question_mark"), of_kind["f"].get("long_number")
        self._weights = weights
        self._forget()

    def _forget(self) -> None:
        self._forms = _Numbered()  # a marked word says which plain one it is
        self._words = _Numbered()
        # By form: number of the word, of the marked word, in pairs, in marked pairs, and of the plain word in `_words`.
        self._of_form = np.zeros((0, 5), dtype=np.intp)
        self._long_numbers: set[int] = set()  # forms that look like telephone numbers
        # By plain word: the sum of the weights of its parts, and how many it has.
        self._parts = np.zeros((0, self._weights.shape[1]), dtype=np.float32)
        self._part_counts = np.zeros(0, dtype=np.intp)

    def _read_new_words(self) -> None:
        """Look at the forms and words that got a number since the last time, all at once."""
        forms, words = self._forms.new, self._words.new
        if not forms:
            return
        plain_forms = list(map(plain_word, forms))
        rows = [
            (
                self._plain_words.get(plain, UNKNOWN),
                self._marked_words.get(marked, UNKNOWN) if marked != plain else UNKNOWN,
                self._pairs.word(plain),
                self._marked_pairs.word(marked),
                self._words[plain],
            )
            for plain, marked in zip(plain_forms, forms, strict=True)
        ]
        start = len(self._forms) - len(forms)
        self._long_numbers.update(at for at, plain in enumerate(plain_forms, start) if is_long_number(plain))
        self._of_form = _with_rows(self._of_form, start, np.array(rows, dtype=np.intp))
        parts = [_known(map(self._parts_of_words.get, parts_of(word))) for word in words]
        sums = [np.add.reduce(self._weights.take(numbers, axis=0), axis=0) for numbers in parts]
        start = len(self._words) - len(words)
        self._parts = _with_rows(self._parts, start, np.reshape(sums, (-1, self._weights.shape[1])))
        self._part_counts = _with_rows(self._part_counts, start, np.array([*map(len, parts)], dtype=np.intp))
        forms.clear()
        words.clear()

    def _concepts(self, found: Findings) -> list[int]:
        numbers = [*map(self._found.get, found.found)]
        if found.negated:
            numbers += map(self._negated.get, found.negated)
        if found.masks:
            numbers += [self._masks.get(mask.phrase) for mask in found.masks]
        for match in found.matches:
            numbers += (self._rules.get(match.rule.key), self._categories.get(match.rule.category))
        return _known(numbers)

    def _concepts_of_lexicon(self, found: Findings) -> list[int]:
        return _known(map(self._lexicon.get, found.lexicon))

    def _form(self, found: Findings, forms: Sequence[int]) -> list[int]:
        plain = found.words.plain
        numbers = self._lengths[bisect_left(LONG_TEXT_WORDS, len(plain))].copy()
        if found.has_question_mark:
            numbers.append(self._question_mark)
        if not self._long_numbers.isdisjoint(forms):
            numbers.append(self._long_number)
        numbers += map(self._first.get, plain[:2])
        numbers += map(self._last.get, plain[-2:])
        return _known(numbers)

    def sum(self, findings: Sequence[Findings]) -> Summed:
        """Add up the weights of all features of each text; each gets the very sum it would get alone."""
        if len(self._forms) > MAX_FORMS:
            self._forget()
        count, size = len(findings), len(self._weights)
        texts = [[*map(self._forms.__getitem__, found.words.marked)] for found in findings]
        self._read_new_words()
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
        named = {
            "concepts": [*map(self._concepts, findings)],
            "lexicon": [*map(self._concepts_of_lexicon, findings)],
            "form": [*map(self._form, findings, texts)],
        }
        for group, rows in named.items():
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
    together = np.sort(np.concatenate([(owners * size + one)[one != UNKNOWN] for one in found]))
    is_first = np.append(True, together[1:] != together[:-1])[: len(together)]  # np.unique takes four times as long
    return np.divmod(together[is_first], max(size, 1))


def _known(numbers: Iterable[int | None]) -> list[int]:
    """Numbers of what the model knows, each once and in order."""
    each = dict.fromkeys(numbers)
    each.pop(None, None)
    return cast("list[int]", list(each))


def _sums(rows: Numbers, owners: Indices, numbers: Indices, count: int) -> Numbers:
    """For each of `count` owners the sum of its rows; anything for an owner that has none."""
    starts = np.searchsorted(owners, np.arange(count + 1))
    # One number more, so that owners without rows at the end have a place to point at.
    return np.add.reduceat(rows.take(np.append(numbers, 0), axis=0), starts, axis=0)[:-1]


def _weights(group: str, sizes: npt.NDArray[np.intp] | npt.NDArray[np.float64]) -> Numbers:
    """`group_weight` for many sizes."""
    return np.where(sizes > 0, np.maximum(sizes, 1) ** -group_exponent(group), 0.0).astype(np.float32)


def _with_rows(table: npt.NDArray[T], start: int, rows: npt.NDArray[T]) -> npt.NDArray[T]:
    """The table with these rows from a place on; with room for as many again where it was full."""
    end = start + len(rows)
    if end > len(table):
        room = np.zeros((max(2 * end, MIN_ROWS) - len(table), *table.shape[1:]), dtype=table.dtype)
        table = np.concatenate([table, room])
    table[start:end] = rows
    return table


class _Numbered(dict[str, int]):
    """Numbers of words, in the order in which they are first asked for.

    Attributes:
        new: words that nobody has looked at yet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.new: list[str] = []

    def __missing__(self, word: str) -> int:
        self[word] = at = len(self)
        self.new.append(word)
        return at


_SCATTER = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that keys times this, modulo 2^64, are as many different numbers; and those lie evenly."""


class _Pairs:
    """Pairs of neighbouring words by the numbers of their words.

    Keys are scattered evenly and sorted: the first bits of one tell where it stands, give or take a few places.
    """

    def __init__(self, pairs: Mapping[str, int]) -> None:
        """Index them.

        Args:
            pairs: `one two`, with the number of the feature.
        """
        words = list(chain.from_iterable(pair.split(" ") for pair in pairs))
        self._words = {word: at for at, word in enumerate(dict.fromkeys(words), 1)}
        self._width = np.uint64(len(self._words) + 1)
        numbers = np.array([self._words[word] for word in words], dtype=np.intp)
        keys = self._scattered(numbers[::2], numbers[1::2])
        order = np.argsort(keys)
        first_bits = len(keys).bit_length() + 1
        self._shift = np.uint64(64 - first_bits)
        counts = np.bincount((keys >> self._shift).astype(np.intp), minlength=2**first_bits)
        self._starts = np.cumsum(counts) - counts
        self._places = range(int(counts.max()))
        self._keys = np.append(keys[order], np.zeros(len(self._places), dtype=np.uint64))
        self._numbers = np.append(np.array([*pairs.values()], dtype=np.intp)[order], [UNKNOWN] * len(self._places))

    def _scattered(self, ones: Indices, twos: Indices) -> npt.NDArray[np.uint64]:
        return (ones.astype(np.uint64) * self._width + twos.astype(np.uint64)) * _SCATTER

    def word(self, word: str) -> int:
        """Number of a word here; 0 for one that stands in no pair."""
        return self._words.get(word, 0)

    def numbers(self, words: Indices, inside: npt.NDArray[np.bool_]) -> Indices:
        """Number of the feature of each word with the one after it; UNKNOWN where there is none.

        Args:
            words: numbers of the words of many texts.
            inside: whether a word and the next one stand in the same text.
        """
        keys = self._scattered(words[:-1], words[1:])
        starts = self._starts[keys >> self._shift]
        found = np.full(len(keys), UNKNOWN)
        for place in self._places:
            is_here = (self._keys[starts + place] == keys) & inside
            found[is_here] = self._numbers[starts[is_here] + place]
        return found
