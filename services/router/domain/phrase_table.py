"""Phrases found in many texts at once: the tree of their words as arrays, walked for all places in steps of numpy.

A tree of objects is met in memory that is far away, a node for each word of a text; its arrays fit into the cache.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise, repeat
from typing import Generic, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt

from services.router.domain.pair_table import UNKNOWN, Indices, PairTable
from services.router.domain.text import Candidate, PhraseTree

T = TypeVar("T")
S = TypeVar("S")


class PhraseTable(Generic[T, S]):
    """Two trees of phrases, walked at once."""

    def __init__(self, one: PhraseTree[T], other: PhraseTree[S]) -> None:
        """Put the nodes of both into arrays; 0 is the root, and the number of a word that is in no phrase."""
        self._ones: list[T | None] = [one.entry]
        self._others: list[S | None] = [other.entry]
        self._words: dict[str, int] = {}
        edges = [
            (node, self._words.setdefault(word, len(self._words) + 1), at)
            for node, word, at in self._numbered(0, one, other)
        ]
        nodes, words, ends = np.array(edges, dtype=np.intp).reshape(-1, 3).T
        self._first = np.zeros(len(self._words) + 1, dtype=np.intp)
        is_first = nodes == 0
        self._first[words[is_first]] = ends[is_first]
        self._edges = PairTable(nodes[~is_first], words[~is_first], ends[~is_first], below=len(self._first))
        self._goes_on = np.bincount(nodes, minlength=len(self._ones)) > 0
        self._has_one = np.array([entry is not None for entry in self._ones])
        self._has_other = np.array([entry is not None for entry in self._others])

    def _numbered(
        self, node: int, one: PhraseTree[T] | None, other: PhraseTree[S] | None
    ) -> Iterator[tuple[int, str, int]]:
        """Number what comes after a node: the node, a word, and the node it leads to."""
        ones, others = (one and one.children) or {}, (other and other.children) or {}
        for word in {**ones, **others}:
            next_one, next_other = ones.get(word), others.get(word)
            at = len(self._ones)
            self._ones.append(next_one.entry if next_one else None)
            self._others.append(next_other.entry if next_other else None)
            yield node, word, at
            yield from self._numbered(at, next_one, next_other)

    def candidates(self, texts: Sequence[Sequence[str]]) -> list[tuple[list[Candidate[T]], list[Candidate[S]]]]:
        """For each text the phrases of both trees whose plain words stand there, by start and then by end."""
        sizes = np.fromiter(map(len, texts), dtype=np.intp, count=len(texts)) + 1  # each ends in a word of no phrase
        begins = np.append(0, np.cumsum(sizes))
        plain = chain.from_iterable(chain.from_iterable(zip(texts, repeat(("",)), strict=False)))
        words = np.fromiter(map(self._words.get, plain, repeat(0)), dtype=np.intp, count=int(begins[-1]))
        starts, ends, nodes = self._walk(words)
        owners = np.repeat(np.arange(len(texts)), sizes)[starts]
        places = _Places(owners, starts - begins[owners], ends - begins[owners], nodes)
        ones = _by_text(places.where(self._has_one[nodes]), cast("list[T]", self._ones), len(texts))
        others = _by_text(places.where(self._has_other[nodes]), cast("list[S]", self._others), len(texts))
        return list(zip(ones, others, strict=True))

    def _walk(self, words: Indices) -> tuple[Indices, Indices, Indices]:
        """Start, end and node of each phrase in a row of words, in order."""
        nodes = self._first[words]
        starts = np.flatnonzero(nodes)
        nodes = nodes[starts]
        found: list[tuple[Indices, Indices, Indices]] = []
        length = 1
        while len(starts):
            is_phrase = self._has_one[nodes] | self._has_other[nodes]
            found.append((starts[is_phrase], starts[is_phrase] + length, nodes[is_phrase]))
            goes_on = self._goes_on[nodes]
            starts, nodes = starts[goes_on], nodes[goes_on]
            nodes = self._edges.find(nodes, words[starts + length])
            is_there = nodes != UNKNOWN
            starts, nodes = starts[is_there], nodes[is_there]
            length += 1
        if not found:
            return starts, starts, nodes
        starts, ends, nodes = (np.concatenate(one) for one in zip(*found, strict=True))
        order = np.argsort(starts, kind="stable")  # of a start the shorter ones come first
        return starts[order], ends[order], nodes[order]


class _Places(NamedTuple):
    """Where phrases stand: the number of the text, the first word and the one after the last, the node."""

    owners: Indices
    starts: Indices
    ends: Indices
    nodes: Indices

    def where(self, is_wanted: npt.NDArray[np.bool_]) -> "_Places":
        """Some of them."""
        return _Places(*(one[is_wanted] for one in self))


def _by_text(places: _Places, entries: Sequence[T], count: int) -> list[list[Candidate[T]]]:
    found = zip(
        places.starts.tolist(), places.ends.tolist(), map(entries.__getitem__, places.nodes.tolist()), strict=True
    )
    candidates = list(found)
    stops = np.searchsorted(places.owners, np.arange(count), side="right").tolist()
    return [candidates[start:stop] for start, stop in pairwise((0, *stops))]
