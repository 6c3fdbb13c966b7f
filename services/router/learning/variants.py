"""One message as other fingers would type it: for training and for the robustness table.

Every variant of a text is the same on every machine: chance is seeded with the text itself.
"""

import random
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator

_TEENCODE = {
    "không": "ko",
    "được": "dc",
    "gì": "j",
    "rồi": "r",
    "vậy": "z",
    "người": "ng",
    "cũng": "cx",
    "với": "vs",
    "trước": "trc",
    "biết": "bít",
    "đăng ký": "đk",
    "căn cước": "cccd",
    "mọi người": "mn",
    "bây giờ": "bh",
    "làm": "lm",
    "quá": "wá",
    "anh": "a",
    "em": "e",
    "phải": "fải",
    "muốn": "mún",
    "như thế nào": "ntn",
    "bao nhiêu": "bn",
    "điện thoại": "đt",
    "nhưng": "nhg",
    "thôi": "thui",
    "luôn": "lun",
    "yêu": "iu",
    "hôm": "hum",
    "mình": "mk",
    "về": "zề",
    "vô": "zô",
    "qua": "wa",
}
_KEYS = ["qwertyuiop", "asdfghjkl", "zxcvbnm"]
_NEIGHBOURS = {
    key: "".join(row[max(0, at - 1) : at] + row[at + 1 : at + 2]) for row in _KEYS for at, key in enumerate(row)
}


def _chance(text: str, kind: str) -> random.Random:
    return random.Random(zlib.crc32(f"{kind}:{text}".encode()))  # noqa: S311 - the same typos everywhere, no secret


def without_diacritics(text: str) -> str:
    """As typed on a phone without a Vietnamese keyboard."""
    bare = unicodedata.normalize("NFD", text.replace("đ", "d").replace("Đ", "D"))
    return unicodedata.normalize("NFC", "".join(letter for letter in bare if not unicodedata.combining(letter)))


def with_typos(text: str, share: float = 0.05) -> str:
    """A share of the letters is missed, doubled, swapped or hit beside the key."""
    chance = _chance(text, "typos")
    out: list[str] = []
    for letter in text:
        if not letter.isalpha() or chance.random() >= share:
            out.append(letter)
            continue
        kind = chance.randrange(4)
        if kind == 0:
            continue
        if kind == 1:
            out.append(letter * 2)
        elif kind == 2 and out and out[-1].isalpha():
            out.insert(len(out) - 1, letter)
        else:
            near = _NEIGHBOURS.get(letter.lower(), "")
            out.append(chance.choice(near) if near else letter)
    return "".join(out)


_PLACES = {key: (row, at + row / 2) for row, keys in enumerate(_KEYS) for at, key in enumerate(keys)}
_AROUND = {
    key: [
        other
        for other, (row, at) in _PLACES.items()
        if other != key and abs(row - _PLACES[key][0]) <= 1 and abs(at - _PLACES[key][1]) <= 1
    ]
    for key in _PLACES
}
_TONES = "\u0300\u0301\u0303\u0309\u0323"


def with_slips(text: str, share: float = 0.05) -> str:
    """Other typos than those of the training, for measuring: keys above and below too, spaces, wrong and lost tones."""
    chance = _chance(text, "slips")
    out: list[str] = []
    letters = iter(unicodedata.normalize("NFC", text))
    for letter in letters:
        if not (letter.isalpha() or letter == " ") or chance.random() >= share:
            out.append(letter)
        elif letter == " ":
            out.append("" if chance.random() < 0.3 else letter)
        else:
            out.append(_slip(letter, letters, chance))
    return "".join(out)


def _slip(letter: str, following: Iterator[str], chance: random.Random) -> str:
    around = _AROUND.get(without_diacritics(letter).lower(), [letter])
    match chance.choice(("missed", "beside", "swapped", "extra", "tone")):
        case "missed":
            return ""
        case "beside":
            return chance.choice(around)
        case "swapped":
            return next(following, "") + letter
        case "extra":
            return letter + chance.choice(around)
        case _:
            toneless = "".join(mark for mark in unicodedata.normalize("NFD", letter) if mark not in _TONES)
            tone = chance.choice(("", chance.choice(_TONES))) if toneless[0].lower() in "aeiouy" else ""
            return unicodedata.normalize("NFC", toneless + tone)


_SHORT = re.compile(r"\b(" + "|".join(sorted(_TEENCODE, key=len, reverse=True)) + r")\b", re.IGNORECASE)


def in_teencode(text: str) -> str:
    """Short forms of the young."""
    return _SHORT.sub(lambda found: _TEENCODE[found.group().lower()], unicodedata.normalize("NFC", text))


def in_capitals(text: str) -> str:
    """Everything shouted."""
    return text.upper()


def in_pieces(text: str) -> str:
    """One thought in several bubbles: cut between words, without marks, each bubble on its line."""
    chance = _chance(text, "pieces")
    words = text.split()
    lines: list[list[str]] = [[]]
    for word in words:
        if lines[-1] and (len(lines[-1]) >= 8 or (len(lines[-1]) >= 2 and chance.random() < 0.2)):
            lines.append([])
        lines[-1].append(word.rstrip(",.;:"))
    return "\n".join(" ".join(line) for line in lines)


def run_on(text: str) -> str:
    """As dictated: no marks, no capitals, no lines."""
    return " ".join(re.sub(r"[.,;:!?…\n]+", " ", text).lower().split())


VARIANTS: dict[str, Callable[[str], str]] = {
    "no_diacritics": without_diacritics,
    "typos": with_slips,
    "teencode": in_teencode,
    "capitals": in_capitals,
    "pieces": in_pieces,
    "run_on": run_on,
}

_NOISY: tuple[Callable[[str], str], ...] = (
    with_typos,
    in_teencode,
    in_pieces,
    run_on,
    lambda text: without_diacritics(with_typos(text)),
    lambda text: without_diacritics(in_teencode(text)),
)


def for_training(text: str, around: Callable[[str], str]) -> list[tuple[str, float]]:
    """A text with the variants it is trained with, and how much each counts.

    Args:
        text: as written.
        around: the text with something around it, for the copy of this name.
    """
    noisy = _NOISY[zlib.crc32(text.encode()) % len(_NOISY)](around("noisy"))
    mistyped = with_typos(around("mistyped"), 0.1)
    return [
        (text, 1.0),
        (without_diacritics(text), 0.5),
        (noisy, 0.7),
        (without_diacritics(mistyped) if len(text) % 2 else mistyped, 0.9),
    ]
