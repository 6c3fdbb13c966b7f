"""Folding of text: what people type becomes words that a rule can be compared with.

Vietnamese is written with and without diacritics, so each word is kept twice: plain (`chay`) and marked (`cháy`, its
tone moved to the end so that `hoà` and `hòa` agree). Source: domain page, "Finding a ward in text".
"""

import bisect
import itertools
import re
import sys
import unicodedata
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from services.router.domain.slips import Slips
from services.router.domain.values import immutable

T = TypeVar("T")
S = TypeVar("S")

MAX_WORDS = 500
"""Longer texts are read up to here: what 2,000 characters have, the most that is read together, and a bounded time."""

MAX_CHARACTERS = 4_000
"""What is looked at before words are cut: twice what Zalo takes as one message, or what is read together."""

MAX_STRANGE_WORDS = 60
"""So many different words that no list knows are looked at, the rest of them is left out: half as many again as the
strangest of 43,000 messages has with every twentieth letter mistyped, and a bounded time."""

MAX_SPACED_OUT = 100
"""So many runs of single letters are looked at."""

ACCENTED_SHARE = 0.5
"""From this share of marked words on, somebody writes with diacritics, and a bare word means the bare word."""

_TONES = {"\u0300": "\ue000", "\u0301": "\ue001", "\u0309": "\ue002", "\u0303": "\ue003", "\u0323": "\ue004"}
_TONE_SIGNS = "".join(_TONES.values())
_QUALITIES = "\u0306\u0302\u031b"

# Letters of other scripts that look like Latin ones; hostile and copied texts mix them in.
_LOOK_ALIKES = dict(
    zip(
        "авеіјкмнорсѕтухѵԁԛԝһӏгєзԍɡɑıɩɪʏᴀʙᴄᴅᴇꜰɢʜᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡᴢðɖøŧħłƀҫүөқ"
        "αβεηικμνορτυχγωσςδλօոսհցյԛաց" + "ᎪᎬᎻᎫᏦᏞᎷᏢᏒᏚᎢᏙᎳᏃᏟᎠᏴ".lower(),
        "abeijkmhopcstyxvdqwhlreeggaiiiyabcdefghjklmnoprstuvwzđđothlbcyoqabenikuvoptuxywoodlonuhgjqwgaehjklmprstvwzcdb",
        strict=True,
    )
)
_LATIN = {key.upper(): latin.upper() for key, latin in _LOOK_ALIKES.items()} | _LOOK_ALIKES
_OTHER_SCRIPTS = re.compile("[\u0370-\u058f\u13a0-\u13ff\uab70-\uabbf]")


Letters = dict[str, str]


def _tables() -> tuple[Letters, Letters, Letters]:
    """Of a letter: the plain one, the one without its tone, and the tone."""
    plain = {"đ": "d"}
    toneless: Letters = {}
    tones: Letters = {}
    for code in (*range(0xC0, 0x250), *range(0x1E00, 0x1F00)):
        letter = chr(code)
        decomposed = unicodedata.normalize("NFD", letter)
        base, marks = decomposed[0], decomposed[1:]
        if not marks or not base.isascii():
            continue
        quality = "".join(mark for mark in marks if mark in _QUALITIES)
        plain[letter] = base
        toneless[letter] = unicodedata.normalize("NFC", base + quality)
        tones[letter] = "".join(_TONES.get(mark, "") for mark in marks)
    plain |= dict.fromkeys(_TONE_SIGNS, "")  # a tone of Telex keys stands apart: plain words have none
    return plain, toneless, tones


_PLAIN, _TONELESS, _TONE = _tables()
_NOISE_RANGES = (
    (0x300, 0x370),  # marks that compose with nothing
    (0x1AB0, 0x1B00),
    (0x1DC0, 0x1E00),
    (0x20D0, 0x2100),
    (0x200B, 0x2010),  # zero width and direction
    (0x202A, 0x202F),
    (0x2060, 0x2070),
    (0xFE00, 0xFE10),  # variation selectors
    (0xE0000, 0xE01F0),
)
_NOISE = re.compile(
    "[" + "".join(f"{chr(a)}-{chr(b - 1)}" for a, b in _NOISE_RANGES) + "\u00ad\u061c\u115f\u180e\u3164\ufeff]"
)
_IS_LOOK_ALIKE = re.compile(f"[{''.join(_LOOK_ALIKES)}]")
_is_ordinary = re.compile(
    "[\0-\x7fđĐ"
    + "".join(
        letter
        for vowel in "aeiouyAEIOUY"
        for quality in ("", *_QUALITIES)
        for tone in ("", *_TONES)
        if len(letter := unicodedata.normalize("NFC", vowel + quality + tone)) == 1
    )
    + "]*"
).fullmatch
"""Whether a text has nothing but ASCII and Vietnamese letters, so that nothing of it can be a disguise."""

_WORD = re.compile(r"([^\W_]+)")


class Remembered(dict[str, T]):
    """What was worked out for a word, kept: words repeat, and a look-up here costs half of one in an `lru_cache`.

    Where it is full the newer half goes: what is common came early, and a flood of strange words drives none of it out.
    """

    def __init__(self, work_out: Callable[[str], T], most: int = 32_768) -> None:  # some 7,000 syllables are written
        super().__init__()
        self._work_out, self._most = work_out, most

    def __missing__(self, word: str) -> T:
        found = self._work_out(word)
        if len(self) >= self._most:
            self._make_room()
        self[word] = found
        return found

    def keep(self, word: str, found: T) -> T:
        """Keep what was found without being asked for it."""
        if len(self) >= self._most:
            self._make_room()
        self[word] = found
        return found

    def _make_room(self) -> None:
        for word in [*itertools.islice(self._first_to_go(), self._most // 2)]:
            del self[word]

    def _first_to_go(self) -> Iterator[str]:
        return reversed(self)


@immutable
class Words:
    """The words of a text in order.

    Attributes:
        plain: without any diacritics.
        marked: with them, the tone at the end of the word.
        is_accented: whether the sentence of the word is written with diacritics; a forwarded text may be, and the
            words typed before it not.
        ends_clause: whether a mark or line end follows the word.
        sentence: number of the sentence the word stands in.
        typed: what they were cut from; empty where words of it were taken apart or put together.
    """

    plain: tuple[str, ...]
    marked: tuple[str, ...]
    is_accented: tuple[bool, ...]
    ends_clause: tuple[bool, ...] = ()
    sentence: tuple[int, ...] = ()
    typed: str = ""

    def __len__(self) -> int:
        return len(self.plain)

    def without(self, taken: Container[int]) -> "Words":
        """The words at all other places."""
        kept = [at not in taken for at in range(len(self))]
        return Words(
            tuple(itertools.compress(self.plain, kept)),
            tuple(itertools.compress(self.marked, kept)),
            tuple(itertools.compress(self.is_accented, kept)),
            tuple(itertools.compress(self.ends_clause, kept)),
            tuple(itertools.compress(self.sentence, kept)),
        )

    def is_capital(self, at: int) -> bool:
        """Whether a word was typed in capitals; hardly ever asked, so that it is looked up only then."""
        capitals = _capitals(self.typed)
        return len(capitals) == len(self) and capitals[at]

    def gap_after(self, at: int) -> str:
        """What was typed between a word and the next; a space where that cannot be told."""
        gaps = _gaps(self.typed)
        return gaps[at] if at < len(gaps) else " "


@lru_cache(maxsize=8)
def _capitals(typed: str) -> list[bool]:
    return list(map(str.isupper, _WORD.findall(typed)[:MAX_WORDS])) if _has_a_small_letter_for_each(typed) else []


@lru_cache(maxsize=8)
def _gaps(typed: str) -> list[str]:
    return _WORD.split(typed)[2::2] if _has_a_small_letter_for_each(typed) else []


def _has_a_small_letter_for_each(typed: str) -> bool:
    """Whether words cut from the small letters stand at the same places: "İ" becomes two."""
    return len(typed.lower()) == len(typed)


def _written(word: str, letters: Letters) -> str:
    """The text with other letters; of a long one `str.translate` takes twice as long."""
    return "".join(map(letters.get, word, word))


def _fold_word(word: str) -> tuple[str, str]:
    if word.isascii():
        plain = marked = sys.intern(word)
        return plain, marked
    marked = _written(word, _TONELESS) + "".join(map(_TONE.get, word, itertools.repeat("")))
    # The very words of the tables: a look-up need not compare letters.
    return sys.intern(_written(word, _PLAIN)), sys.intern(marked)


fold_word = Remembered(_fold_word).__getitem__
"""A word in small letters, without and with its marks; the tone stands at the end, or the tones of joined words."""


def plain_word(marked: str) -> str:
    """The plain form of a marked word."""
    return marked if marked.isascii() else sys.intern(_written(marked, _PLAIN))


def _clean(text: str) -> str:
    """One spelling for each letter; what looks like a Latin letter becomes one, what is not seen goes."""
    if _OTHER_SCRIPTS.search(text):  # a Cyrillic letter with its tone mark is composed only once it is Latin
        text = unicodedata.normalize("NFKD", text)
        text = _written(text, _LATIN)
    # Tone marks written apart are composed first; what is still combining afterwards is noise.
    text = unicodedata.normalize("NFKC", text)
    return _NOISE.sub("", text)


class WritingBook(BaseModel):
    """`data/rules/writing.yaml`.

    Attributes:
        onsets: how a syllable can begin.
        rimes: how it can go on, with the marks of the vowels and without tones.
        onset_habits: beginnings that people type for the sound.
        foreign: words that only look like Telex or like joined syllables.
        numbered: words before a number that is written on to them.
        abbreviations: teencode and short forms; one word, or two of which the second one decides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    onsets: tuple[str, ...]
    rimes: tuple[str, ...]
    onset_habits: dict[str, str]
    foreign: frozenset[str]
    numbered: frozenset[str]
    abbreviations: dict[str, str]


_TELEX_TONES = {"s": "\ue001", "f": "\ue000", "r": "\ue002", "x": "\ue003", "j": "\ue004"}
_VNI = {"1": "s", "2": "f", "3": "r", "4": "x", "5": "j"}
_VNI_QUALITY = {"6": ("aâ", "eê", "oô"), "7": ("oơ", "uư"), "8": ("aă",), "9": ("dđ",)}
_LEET = str.maketrans("013457", "oieast")
_THREE_ALIKE = re.compile(r"([^\W\d_])\1{2,}")
_TWO_ALIKE = re.compile(r"([^\W\d_])\1+")
_VOWELS = frozenset("aeiouyăâêôơư")
_MAX_JOINED_LETTERS = 40
_LONGEST_SYLLABLE = 7

Syllables = tuple[tuple[str, str], ...]

ITSELF, MAY_CHANGE, STRANGE = range(3)
"""What a written word stands for: itself, perhaps something else, or nobody knows, for no list has it."""

Token = tuple[str, str, int]
"""A word as it is written, without and with its marks, and what it stands for."""


def _as_typed(word: str) -> Token:
    return (*fold_word(word), ITSELF)


_typed_token = Remembered(_as_typed).__getitem__


class Spelling:
    """What hasty fingers meant, word by word: teencode, Telex and VNI leftovers, drawn-out and joined words.

    A word that is a syllable already stays what it is. Each form is worked out once and remembered.
    """

    def __init__(self, book: WritingBook, known: Iterable[str] = (), *, undoes_slips: bool = True) -> None:
        """Prepare the tables.

        Args:
            book: the data.
            known: phrases whose words may stand joined: "tamtru" is "tam tru" if "tạm trú" is known.
            undoes_slips: False leaves slips of letters as they are, to measure what undoing them is worth.
        """
        self._habits = tuple(book.onset_habits.items())
        self._numbered = book.numbered
        self._marked = frozenset(f"{o}{r}" for o in ("", *book.onsets) for r in book.rimes) | {
            "gi",
            "giêt",
            "gin",
            "giêng",
        }
        self._plain = frozenset(fold_word(syllable)[0] for syllable in self._marked)
        self._foreign = book.foreign
        self._short = {k: _all_forms(v) for k, v in book.abbreviations.items() if " " not in k}
        self._pairs = {tuple(k.split()): _all_forms(v) for k, v in book.abbreviations.items() if " " in k}
        self.pair_starts = frozenset(first for first, _ in self._pairs)
        folded = [fold(phrase) for phrase in known]
        phrases = [words.plain for words in folded]
        with_slips = folded if undoes_slips else ()
        self._slips = Slips(list(zip(words.plain, words.marked, strict=True)) for words in with_slips)
        self._words = frozenset(word for phrase in phrases for word in phrase if len(word) > 1)
        self._neighbours = frozenset(pair for phrase in phrases for pair in itertools.pairwise(phrase))
        self.meaning = Remembered(self._meaning).__getitem__
        self.token = Remembered(self._token).__getitem__

    def pair(self, first: str, second: str) -> Syllables | None:
        """What two words mean together: "ck em" is a husband, "ck 5tr" a transfer."""
        return self._pairs.get((first, second))

    def undo_slips(self, places: Iterable[int], tokens: Sequence[str], forms: list[Syllables]) -> None:
        """Put known words in place of slips that their neighbours explain."""
        for at in places:
            if len(forms[at]) != 1:
                continue
            before = forms[at - 1][-1][0] if at and forms[at - 1] else ""
            after = forms[at + 1][0][0] if at + 1 < len(forms) and forms[at + 1] else ""
            found = self._slips.meant(before, forms[at][0][0], after)
            if found is not None:
                plain, marked = found
                forms[at] = ((plain, plain if tokens[at].isascii() else marked),)

    def _meaning(self, word: str) -> tuple[Syllables, bool]:
        """The syllables a word stands for, and whether it may be a slip for another word."""
        syllables = self._read(word) if word else ()
        return syllables, self._may_be_slip(word, syllables)

    def _token(self, word: str) -> Token:
        plain, marked = form = fold_word(word)
        if not (word in self._short or plain in self._foreign or plain in self._words or self._is_syllable(marked)):
            return plain, marked, STRANGE  # what it means is worked out only if it is looked at
        may_change = self.meaning(word) != ((form,), False) or word in self.pair_starts
        return plain, marked, MAY_CHANGE if may_change else ITSELF

    def _may_be_slip(self, word: str, syllables: Syllables) -> bool:
        """Whether the word is nothing that is known, but little is missing."""
        plain, marked = fold_word(word)
        return (
            syllables == ((plain, marked),)
            and plain not in self._foreign
            and plain not in self._words
            and not self._is_syllable(marked)
            and bool(self._slips.candidates(plain))
        )

    def knows(self, word: str) -> bool:
        """Whether this is a word of a known phrase."""
        return fold_word(word)[0] in self._words

    def _read(self, word: str) -> Syllables:
        """The syllables a word stands for, each plain and marked."""
        if (short := self._short.get(word)) is not None:
            return short
        plain, marked = form = fold_word(word)
        if (
            len(word) > _MAX_JOINED_LETTERS
            or plain in self._foreign
            or plain in self._words
            or self._is_syllable(marked)
        ):
            return (form,)
        for guess in (self._undrawn, self._typed, self._sounded, self._spelled_in_numbers):
            if (found := guess(word, plain)) is not None:
                return self._short.get(found) or (fold_word(found),)
        return self._numbered_place(word) or self._split(word, plain) or (form,)

    def _is_syllable(self, marked: str) -> bool:
        bare = marked.rstrip(_TONE_SIGNS)
        return bare in self._marked or (bare == marked and bare in self._plain)

    def _accepts(self, word: str) -> bool:
        return word in self._short or self._is_typed_syllable(word)

    def _is_typed_syllable(self, word: str) -> bool:
        return self._is_syllable(fold_word(word)[1])

    def _undrawn(self, word: str, plain: str) -> str | None:
        """What letters drawn out for effect stand for: "cứuuuu", "khônggg"."""
        if not _TWO_ALIKE.search(word):
            return None
        for pattern in (_THREE_ALIKE, _TWO_ALIKE):
            short = pattern.sub(r"\1", word)
            is_sure = pattern is _THREE_ALIKE or word != plain  # "nhaan" is Telex, "nhàà" is not
            if short != word and len(short) > 1 and is_sure and self._accepts(short):
                return short
        return None

    def _typed(self, word: str, plain: str) -> str | None:
        """Telex and VNI keys that were never turned into marks: "nhaf", "dduwowcj", "thuw5ng"."""
        letters = word.rstrip("0123456789")
        if (
            word != plain
            or not word.isascii()
            or not 2 <= len(letters) <= 2 * _LONGEST_SYLLABLE  # no letter takes more than two keys
            or letters in self._numbered
        ):
            return None
        marked = _from_telex(word)
        if marked is None:
            return None
        bare = marked.rstrip(_TONE_SIGNS)
        return marked if bare in self._marked else None

    def _sounded(self, word: str, _plain: str) -> str | None:
        # No abbreviation is heard: "hjk" is a hand on the keyboard.
        for typed, meant in self._habits:
            if word.startswith(typed) and self._is_typed_syllable(meant + word[len(typed) :]):
                return meant + word[len(typed) :]
            if typed == "ck" and word.endswith("ck") and self._is_typed_syllable(f"{word[:-2]}ch"):
                return f"{word[:-2]}ch"
        return None

    def _spelled_in_numbers(self, word: str, plain: str) -> str | None:
        """Numbers for letters, "ch4y": only inside, and only where a known word results."""
        if word.isalpha() or word.isdigit() or not word[0].isalpha() or not word[-1].isalpha():
            return None
        found = word.translate(_LEET)
        return found if fold_word(found)[0] in self._words and plain != found else None

    def _numbered_place(self, word: str) -> Syllables | None:
        """A number written on to its word: "hẻm2", "phòng5"."""
        letters = word.rstrip("0123456789")
        form = fold_word(letters)
        return (form, fold_word(word[len(letters) :])) if letters != word and form[0] in self._numbered else None

    def _split(self, word: str, plain: str) -> Syllables | None:
        """Joined words, if known words result that stand beside each other in a known phrase."""
        if not 5 <= len(plain) <= _MAX_JOINED_LETTERS or not plain.isalpha() or len(word) != len(plain):
            return None
        best: dict[int, tuple[int, tuple[str, ...]]] = {0: (0, ())}
        for end in range(2, len(plain) + 1):
            for start in range(max(0, end - _LONGEST_SYLLABLE), end - 1):
                piece = plain[start:end]
                if start not in best or piece not in self._words:
                    continue
                score, pieces = best[start]
                score += 2 if pieces and (pieces[-1], piece) in self._neighbours else -1
                if end not in best or score > best[end][0]:
                    best[end] = (score, (*pieces, piece))
        score, pieces = best.get(len(plain), (0, ()))
        if len(pieces) < 2 or score <= 0:
            return None
        ends = list(itertools.accumulate(len(piece) for piece in pieces))
        return tuple(fold_word(word[end - len(piece) : end]) for piece, end in zip(pieces, ends, strict=True))


def _from_telex(word: str) -> str | None:
    """The marked form that these keys would have made; None where they make none."""
    out: list[str] = []
    tone = ""
    for key in word:
        key_of_tone = _VNI.get(key, key if key in _TELEX_TONES and not _VOWELS.isdisjoint(out) else "")
        if key_of_tone:
            if tone or _VOWELS.isdisjoint(out):
                return None
            tone = _TELEX_TONES[key_of_tone]
        elif key in _VNI_QUALITY:
            if not _marks_last(out, _VNI_QUALITY[key]):
                return None
        elif key == "w":
            if not _marks_last(out, ("aă", "oơ", "uư")):
                out.append("ư")
        elif key in _HATS and _takes_hat(out, key):
            _marks_last(out, (f"{key}{_HATS[key]}",))
        elif key == "d" and out[:1] == ["d"]:
            out[0] = "đ"
        else:
            out.append(key)
    found = "".join(out).replace("uơ", "ươ") + tone
    return found if found != word else None


_HATS = {"a": "â", "e": "ê", "o": "ô"}


def _takes_hat(out: Sequence[str], key: str) -> bool:
    """Whether only vowels stand between this key and the same vowel before it: "nhaan", "toio", but not "oto"."""
    for letter in reversed(out):
        if letter == key:
            return True
        if letter not in _VOWELS:
            return False
    return False


def _marks_last(out: list[str], changes: Sequence[str]) -> bool:
    for at in range(len(out) - 1, -1, -1):
        for change in changes:
            if out[at] == change[0]:
                out[at] = change[1]
                return True
    return False


def _all_forms(phrase: str) -> Syllables:
    return tuple(fold_word(word) for word in phrase.split())


_SENTENCES = re.compile(r"[.!?\n⏎…;]+")
_CLAUSE_END = re.compile(r"\s*[.,;:!?\n⏎…()\-]")
_LOOKED_AT = 4
_SENTENCE_END = re.compile(r"\s*[.!?\n⏎…]")
_SIGN_FOR_A, _SIGN_FOR_S = re.compile(r"(?<=[^\W\d_])@"), re.compile(r"(?<=[^\W\d_])\$(?=[^\W\d_])")
SPACED_OUT_LETTERS = 3
"""So many single letters may be one word."""

_SPACED_OUT = re.compile(r"(?<![^\W_])(?:[^\W\d_][ .\-_*]{1,2}){2,9}[^\W\d_](?![^\W_])")


class _Cut(NamedTuple):
    """A text cut into tokens, before anybody says what they stand for.

    Attributes:
        typed: the text.
        gaps: what stands behind each token.
        plain: the tokens without their marks.
        marked: the tokens with them.
        stands_for: of each token ITSELF, MAY_CHANGE or STRANGE.
        may_be_spaced_out: whether there are enough single letters for a word written "c h á y".
    """

    typed: str
    tokens: Sequence[str]
    gaps: Sequence[str]
    plain: tuple[str, ...]
    marked: tuple[str, ...]
    stands_for: Sequence[int]
    may_be_spaced_out: bool

    def words(self, most: int = MAX_WORDS) -> Words:
        """The first tokens as words."""
        return Words(self.plain[:most], self.marked[:most], *_layout(self.tokens[:most], self.gaps[:most]), self.typed)

    def left_out(self) -> frozenset[str]:
        """The words that are not looked at: those that no list knows, after the first ones."""
        if self.stands_for.count(STRANGE) <= MAX_STRANGE_WORDS:
            return frozenset()
        strange = dict.fromkeys(itertools.compress(self.tokens, map(STRANGE.__eq__, self.stands_for)))
        return frozenset(itertools.islice(strange, MAX_STRANGE_WORDS, None))


def fold(text: str, spelling: Spelling | None = None) -> Words:
    """Cut a text into words and undo how they were typed.

    Args:
        text: anything.
        spelling: takes teencode and leftovers apart; without it words stay as they are written.
    """
    typed = text[:MAX_CHARACTERS]
    if spelling is None:
        return _as_written[typed]
    cut = _cut(typed, spelling.token)
    return _as_meant(cut, spelling, as_written=_as_written.keep(typed, cut.words()))


def _as_meant(
    cut: _Cut, spelling: Spelling, left_out: frozenset[str] = frozenset(), as_written: Words | None = None
) -> Words:
    """What was meant by a text.

    Args:
        cut: its tokens.
        spelling: says what they stand for, and leaves some out.
        left_out: what is left out besides.
        as_written: the tokens as words, where somebody needed them before.
    """
    meant = _without_disguise(cut, spelling)
    if meant != cut.typed:
        cut, as_written = _cut_clean(meant, _in_latin(meant.lower()), spelling.token), None
    words = cut.words() if as_written is None else as_written
    if not any(cut.stands_for):
        return words
    may_change = list(itertools.compress(range(len(cut.tokens)), cut.stands_for))
    syllables = _meant(cut.tokens, words, spelling, may_change, left_out | cut.left_out())
    forms = list(itertools.chain.from_iterable(syllables))
    if len(forms) != len(syllables) or () in syllables:
        return _spread(cut, words, syllables)
    plain, marked = zip(*forms, strict=True)
    return Words(plain, marked, words.is_accented, words.ends_clause, words.sentence, words.typed)


def sentences_of(text: str) -> list[str]:
    """What stands between the marks and line ends of a text."""
    if not _SENTENCES.search(text):
        return [text]
    return [one for one in _SENTENCES.split(text[:MAX_CHARACTERS]) if one.strip()]


def fold_sentences(sentences: Iterable[str], text: str, words: Words, spelling: Spelling | None) -> list[Words]:
    """What `fold` makes of each sentence alone, cut out of the words of the text where the text has it as it stands.

    Args:
        sentences: the first ones of the text, in order.
        text: what was written.
        words: of the text, by the same spelling.
        spelling: as for `fold`.
    """
    is_as_typed = words.typed == text[:MAX_CHARACTERS] and len(words) < MAX_WORDS  # a word for each token
    left_out: frozenset[str] = frozenset()
    may_be_shortened = not is_as_typed and len(text) > 2 * MAX_STRANGE_WORDS  # a letter and a gap for each at least
    if spelling is not None and may_be_shortened:
        left_out = _cut(text[:MAX_CHARACTERS], spelling.token).left_out()
    found: list[Words] = []
    start = 0
    for sentence in sentences:
        parts = _WORD.split(_in_latin(sentence.lower())) if is_as_typed else []
        tokens = parts[1::2]
        end = start + len(tokens)
        if is_as_typed and (spelling is None or _stands_alone(tokens, spelling)):
            found.append(
                Words(
                    words.plain[start:end],
                    words.marked[start:end],
                    (_is_accented(tokens),) * len(tokens),
                    (*words.ends_clause[start : end - 1], _end_at(parts[-1]) != _NOTHING) if tokens else (),
                    (0,) * len(tokens),
                    sentence,
                )
            )
        else:
            found.append(_alone(sentence, spelling, left_out))
        start = end
    return found


def _alone(sentence: str, spelling: Spelling | None, left_out: frozenset[str]) -> Words:
    """What `fold` makes of it; nobody asks for its words as they are written."""
    if spelling is None:
        return _cut(sentence).words()
    return _as_meant(_cut(sentence, spelling.token), spelling, left_out)


def _stands_alone(tokens: Sequence[str], spelling: Spelling) -> bool:
    """Whether these words mean the same without their neighbours, which may tell slips and words spaced out."""
    return not tokens or not (
        spelling.meaning(tokens[0])[1]
        or spelling.meaning(tokens[-1])[1]
        or list(map(len, tokens)).count(1) >= SPACED_OUT_LETTERS
    )


@lru_cache(maxsize=1)  # of a text alone its sentences, which need it again, are read next
def _cut(text: str, read: Callable[[str], Token] = _typed_token) -> _Cut:
    if text.isascii() or _is_ordinary(text):
        return _cut_clean(text, text.lower(), read)
    clean = _clean(text)
    return _cut_clean(clean, _in_latin(clean.lower()), read)


class _Recent(Remembered[T]):
    """Where it is full the older half goes."""

    def _first_to_go(self) -> Iterator[str]:
        return iter(self)


_as_written: _Recent[Words] = _Recent(lambda text: _cut(text).words(), 1_024)
"""The words of texts as they stand there, for places: those of some batches, which have just been cut to be read."""


def _in_latin(lower: str) -> str:
    return _written(lower, _LOOK_ALIKES) if _IS_LOOK_ALIKE.search(lower) else lower


def _cut_clean(original: str, lower: str, read: Callable[[str], Token]) -> _Cut:
    parts = _WORD.split(lower)
    tokens, gaps = parts[1::2], parts[2::2]
    may_be_spaced_out = list(map(len, tokens)).count(1) >= SPACED_OUT_LETTERS
    if len(tokens) > MAX_WORDS:
        tokens, gaps = tokens[:MAX_WORDS], gaps[:MAX_WORDS]
    plain, marked, stands_for = zip(*map(read, tokens), strict=True) if tokens else ((), (), ())
    return _Cut(original, tokens, gaps, plain, marked, stands_for, may_be_spaced_out)


def _layout(tokens: Sequence[str], gaps: Sequence[str]) -> tuple[tuple[bool, ...], tuple[bool, ...], tuple[int, ...]]:
    """By token: is its sentence written with diacritics, does it end a clause, the number of its sentence."""
    count = len(tokens)
    ends = bytes(map(_end_at, gaps))
    ends_clause = tuple(map(bool, ends))
    if _SENTENCE not in ends[:-1]:
        return (_is_accented(tokens),) * count, ends_clause, (0,) * count
    stops = [at for at, end in enumerate(ends, 1) if end == _SENTENCE]
    if stops[-1] < count:
        stops.append(count)
    without_marks = [0, *itertools.accumulate(map(str.isascii, tokens))]
    of_letters = [0, *itertools.accumulate(map(str.isalpha, tokens))]
    accented: list[bool] = []
    sentence: list[int] = []
    start = 0
    for number, stop in enumerate(stops):
        size = stop - start
        marks = size - without_marks[stop] + without_marks[start]
        accented += [_are_enough(marks, of_letters[stop] - of_letters[start])] * size
        sentence += [number] * size
        start = stop
    return tuple(accented), ends_clause, tuple(sentence)


def _is_accented(tokens: Sequence[str]) -> bool:
    """Whether a sentence is written with diacritics."""
    return _are_enough(list(map(str.isascii, tokens)).count(False), list(map(str.isalpha, tokens)).count(True))


def _are_enough(marked: int, words: int) -> bool:
    """Whether so many marked ones of the words of a sentence say that it is written with diacritics."""
    return marked > 0 and marked >= ACCENTED_SHARE * words


def _without_disguise(cut: _Cut, spelling: Spelling) -> str:
    """The text without signs for letters and without spaces inside words."""
    typed = text = cut.typed
    if "@" in text or "$" in text:
        text = _SIGN_FOR_A.sub("a", _SIGN_FOR_S.sub("s", text))
    if cut.may_be_spaced_out or text is not typed:
        text = _SPACED_OUT.sub(lambda run: _together(run.group(), spelling), text, count=MAX_SPACED_OUT)
    return text


def _spread(cut: _Cut, words: Words, forms: list[Syllables]) -> Words:
    """Words of tokens that stand for several syllables, or for none.

    Args:
        cut: the tokens.
        words: the same as words.
        forms: what each stands for.
    """
    sizes = list(map(len, forms))
    stops = list(itertools.accumulate(sizes))
    if stops and stops[-1] > MAX_WORDS:  # joined words were taken apart
        kept = bisect.bisect_left(stops, MAX_WORDS) + 1
        words, forms, sizes, stops = cut.words(kept), forms[:kept], sizes[:kept], stops[:kept]
    ends = [False] * stops[-1]
    for stop, ends_clause in zip(stops, words.ends_clause, strict=True):
        if ends_clause and stop:
            ends[stop - 1] = True
    plain, marked = zip(*itertools.chain.from_iterable(forms), strict=True) if ends else ((), ())
    return Words(plain, marked, _repeated(words.is_accented, sizes), tuple(ends), _repeated(words.sentence, sizes))


def _repeated(values: Sequence[T], sizes: Sequence[int]) -> tuple[T, ...]:
    return tuple(itertools.chain.from_iterable(map(itertools.repeat, values, sizes)))


def _meant(
    tokens: Sequence[str], words: Words, spelling: Spelling, places: Sequence[int], left_out: frozenset[str]
) -> list[Syllables]:
    """What each token stands for; where two mean something together, the second one stands for both.

    Args:
        tokens: of a text.
        words: the same as words.
        spelling: says what they stand for.
        places: of the tokens that may stand for something else than themselves.
        left_out: tokens that stand for nothing.
    """
    if left_out:
        tokens = [token if token not in left_out else "" for token in tokens]
    meant: list[Syllables] = [*zip(zip(words.plain, words.marked, strict=True))]
    slips: list[int] = []
    for at in places:
        meant[at], may_be_slip = spelling.meaning(tokens[at])
        if may_be_slip:
            slips.append(at)
    for at in places:
        if tokens[at] in spelling.pair_starts and at + 1 < len(tokens) and not words.ends_clause[at]:
            pair = spelling.pair(tokens[at], tokens[at + 1])
            if pair is not None:
                meant[at], meant[at + 1] = (), pair
    spelling.undo_slips(slips, tokens, meant)
    return meant


_NOTHING, _CLAUSE, _SENTENCE = range(3)


def _what_ends(gap: str) -> int:
    start = gap[:_LOOKED_AT]
    return _SENTENCE if _SENTENCE_END.match(start) else _CLAUSE if _CLAUSE_END.match(start) else _NOTHING


class _Gaps(Remembered[int]):
    """What ends where something stands between two words; only short ones are kept."""

    def __missing__(self, gap: str) -> int:
        return super().__missing__(gap) if len(gap) <= _LOOKED_AT else _what_ends(gap)


_end_at = _Gaps(_what_ends, 4_096).__getitem__


def _together(run: str, spelling: Spelling) -> str:
    """Single letters, "c h á y", are one word if it is a known one."""
    word = "".join(filter(str.isalpha, run))
    return word if spelling.knows(word.lower()) else run


class Span(NamedTuple, Generic[T]):
    """Where a phrase stands: words `start` to `end` (excluded)."""

    start: int
    end: int
    value: T
    phrase: str


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """A phrase as it is written, and what it stands for."""

    marked: tuple[str, ...]
    value: T
    phrase: str
    is_strict: bool


Candidate = tuple[int, int, T]
"""Where a phrase may stand, words `start` to `end` (excluded), and what belongs to it."""


class PhraseTree(Generic[T]):
    """Phrases as a tree over their plain words: what starts alike is looked up once.

    Attributes:
        children: by the next word; None where no phrase goes on.
        entry: what belongs to the phrases that end here.
    """

    __slots__ = ("children", "entry")

    def __init__(self) -> None:
        self.children: dict[str, PhraseTree[T]] | None = None
        self.entry: T | None = None

    def at(self, path: Iterable[str]) -> "PhraseTree[T]":
        """The node of these words; made if there is none."""
        node = self
        for word in path:
            if node.children is None:
                node.children = {}
            node = node.children.setdefault(word, PhraseTree())
        return node

    def candidates(self, plain: Sequence[str], starts: Iterable[int] | None = None) -> list[Candidate[T]]:
        """All phrases whose plain words stand there, by start and then by end.

        Args:
            plain: the words.
            starts: where to look, if not everywhere.
        """
        if self.children is None:
            return []
        found: list[Candidate[T]] = []
        count = len(plain)
        if starts is None:
            starts = itertools.compress(range(count), map(self.children.__contains__, plain))
        for start in starts:
            node: PhraseTree[T] | None = self
            end = start
            while end < count and node is not None and node.children is not None:
                node = node.children.get(plain[end])
                end += 1
                if node is not None and node.entry is not None:
                    found.append((start, end, node.entry))
        return found


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
        self.tree: PhraseTree[list[Entry[T]]] = PhraseTree()
        for phrase, value in phrases:
            self._add(phrase, value)

    def _add(self, phrase: str, value: T) -> None:
        words = fold(phrase.removeprefix("="))
        entry = Entry(words.marked, value, phrase, phrase.startswith("="))
        self._put(words.plain, entry)
        joined = "".join(words.plain)
        if len(words) > 1 and len(joined) >= MIN_JOINED_LETTERS and not entry.is_strict and joined.isalpha():
            # "tamtru", "cancuoc": joined words; their marks cannot be compared word by word any more.
            marked = fold(phrase.replace(" ", "")).marked
            self._put((joined,), replace(entry, marked=marked))

    def _put(self, path: Sequence[str], entry: Entry[T]) -> None:
        node = self.tree.at(path)
        if node.entry is None:
            node.entry = []
        node.entry.append(entry)

    def find(self, words: Words) -> list[Span[T]]:
        """All phrases in the words, overlapping ones too, in order of their start."""
        return self.fitting(words, self.tree.candidates(words.plain))

    def fitting(self, words: Words, candidates: Iterable[Candidate[list[Entry[T]]]]) -> list[Span[T]]:
        """The candidates of the tree that are written as they have to be."""
        marked, accepts_bare = words.marked, self._accepts_bare
        return [
            Span(start, end, entry.value, entry.phrase)
            for start, end, entries in candidates
            for entry in entries
            if entry.marked == marked[start:end]
            or ((accepts_bare or not entry.is_strict) and self._fits(entry, words, start, end))
        ]

    def _fits(self, entry: Entry[T], words: Words, start: int, end: int) -> bool:
        """Whether words with other marks than the phrase's may be meant for it."""
        written, bare = words.marked[start:end], words.plain[start:end]
        if self._accepts_bare:
            if written == bare:
                return True
            if end - start > 2:  # half bare: "Tan Chanh Hiệp"; of two words "thanh xuân" is another thing
                return all(map(is_either, written, entry.marked, bare))
        if entry.is_strict:
            return False
        # Written with other marks a word is another word; without any it may be meant where the writer uses none.
        accented = words.is_accented[start:end]
        if True not in accented:
            return written == bare or all(map(is_either, written, entry.marked, bare))
        return all(
            one == wanted or (one == plain and not is_accented)
            for one, wanted, plain, is_accented in zip(written, entry.marked, bare, accented, strict=True)
        )


def is_either(one: str, other: str, another: str) -> bool:
    """Whether a word is one of two."""
    return one in (other, another)


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
