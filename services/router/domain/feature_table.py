"""The features of many texts at once: the numbers that `FeatureReader` finds, as arrays, and the sums of their weights.

What belongs to one word is worked out once and kept in arrays, so that a batch costs some look-ups in numpy and one
dictionary look-up for each word.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

from services.router.domain.features import GROUPS, LONG_TEXT_WORDS, group_exponent, group_of, is_long_number, parts_of
from services.router.domain.pair_table import UNKNOWN, Indices, PairTable
from services.router.domain.text import plain_word
from services.router.domain.understanding import Findings

T = TypeVar("T", bound=np.generic)

Numbers = npt.NDArray[np.float32]

MAX_FORMS = 32_768
"""So many words are remembered; Vietnamese has some 7,000 written syllables, the rest are names and slips."""

MIN_ROWS = 1_024
_PLAIN_WORD = 7
_STEPS = 127


@dataclass(frozen=True, slots=True)
class Rows:
    """A row of weights for each feature: whole numbers from -127 to 127 and one scale.

    Half the size of halves, and no reading differs. A row is as long as a line of the processor's cache, so that one
    access to memory is enough for it.
    """

    steps: npt.NDArray[np.int8]
    scale: Numbers

    @classmethod
    def of(cls, weights: Numbers) -> Self:
        """The rows nearest to these weights."""
        scale = (np.abs(weights).max(axis=1) / _STEPS).astype(np.float32)
        return cls(np.rint(weights / np.maximum(scale, 1e-12)[:, np.newaxis]).astype(np.int8), scale)

    def __len__(self) -> int:
        return len(self.scale)

    def weights(self, numbers: slice | npt.NDArray[np.integer] = slice(None)) -> Numbers:
        """The weights themselves, of some features or all."""
        return self.steps[numbers] * self.scale[numbers, np.newaxis]


@dataclass(frozen=True, slots=True)
class Summed:
    """What the features of texts come to.

    Attributes:
        scores: a row for each text, a column for each column of the weights.
        owners: of each feature but parts of words, the text it stands in, in order.
        numbers: the features.
        weights: what each of them counts.
    """

    scores: Numbers
    owners: Indices
    numbers: Indices
    weights: Numbers


class FeatureTable:
    """Features with their weights."""

    def __init__(self, names: Sequence[str], rows: Rows) -> None:
        """Index the features.

        Args:
            names: as `FeatureReader` makes them, in the order of the rows.
            rows: their weights.
        """
        of_kind: defaultdict[str, _Known] = defaultdict(_Known)
        for at, name in enumerate(names):
            kind, _, what = name.partition(":")
            of_kind[kind][what] = at
        self._groups = np.zeros(len(names), dtype=np.intp)
        for kind, numbers in of_kind.items():
            self._groups[[*numbers.values()]] = GROUPS.index(group_of(kind))
        self._pairs = _Pairs(plain=of_kind.pop("b", {}), marked=of_kind.pop("d", {}))
        self._lexicon = _Known({f"{kind}:{what}": at for kind in "lu" for what, at in of_kind[kind].items()})
        self._found, self._negated, self._masks = of_kind["c"], of_kind["n"], of_kind["k"]
        self._rules, self._categories = of_kind["r"], of_kind["R"]
        self._plain_words, self._marked_words, self._parts_of_words = of_kind["w"], of_kind["m"], of_kind["p"]
        self._first, self._last = of_kind["first"], of_kind["last"]
        longer_than = [of_kind["f"][f"longer_than_{limit}"] for limit in LONG_TEXT_WORDS]
        self._lengths = [longer_than[:passed] for passed in range(len(longer_than) + 1)]
        self._question_mark, self._long_number = of_kind["f"]["question_mark"], of_kind["f"]["long_number"]
        self._rows = rows
        self._forms = _Numbered()  # a marked word says which plain one it is
        self._words = _Numbered()
        # By form: number of the word, of the marked word, of a long number, of the first and the last word, in pairs of
        # plain words and of marked ones, and of the plain word in `_words` (_PLAIN_WORD).
        self._of_form = np.zeros((0, 8), dtype=np.intp)
        # By plain word: the sum of the weights of its parts, and how many it has.
        self._parts = np.zeros((0, self._rows.steps.shape[1]), dtype=np.float32)
        self._part_counts = np.zeros(0, dtype=np.intp)

    def _forget_newer_half(self) -> None:
        """What is common came early, and a flood of strange words drives nothing of it out."""
        kept = MAX_FORMS // 2
        self._forms.keep(kept)
        self._words.keep(int(self._of_form[:kept, _PLAIN_WORD].max()) + 1)

    def _read_new_words(self) -> None:
        """Look at the forms and words that got a number since the last time, all at once."""
        forms, words = self._forms.new, self._words.new
        if not forms:
            return
        rows = [
            (
                self._plain_words[plain],
                self._marked_words[marked] if marked != plain else UNKNOWN,
                self._long_number if is_long_number(plain) else UNKNOWN,
                self._first[plain],
                self._last[plain],
                self._pairs.plain.get(plain, 0),
                self._pairs.marked.get(marked, 0),
                self._words[plain],
            )
            for plain, marked in zip(map(plain_word, forms), forms, strict=True)
        ]
        start = len(self._forms) - len(forms)
        self._of_form = _with_rows(self._of_form, start, np.array(rows, dtype=np.intp))
        parts = [self._known_parts(word) for word in words]
        counts = np.fromiter(map(len, parts), dtype=np.intp, count=len(parts))
        has_parts = np.flatnonzero(counts)
        sums = np.zeros((len(parts), self._parts.shape[1]), dtype=np.float32)
        if len(has_parts):
            numbers = np.fromiter(chain.from_iterable(parts), dtype=np.intp, count=int(counts.sum()))
            starts = (np.cumsum(counts) - counts)[has_parts]
            sums[has_parts] = np.add.reduceat(self._rows.weights(numbers), starts, axis=0)
        start = len(self._words) - len(words)
        self._parts = _with_rows(self._parts, start, sums)
        self._part_counts = _with_rows(self._part_counts, start, counts)
        forms.clear()
        words.clear()

    def _known_parts(self, word: str) -> Collection[int]:
        """Numbers of the parts of a word that the model knows, each once and in order."""
        each = dict.fromkeys(map(self._parts_of_words.get, parts_of(word), repeat(UNKNOWN)))
        each.pop(UNKNOWN, None)
        return each

    def sum(self, findings: Sequence[Findings]) -> Summed:
        """Add up the weights of all features of each text; each gets the very sum it would get alone."""
        if len(self._forms) > MAX_FORMS:
            self._forget_newer_half()
        count = len(findings)
        texts = [[*map(self._forms.__getitem__, found.weighed.marked)] for found in findings]
        self._read_new_words()
        sizes = np.fromiter(map(len, texts), dtype=np.intp, count=count)
        forms = np.fromiter(chain.from_iterable(texts), dtype=np.intp, count=int(sizes.sum()))
        owners = np.repeat(np.arange(count), sizes)
        word, marked, long_number, first, last, in_plain, in_marked, plain = self._of_form.take(forms, axis=0).T
        goes_on = np.append(owners[1:] == owners[:-1], [False])[: len(owners)]
        starts, ends = np.cumsum(sizes) - sizes, np.cumsum(sizes)
        one, two = np.flatnonzero(sizes > 0), np.flatnonzero(sizes > 1)
        pairs = self._pairs.numbers(np.concatenate([in_plain, in_marked]), np.concatenate([goes_on, goes_on]))
        named = self._named(findings)
        owners_of_features, numbers = _each_once(
            [
                (owners, word),
                (owners, marked),
                (owners, long_number),
                (np.concatenate([owners, owners]), pairs),
                (one, first[starts[one]]),
                (two, first[starts[two] + 1]),
                (one, last[ends[one] - 1]),
                (two, last[ends[two] - 2]),
                named,
            ]
        )
        weights = self._counts_as(owners_of_features, numbers, count)
        of_parts, words = _each_once([(owners, plain)])
        part_counts = np.bincount(of_parts, weights=self._part_counts[words], minlength=count)
        part_weights = (np.maximum(part_counts, 1) ** -group_exponent("parts")).astype(np.float32)
        rows, scaled = self._rows.steps.take(numbers, axis=0), weights * self._rows.scale[numbers]
        scores = _sums(rows, scaled, owners_of_features, count)
        scores += _sums(self._parts.take(words, axis=0), part_weights[of_parts], of_parts, count)
        return Summed(scores, owners_of_features, numbers, weights)

    def _named(self, findings: Sequence[Findings]) -> tuple[Indices, Indices]:
        """Owners and numbers of what was found by name, and of what is known of a text as a whole."""
        named = [self._named_in(found) for found in findings]
        sizes = [*map(len, named)]
        numbers = np.fromiter(chain.from_iterable(named), dtype=np.intp, count=sum(sizes))
        return np.repeat(np.arange(len(named)), sizes), numbers

    def _named_in(self, found: Findings) -> list[int]:
        numbers = [*map(self._lexicon.__getitem__, found.lexicon), *map(self._found.__getitem__, found.found)]
        numbers += self._lengths[bisect_left(LONG_TEXT_WORDS, len(found.weighed))]
        if found.has_question_mark:
            numbers.append(self._question_mark)
        if found.negated:
            numbers += map(self._negated.__getitem__, found.negated)
        if found.masks:
            numbers += [self._masks[mask.phrase] for mask in found.masks]
        for match in found.matches:
            numbers += (self._rules[match.rule.key], self._categories[match.rule.category])
        return numbers

    def _counts_as(self, owners: Indices, numbers: Indices, count: int) -> Numbers:
        """What each feature of each owner counts: see `group_weight`."""
        places = owners * len(GROUPS) + self._groups[numbers]
        sizes = np.bincount(places, minlength=count * len(GROUPS)).reshape(count, len(GROUPS))
        weights: Numbers = (np.maximum(sizes, 1) ** _EXPONENTS).astype(np.float32).ravel().take(places)
        return weights


_EXPONENTS = -np.array([*map(group_exponent, GROUPS)])


def _each_once(found: Sequence[tuple[Indices, Indices]]) -> tuple[Indices, Indices]:
    """Owners and numbers, each number once for an owner and in order; UNKNOWN is left out."""
    owners, numbers = (np.concatenate(one) for one in zip(*found, strict=True))
    is_known = numbers != UNKNOWN
    bits = int(numbers.max(initial=0)).bit_length()
    together = np.sort((owners[is_known] << bits) | numbers[is_known], kind="stable")  # made of runs: half the time
    is_first = np.append(True, together[1:] != together[:-1])[: len(together)]  # np.unique takes four times as long
    once = together[is_first]
    return once >> bits, once & ((1 << bits) - 1)


_MOST_WEIGHTS = 8_192
"""Of one product: a larger one is shared out to other threads, and waiting for them costs more than they do."""


def _sums(rows: npt.NDArray[np.integer] | Numbers, weights: Numbers, owners: Indices, count: int) -> Numbers:
    """For each of `count` owners the sum of its rows, each times its weight.

    A product for each owner takes half of what `np.add.reduceat` does, and is the same whatever stands beside it.
    """
    rows = rows.astype(np.float32, copy=False)
    sums = np.empty((count, rows.shape[1]), dtype=np.float32)
    most = _MOST_WEIGHTS // rows.shape[1]
    start = 0
    for at, end in enumerate(np.searchsorted(owners, np.arange(count), side="right").tolist()):
        first_end = min(end, start + most)
        np.dot(weights[start:first_end], rows[start:first_end], out=sums[at])
        for more in range(first_end, end, most):
            sums[at] += np.dot(weights[more : more + most][: end - more], rows[more : more + most][: end - more])
        start = end
    return sums


def _with_rows(table: npt.NDArray[T], start: int, rows: npt.NDArray[T]) -> npt.NDArray[T]:
    """The table with these rows from a place on; with room for as many again where it was full."""
    end = start + len(rows)
    if end > len(table):
        room = np.zeros((max(2 * end, MIN_ROWS) - len(table), *table.shape[1:]), dtype=table.dtype)
        table = np.concatenate([table, room])
    table[start:end] = rows
    return table


class _Known(dict[str, int]):
    """Numbers of features; UNKNOWN of what the model does not know."""

    def __missing__(self, _name: str) -> int:
        return UNKNOWN


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

    def keep(self, count: int) -> None:
        """Forget all but the first ones."""
        for word in [*islice(reversed(self), len(self) - count)]:
            del self[word]


class _Pairs:
    """Pairs of neighbouring words by the numbers of their words.

    Attributes:
        plain: numbers of the plain words; 0 is for one that stands in no pair.
        marked: likewise of the marked words: other numbers.
    """

    def __init__(self, *, plain: Mapping[str, int], marked: Mapping[str, int]) -> None:
        """Index them.

        Args:
            plain: `one two`, with the number of the feature.
            marked: likewise.
        """
        words, marked_words = ([*chain.from_iterable(pair.split(" ") for pair in pairs)] for pairs in (plain, marked))
        self.plain = {word: at for at, word in enumerate(dict.fromkeys(words), 1)}
        self.marked = {word: at for at, word in enumerate(dict.fromkeys(marked_words), len(self.plain) + 1)}
        known = chain(map(self.plain.__getitem__, words), map(self.marked.__getitem__, marked_words))
        numbers = np.array([*known], dtype=np.intp)
        features = np.array([*plain.values(), *marked.values()], dtype=np.intp)
        count = len(self.plain) + len(self.marked) + 1
        self._table = PairTable(numbers[::2], numbers[1::2], features, below=count)

    def numbers(self, words: Indices, goes_on: npt.NDArray[np.bool_]) -> Indices:
        """Number of the feature of each word with the one after it; UNKNOWN where there is none.

        Args:
            words: numbers of the words of many texts.
            goes_on: whether the next one stands in the same text and is of the same kind.
        """
        found = np.full(len(words), UNKNOWN)
        left = np.flatnonzero(goes_on & (words > 0))
        found[left] = self._table.find(words[left], words[left + 1])
        return found
