"""What words are about, from a written dictionary: a word that no training message has gets the weight of its concept.

The concepts are data (`data/understanding/concepts/`); they decide nothing by themselves, the model weighs them.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from services.router.domain.text import Candidate, PhraseTree, Words, fold, is_either

Marks = tuple[str, ...]


@dataclass(slots=True)
class ConceptPhrases:
    """Phrases that are the same without diacritics, and the features of their concepts.

    Attributes:
        bare: their words without diacritics.
        first: how the first one is written; most are the only one, and need not be looked up.
        first_names: features of what is written like it.
        entries: marks of a phrase, the feature where it is written so, and the one where no word has a mark.
        names: features of what is written with these marks.
        bare_names: features of what is written without any, by a writer who uses none.
    """

    bare: Marks
    first: Marks
    first_names: list[str] = field(default_factory=list)
    entries: list[tuple[Marks, str, str]] = field(default_factory=list)
    names: dict[Marks, list[str]] = field(default_factory=dict)
    bare_names: list[str] = field(default_factory=list)

    def add(self, marked: Marks, name: str) -> None:
        """One more phrase of a concept."""
        is_unclear = len(marked) == 1 and marked != self.bare
        sure, unclear = f"l:{name}", f"u:{name}" if is_unclear else f"l:{name}"
        self.entries.append((marked, sure, unclear))
        self.names.setdefault(marked, self.first_names if marked == self.first else []).append(sure)
        self.bare_names.append(unclear)

    def half_bare_names(self, written: Marks) -> list[str]:
        """Features of what is written with some marks only."""
        return [
            sure if marked == written else unclear
            for marked, sure, unclear in self.entries
            if marked == written or all(map(is_either, written, marked, self.bare))
        ]


class Lexicon:
    """Concepts with their words and phrases, indexed: the cost of a text does not grow with their number."""

    def __init__(self, concepts: Mapping[str, Sequence[str]]) -> None:
        """Index the phrases.

        Args:
            concepts: name to phrases, written with diacritics.
        """
        self.concepts = concepts
        self.phrases = tuple(dict.fromkeys(phrase for phrases in concepts.values() for phrase in phrases))
        self.tree: PhraseTree[ConceptPhrases] = PhraseTree()
        for name, phrases in concepts.items():
            for phrase in phrases:
                self._add(name, phrase)

    def _add(self, name: str, phrase: str) -> None:
        words = fold(phrase)
        if not len(words):
            raise ValueError(f"the concept {name} has a phrase without words: {phrase!r}")
        node = self.tree.at(words.plain)
        if node.entry is None:
            node.entry = ConceptPhrases(words.plain, words.marked)
        node.entry.add(words.marked, name)

    def names(self, words: Words, candidates: Iterable[Candidate[ConceptPhrases]]) -> list[str]:
        """Names of what is in the words: `l:` and the concept, or `u:` where one bare word may be another one.

        Of phrases inside a longer one only the longer one counts.

        Args:
            words: of a text.
            candidates: of the tree for these words.
        """
        found: list[Sequence[str]] = []
        marked, accented = words.marked, words.is_accented
        reach, last_start = 0, -1
        for start, end, phrases in candidates:
            if end <= reach:
                continue
            written = marked[start:end]
            if accented[start]:
                names = phrases.first_names if written == phrases.first else phrases.names.get(written)
            else:
                names = phrases.bare_names if written == phrases.bare else phrases.half_bare_names(written)
            if names:
                if start == last_start:
                    found[-1] = names
                else:
                    found.append(names)
                reach, last_start = end, start
        return list(dict.fromkeys(itertools.chain.from_iterable(found)))
