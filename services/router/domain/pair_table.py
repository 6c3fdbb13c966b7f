"""Pairs of whole numbers looked up many at a time."""

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.intp]

UNKNOWN = -1

_SCATTER = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that keys times this, modulo 2^64, are as many different numbers; and those lie evenly."""


class PairTable:
    """A number for each pair.

    Keys are scattered evenly and sorted: the first bits of one tell where it stands, give or take a few places.
    """

    def __init__(self, ones: Indices, twos: Indices, numbers: Indices, *, below: int) -> None:
        """Index them.

        Args:
            ones: the first of each pair.
            twos: the second of each; no pair is there twice.
            numbers: what each pair is to give.
            below: the second of a pair, also of one that is looked up, is smaller.
        """
        self._width = np.uint64(below)
        keys = self._scattered(ones, twos)
        order = np.argsort(keys)
        first_bits = len(keys).bit_length() + 1
        self._shift = np.uint64(64 - first_bits)
        counts = np.bincount((keys >> self._shift).astype(np.intp), minlength=2**first_bits)
        self._starts = np.append(0, np.cumsum(counts)).astype(np.int32)
        self._keys = keys[order]
        self._numbers = numbers.astype(np.int32)[order]

    def _scattered(self, ones: Indices, twos: Indices) -> npt.NDArray[np.uint64]:
        return (ones.astype(np.uint64) * self._width + twos.astype(np.uint64)) * _SCATTER

    def find(self, ones: Indices, twos: Indices) -> Indices:
        """The number of each pair; UNKNOWN where there is none."""
        found = np.full(len(ones), UNKNOWN)
        left = np.arange(len(ones))
        keys = self._scattered(ones, twos)
        slots = (keys >> self._shift).astype(np.intp)
        places, ends = self._starts[slots], self._starts[slots + 1]
        while len(left):
            is_left = places < ends
            left, keys, places, ends = left[is_left], keys[is_left], places[is_left], ends[is_left]
            is_here = self._keys[places] == keys
            found[left[is_here]] = self._numbers[places[is_here]]
            places = np.where(is_here, ends, places + 1)
        return found
