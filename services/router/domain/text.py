"""Folding of text: what people type becomes words that a rule can be compared with.

Vietnamese is written with and without diacritics, so each word is kept twice: plain (`chay`) and marked (`cháy`, its
tone moved to the end so that `hoà` and `hòa` agree). Source: domain page, "Finding a ward in text".
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Generic, TypeVar

T = TypeVar("T")

MAX_WORDS = 1_500
"""Longer texts are read up to here: about the 8,000 characters that the edge lets through."""

ACCENTED_SHARE = 0.5
"""From this share of marked words on, somebody writes with diacritics, and a bare word means the bare word."""

_TONES = {"\u0300": "\ue000", "\u0301": "\ue001", "\u0309": "\ue002", "\u0303": "\ue003", "\u0323": "\ue004"}
_QUALITIES = "\u0306\u0302\u031b"

# Letters of other scripts that look like Latin ones; hostile and copied texts mix them in.
_LOOK_ALIKES = dict(
    zip(
        "авеіјкмнорсѕтухѵԁԛԝһӏαβεηικμνορτυχγϲᎪᎬᎻᎫᏦᏞᎷᏢᏒᏚᎢᏙᎳᏃᏟᎠᏴ",
        "abeijkmhopcstyxvdqwhlabenikuvoptuxycaehjklmprstvwzcdb",
        strict=True,
    )
)


def _plain_and_marked_tables() -> tuple[dict[int, str], dict[int, str]]:
    plain: dict[int, str] = {ord("đ"): "d"}
    marked: dict[int, str] = {}
    for code in (*range(0xC0, 0x250), *range(0x1E00, 0x1F00)):
        letter = chr(code)
        decomposed = unicodedata.normalize("NFD", letter)
        base, marks = decomposed[0], decomposed[1:]
        if not marks or not base.isascii():
            continue
        quality = "".join(mark for mark in marks if mark in _QUALITIES)
        tone = "".join(_TONES.get(mark, "") for mark in marks)
        plain[code] = base
        marked[code] = unicodedata.normalize("NFC", base + quality) + tone
    return plain, marked


_PLAIN, _MARKED = _plain_and_marked_tables()
_NOISE: dict[int, str | None] = dict.fromkeys((*range(0x300, 0x370), 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0xAD))
_PREPARE: dict[int, str | None] = {**{ord(other): latin for other, latin in _LOOK_ALIKES.items()}, **_NOISE}
_WORD = re.compile(r"[^\W_]+")
_TONE_INSIDE = re.compile("([\ue000-\ue004])([^\\W_]+)")


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a text in order.

    Attributes:
        plain: without any diacritics.
        marked: with them, the tone at the end of the word.
        is_capital: whether the word was written in capitals.
        is_accented: whether the sentence of the word is written with diacritics; a forwarded text may be, and the
            words typed before it not.
        ends_clause: whether a mark or line end follows the word.
        sentence: number of the sentence the word stands in.
    """

    plain: tuple[str, ...]
    marked: tuple[str, ...]
    is_capital: tuple[bool, ...]
    is_accented: tuple[bool, ...]
    ends_clause: tuple[bool, ...] = ()
    sentence: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.plain)


@lru_cache(maxsize=32_768)  # Vietnamese has some 7,000 written syllables
def _forms(word: str) -> tuple[str, str]:
    """A word without and with its marks."""
    return word.translate(_PLAIN), _TONE_INSIDE.sub(r"\2\1", word.translate(_MARKED))


def _clean(text: str) -> str:
    # Tone marks written apart are composed first; what is still combining afterwards is noise.
    return unicodedata.normalize("NFKC", text)


_CLAUSE_END = re.compile(r"\s*[.,;:!?\n…()\-]")
_SENTENCE_END = re.compile(r"\s*[.!?\n…]")


def fold(text: str, abbreviations: Mapping[str, str] | None = None) -> Words:
    """Cut a text into words and take teencode apart.

    Args:
        text: anything.
        abbreviations: a plain word to what it stands for, such as `ko` to `không`.
    """
    original = _clean(text)
    lower = original.lower().translate(_PREPARE)
    same_length = len(lower) == len(original)
    plain: list[str] = []
    marked: list[str] = []
    capital: list[bool] = []
    ends: list[bool] = []
    sentences: list[int] = []
    sentence = 0
    with_marks: dict[int, int] = {}
    written: dict[int, int] = {}
    for match in _WORD.finditer(lower):
        word = match.group()
        is_capital = same_length and original[match.start() : match.end()].isupper()
        ends_clause = _CLAUSE_END.match(lower, match.end()) is not None
        expansion = abbreviations.get(word) if abbreviations else None
        for part in expansion.split() if expansion else (word,):
            plain_form, marked_form = _forms(part)
            plain.append(plain_form)
            marked.append(marked_form)
            capital.append(is_capital)
            ends.append(False)
            sentences.append(sentence)
        ends[-1] = ends_clause
        with_marks[sentence] = with_marks.get(sentence, 0) + (not word.isascii())
        written[sentence] = written.get(sentence, 0) + word.isalpha()
        sentence += ends_clause and _SENTENCE_END.match(lower, match.end()) is not None
        if len(plain) >= MAX_WORDS:
            break
    accented = {s: marks > 0 and marks >= ACCENTED_SHARE * written[s] for s, marks in with_marks.items()}
    return Words(
        tuple(plain),
        tuple(marked),
        tuple(capital),
        tuple(accented[s] for s in sentences),
        tuple(ends),
        tuple(sentences),
    )


@dataclass(frozen=True, slots=True)
class Span(Generic[T]):
    """Where a phrase stands: words `start` to `end` (excluded)."""

    start: int
    end: int
    value: T
    phrase: str


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    marked: tuple[str, ...]
    value: T
    phrase: str
    is_strict: bool


def _agrees(written: str, plain: str, wanted: str, *, is_accented: bool, is_strict: bool) -> bool:
    if written == wanted:
        return True
    if is_strict or written != plain:  # written with other marks: another word
        return False
    return not is_accented


MIN_JOINED_LETTERS = 6


class PhraseIndex(Generic[T]):
    """Finds many phrases in one pass; the cost does not grow with their number.

    A phrase is written with diacritics. It matches a word with the same marks, and, where the writer uses none, a
    bare word. A phrase that starts with `=` matches only with its marks: `=cháy` is not `chay`, which may be `chạy`.
    """

    def __init__(self, phrases: Iterable[tuple[str, T]], *, accepts_bare: bool = False) -> None:
        """Index the phrases.

        Args:
            phrases: with what each stands for.
            accepts_bare: names are often written bare in a text that has marks: "ở hiep thanh 13 đó".
        """
        self._accepts_bare = accepts_bare
        self._root: dict[str, Any] = {}
        for phrase, value in phrases:
            self._add(phrase, value)

    def _add(self, phrase: str, value: T) -> None:
        words = fold(phrase.removeprefix("="))
        entry = _Entry(words.marked, value, phrase, phrase.startswith("="))
        self._put(words.plain, entry)
        joined = "".join(words.plain)
        if len(words) > 1 and len(joined) >= MIN_JOINED_LETTERS and not entry.is_strict and joined.isalpha():
            # "tamtru", "cancuoc": joined words; their marks cannot be compared word by word any more.
            self._put((joined,), replace(entry, marked=fold(phrase.replace(" ", "")).marked))

    def _put(self, path: Sequence[str], entry: _Entry[T]) -> None:
        node = self._root
        for word in path:
            node = node.setdefault(word, {})
        node.setdefault("", []).append(entry)

    def find(self, words: Words) -> list[Span[T]]:
        """All phrases in the words, overlapping ones too, in order of their start."""
        spans: list[Span[T]] = []
        root, plain, count = self._root, words.plain, len(words.plain)
        for start in range(count):
            node = root.get(plain[start])
            end = start + 1
            while node is not None:
                entries = node.get("")
                if entries is not None:
                    spans.extend(
                        Span(start, end, entry.value, entry.phrase)
                        for entry in entries
                        if self._fits(entry, words, start, end)
                    )
                node = node.get(plain[end]) if end < count else None
                end += 1
        return spans

    def _fits(self, entry: _Entry[T], words: Words, start: int, end: int) -> bool:
        if self._accepts_bare and words.plain[start:end] == words.marked[start:end]:
            return True
        return all(
            _agrees(
                words.marked[at],
                words.plain[at],
                wanted,
                is_accented=words.is_accented[at],
                is_strict=entry.is_strict,
            )
            for at, wanted in zip(range(start, end), entry.marked, strict=True)
        )


def longest_first(spans: Iterable[Span[T]]) -> list[Span[T]]:
    """Keep the longest of overlapping spans, the earliest of equally long ones; in order of the text."""
    kept: list[Span[T]] = []
    taken: set[int] = set()
    for span in sorted(spans, key=lambda s: (s.start - s.end, s.start)):
        positions = range(span.start, span.end)
        if taken.isdisjoint(positions):
            kept.append(span)
            taken.update(positions)
    return sorted(kept, key=lambda s: s.start)
