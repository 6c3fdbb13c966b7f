"""The words officers read, in Vietnamese and English, from `texts/*.yaml`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from shared.errors import ConfigurationError
from shared.events import LANGUAGES, Language

TEXTS_DIR = Path(__file__).parent / "texts"


class Texts:
    """All texts of one language."""

    def __init__(self, language: Language, texts: Mapping[str, str]) -> None:
        self.language = language
        self._texts = texts

    def __call__(self, key: str, **values: Any) -> str:
        """The text of a key with its values put in.

        Raises:
            KeyError: there is no such text, which is a mistake of ours.
        """
        return self._texts[key].format(**values)

    def has(self, key: str) -> bool:
        """Whether there is such a text."""
        return key in self._texts

    def words(self, key: str, otherwise: str, values: Mapping[str, Any] | None = None) -> str:
        """The text for a key that comes from data; a key we have no text for is shown as `otherwise`."""
        text = self._texts.get(key)
        if text is None:
            return otherwise
        try:
            return text.format(**(values or {}))
        except (KeyError, IndexError):
            return otherwise

    def keys(self) -> set[str]:
        """Every key."""
        return set(self._texts)

    def starting_with(self, prefix: str) -> dict[str, str]:
        """Texts of one area, for the page's own script."""
        return {key: text for key, text in self._texts.items() if key.startswith(prefix)}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            texts |= _flat(value, f"{key}.")
        else:
            texts[key] = str(value)
    return texts


def load_texts(folder: Path = TEXTS_DIR) -> dict[Language, Texts]:
    """Read all languages.

    Raises:
        ConfigurationError: a file is missing or cannot be read.
    """
    texts: dict[Language, Texts] = {}
    for language in LANGUAGES:
        file = folder / f"{language}.yaml"
        try:
            tree = yaml.safe_load(file.read_text("utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise ConfigurationError(f"{file}: {error}") from error
        texts[language] = Texts(language, _flat(cast("dict[str, Any]", tree)))
    return texts
