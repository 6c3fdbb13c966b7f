"""What words are about, from a written dictionary: a word that no training message has gets the weight of its concept.

The concepts are data (`data/understanding/concepts/`); they decide nothing by themselves, the model weighs them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from services.router.domain.text import Words, fold


class Lexicon:
    """Concepts with their words and phrases, indexed: the cost of a text does not grow with their number."""

    def __init__(self, concepts: Mapping[str, Sequence[str]]) -> None:
        """Index the phrases.

        Args:
            concepts: name to phrases, written with diacritics.
        """
        self.phrases = tuple(dict.fromkeys(phrase for phrases in concepts.values() for phrase in phrases))
        self._root: dict[str, Any] = {}
        for name, phrases in concepts.items():
            for phrase in phrases:
                self._add(name, phrase)

    def _add(self, name: str, phrase: str) -> None:
        words = fold(phrase)
        if not len(words):
            raise ValueError(f"the concept {name} has a phrase without words: {phrase!r}")
        node = self._root
        for word in words.plain:
            node = node.setdefault(word, {})
        is_unclear_bare = len(words) == 1 and words.plain != words.marked
        entries = node.setdefault("", [])
        if (words.marked, f"l:{name}") not in ((marked, sure) for marked, sure, _ in entries):
            entries.append((words.marked, f"l:{name}", f"u:{name}" if is_unclear_bare else f"l:{name}"))

    def read(self, words: Words) -> list[str]:
        """Names of what is in the words: `l:` and the concept, or `u:` where one bare word may be another one.

        Of phrases inside a longer one only the longer one counts.
        """
        found: dict[str, None] = {}
        plain, marked, accented, count = words.plain, words.marked, words.is_accented, len(words.plain)
        reach = 0
        for start, word in enumerate(plain):
            node = self._root.get(word)
            best, best_end, end = None, reach, start + 1
            while node is not None:
                entries = node.get("")
                if entries is not None and end > best_end:
                    names = _fitting(entries, plain, marked, start, end, is_accented=accented[start])
                    if names:
                        best, best_end = names, end
                node = node.get(plain[end]) if end < count else None
                end += 1
            if best is not None:
                reach = best_end
                found.update(dict.fromkeys(best))
        return list(found)


def _fitting(
    entries: Sequence[tuple[tuple[str, ...], str, str]],
    plain: Sequence[str],
    marked: Sequence[str],
    start: int,
    end: int,
    *,
    is_accented: bool,
) -> list[str]:
    """Names of the entries that the words may be: the same marks, or bare words where the writer uses no marks."""
    names = []
    written = marked[start:end]
    for wanted, sure, unclear in entries:
        if written == wanted:
            names.append(sure)
        elif not is_accented and all(
            one in (right, bare) for one, right, bare in zip(written, wanted, plain[start:end], strict=True)
        ):
            names.append(unclear)
    return names
