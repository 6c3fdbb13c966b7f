"""The model: what the features of a text add up to goes through one small hidden layer to the scores.

The arrays are trained in `services/router/learning` and come from files (`adapters/model_files.py`).
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from services.router.domain.feature_table import FeatureTable, Numbers, Rows
from services.router.domain.understanding import Findings
from services.router.domain.values import immutable


class ModelCard(BaseModel):
    """`model.json`: what the arrays mean and how far to trust them.

    Attributes:
        format: of these files; a router reads its own only.
        categories: columns of the category scores, in order.
        subtopics: columns of the subtopic scores.
        shown_features: features before this number were met often enough to be named to a person.
        temperature: divides the category scores, so that their shares are as often right as they say.
        subtopic_temperature: likewise for subtopics.
        confidence_at: rising points (said, found) of the last correction of the confidence.
        corpus: digest of the messages it was trained on.
        rules: digest of the rule book and the writing it was trained with; its features are made by them.
        examples: how many messages.
        trained_with: versions of what trained it.
        measured: out-of-fold figures of the training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(ge=1)
    categories: tuple[str, ...]
    subtopics: tuple[str, ...]
    shown_features: int
    temperature: float = Field(gt=0)
    subtopic_temperature: float = Field(gt=0)
    confidence_at: tuple[tuple[float, float], ...]
    corpus: str
    rules: str
    examples: int
    trained_with: dict[str, str]
    measured: dict[str, float]


@immutable
class Scores:
    """What the model thinks of a text.

    Attributes:
        categories: share of each category; they sum to 1.
        subtopics: share of each subtopic, were it a procedure; in the order of the model's card.
        high: share of "happening now or dangerous", were it a security tip.
        numbers: the words and pairs of words that may be told to a person, for `TextModel.words_for`.
        weights: what each of them counts.
    """

    categories: Mapping[str, float]
    subtopics: Sequence[float]
    high: float
    numbers: npt.NDArray[np.intp] = field(compare=False)
    weights: Numbers = field(compare=False)


class _Scoring:
    """From the hidden units to the scores.

    Attributes:
        bias: of each hidden unit what it is without any feature.
        out: of each hidden unit what it adds to each score: the categories, a security tip's normal and high, the
            subtopics.
    """

    bias: Numbers
    out: Numbers

    def scores(self, sums: Numbers) -> Numbers:
        """The scores of texts whose features add up to `sums`."""
        units = np.tanh(sums + self.bias)
        # One row alone would be multiplied by another routine, which rounds otherwise: a text is read the same alone.
        found: Numbers = (np.repeat(units, 2, axis=0) @ self.out)[:1] if len(units) == 1 else units @ self.out
        return found


@dataclass(frozen=True)
class Layers(_Scoring):
    """The trained arrays.

    Attributes:
        rows: of each feature what it adds to each hidden unit.
    """

    rows: Numbers
    bias: Numbers
    out: Numbers

    def kept(self) -> "KeptLayers":
        """As they are kept in files and read by."""
        return KeptLayers(Rows.of(self.rows), self.bias.astype(np.float32), self.out.astype(np.float32))


@dataclass(frozen=True)
class KeptLayers(_Scoring):
    """The arrays of `Layers` as a router has them."""

    rows: Rows
    bias: Numbers
    out: Numbers


BATCH = 256
"""Texts of one matrix product: more than the router takes at once, few enough that each row is as it is alone."""


class TextModel:
    """Scores findings.

    Attributes:
        card: what the arrays mean.
        rows: the weights of each feature.
    """

    def __init__(self, card: ModelCard, features: Sequence[str], layers: KeptLayers) -> None:
        """Put the parts together.

        Args:
            card: what they mean.
            features: names, in the order of the rows.
            layers: the arrays.
        """
        self.card = card
        self._features = "\n".join(features)  # hundreds of thousands of names of their own take four times as much
        self.rows, self._layers = layers.rows, layers
        self._table = FeatureTable(features, layers.rows)
        shown = card.shown_features
        self._is_telling = np.zeros(len(features), dtype=np.bool_)
        self._is_telling[:shown] = [name[:2] in _TELLING for name in features[:shown]]
        says = (layers.rows.weights(slice(shown)) * (1 - np.tanh(layers.bias) ** 2)) @ layers.out[
            :, : len(card.categories)
        ]
        self._says = says - says.mean(axis=1, keepdims=True)
        # Of equally strong words the first of the alphabet is named.
        self._alphabet = sorted({name[2:] for name in features[:shown]})
        places = {word: at for at, word in enumerate(self._alphabet)}
        self._place_in_alphabet = np.array([places[name[2:]] for name in features[:shown]], dtype=np.intp)
        self._steps = (
            [said for said, _ in card.confidence_at],
            [found for _, found in card.confidence_at],
        )

    @property
    def features(self) -> list[str]:
        """Their names, in the order of the rows."""
        return self._features.split("\n")

    def score(self, findings: Findings) -> Scores:
        """Score one text."""
        return self.score_all([findings])[0]

    def score_all(self, findings: Sequence[Findings]) -> list[Scores]:
        """Score texts; each gets the very numbers it would get alone."""
        return [
            scores
            for start in range(0, len(findings), BATCH)
            for scores in self._score(findings[start : start + BATCH])
        ]

    def shares_of(self, categories: Sequence[str], findings: Sequence[Findings]) -> list[tuple[float, ...]]:
        """The shares of some categories in each text, as `score_all` has them."""
        places, count = [*map(self.card.categories.index, categories)], len(self.card.categories)
        return [
            tuple([share[at] for at in places])
            for start in range(0, len(findings), BATCH)
            for share in shares(
                self._layers.scores(self._table.sum(findings[start : start + BATCH]).scores)[:, :count],
                self.card.temperature,
            )
        ]

    def _score(self, findings: Sequence[Findings]) -> list[Scores]:
        found = self._table.sum(findings)
        scores = self._layers.scores(found.scores)
        count = len(self.card.categories)
        categories = shares(scores[:, :count], self.card.temperature)
        high = shares(scores[:, count : count + 2], 1.0)
        subtopics = shares(scores[:, count + 2 :], self.card.subtopic_temperature)
        telling = np.flatnonzero(self._is_telling[found.numbers])
        numbers, weights = found.numbers[telling], found.weights[telling]
        ends = np.searchsorted(found.owners[telling], np.arange(len(findings)), side="right").tolist()
        return [
            Scores(
                dict(zip(self.card.categories, by_category, strict=True)),
                by_subtopic,
                is_high,
                numbers[start:end],
                weights[start:end],
            )
            for by_category, by_subtopic, (_, is_high), start, end in zip(
                categories, subtopics, high, (0, *ends), ends, strict=False
            )
        ]

    def confidences(self, said: Sequence[float]) -> list[float]:
        """How often readings with these shares turned out right."""
        found: list[float] = np.interp(said, *self._steps).tolist()
        return found

    def words_for(self, scores: Sequence[Scores], categories: Sequence[str], count: int = 3) -> list[tuple[str, ...]]:
        """For each text the words that spoke most for a category: whole words that many people use, plain."""
        return [
            words
            for start in range(0, len(scores), BATCH)
            for words in self._words_for(scores[start : start + BATCH], categories[start : start + BATCH], count)
        ]

    def _words_for(self, scores: Sequence[Scores], categories: Sequence[str], count: int) -> list[tuple[str, ...]]:
        sizes = [len(one.numbers) for one in scores]
        numbers = np.concatenate([one.numbers for one in scores])
        columns = np.repeat([self.card.categories.index(category) for category in categories], sizes)
        spoke = self._says[numbers, columns] * np.concatenate([one.weights for one in scores])
        is_speaking = spoke > 0
        # One whole number says owner, strength and place in the alphabet: the bits of positive floats are in their
        # order. `np.lexsort` over the three takes four times as long.
        owners = np.repeat(np.arange(len(scores)), sizes)[is_speaking]
        weakness = _MAX_BITS - spoke[is_speaking].view(np.int32).astype(np.int64)
        width = len(self._alphabet).bit_length()
        places = self._place_in_alphabet[numbers[is_speaking]]
        ordered = np.sort((((owners << _FLOAT_BITS) | weakness) << width) | places)
        starts = np.searchsorted(owners, np.arange(len(scores)))
        most = ordered[np.arange(len(ordered)) - starts[owners] < count] & ((1 << width) - 1)
        said = [self._alphabet[place] for place in most.tolist()]
        counts = np.minimum(np.bincount(owners, minlength=len(scores)), count)
        ends = np.cumsum(counts).tolist()
        return [tuple(said[start:end]) for start, end in itertools.pairwise((0, *ends))]


_FLOAT_BITS = 31
_MAX_BITS = 2**_FLOAT_BITS - 1

_TELLING = frozenset({"w:", "b:"})


def shares(scores: npt.NDArray[np.floating[Any]], temperature: float) -> list[list[float]]:
    """Scores as shares of one, row by row."""
    cooled = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature)
    found: list[list[float]] = (cooled / cooled.sum(axis=1, keepdims=True)).tolist()
    return found
