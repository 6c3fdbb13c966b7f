"""One message as other fingers would type it: for training and for the robustness table.

Every variant of a text is the same on every machine: chance is seeded with the text itself.
"""

import random
import re
import unicodedata
import zlib
from collections.abc import Callable

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
    "typos": with_typos,
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


def for_training(text: str) -> list[tuple[str, float]]:
    """A text with the variants it is trained with, and how much each counts."""
    noisy = _NOISY[zlib.crc32(text.encode()) % len(_NOISY)](text)
    return [
        (text, 1.0),
        (without_diacritics(text), 0.5),
        (noisy, 0.5),
        (with_typos(text, 0.1), 0.4),
        (without_diacritics(with_typos(text, 0.12)), 0.3),
    ]
