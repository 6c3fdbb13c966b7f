"""The words of the pages, in Vietnamese first and English second."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

Language = Literal["vi", "en"]
COOKIE = "phone_language"
_FILE = Path(__file__).parents[1] / "data" / "texts.yaml"


class Words:
    """All words of one language; `words("list.title")` gives one of them."""

    def __init__(self, language: Language, words: dict[str, str]) -> None:
        self.language = language
        self.all = words

    def __call__(self, key: str, **values: Any) -> str:
        """The words of a key with its values put in.

        Raises:
            KeyError: there are none, which is a mistake of ours.
        """
        return self.all[key].format(**values)


@cache
def words_in(language: Language) -> Words:
    """The words of a language."""
    tree = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return Words(language, _flat(tree[language]))


def chosen(query: str | None, cookie: str | None) -> Language:
    """The language asked for in the address, else the one of the last visit, else Vietnamese."""
    return "en" if (query or cookie) == "en" else "vi"


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": str(value)}
    return flat
