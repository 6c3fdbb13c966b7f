"""A linear model over the features of a text: small, fast, and every score is a sum that can be told word by word.

The arrays are trained in `services/router/learning` and come from files (`adapters/model_files.py`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from services.router.domain.features import GROUPS, FeatureReader
from services.router.domain.understanding import Findings

Numbers = npt.NDArray[np.float32]


class ModelCard(BaseModel):
    """`model.json`: what the arrays mean and how far to trust them.

    Attributes:
        format: of these files; a router reads its own only.
        categories: columns of the category weights, in order.
        subtopics: columns of the subtopic weights.
        subtopic_features: the first so many features have subtopic weights.
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
    subtopic_features: int
    shown_features: int
    temperature: float = Field(gt=0)
    subtopic_temperature: float = Field(gt=0)
    confidence_at: tuple[tuple[float, float], ...]
    corpus: str
    rules: str
    examples: int
    trained_with: dict[str, str]
    measured: dict[str, float]


@dataclass(frozen=True, slots=True)
class Scores:
    """What the model thinks of a text.

    Attributes:
        categories: share of each category; they sum to 1.
        subtopics: share of each subtopic, were it a procedure.
        high: share of "happening now or dangerous", were it a security tip.
        numbers: the features it saw, for `LinearModel.words_for`.
    """

    categories: Mapping[str, float]
    subtopics: Mapping[str, float]
    high: float
    numbers: tuple[int, ...]
    weights: tuple[float, ...]


class LinearModel:
    """Scores findings."""

    def __init__(
        self, card: ModelCard, features: Sequence[str], main: Numbers, subtopic: Numbers, bias: Numbers
    ) -> None:
        """Put the parts together.

        Args:
            card: what they mean.
            features: names, in the order of the rows.
            main: a row for each feature; a column for each category and one for `high`.
            subtopic: a row for each of the first features; a column for each subtopic.
            bias: of all columns, first of `main`, then of `subtopic`.
        """
        self.card = card
        self._features = tuple(features)
        self._reader = FeatureReader({name: at for at, name in enumerate(features)}.get)
        self._main, self._subtopic = main, subtopic
        self._main_bias, self._subtopic_bias = bias[: main.shape[1]], bias[main.shape[1] :]
        self._steps = (
            [said for said, _ in card.confidence_at],
            [found for _, found in card.confidence_at],
        )

    def score(self, findings: Findings) -> Scores:
        """Score one text."""
        numbers: list[int] = []
        weights: list[float] = []
        for group, found in zip(GROUPS, self._reader.read(findings), strict=True):
            numbers += found
            weights += [group_weight(group, len(found))] * len(found)
        at = np.array(numbers, dtype=np.intp)
        values = np.array(weights, dtype=np.float32)
        main = values @ self._main[at] + self._main_bias
        is_known = at < self.card.subtopic_features
        subtopic = values[is_known] @ self._subtopic[at[is_known]] + self._subtopic_bias
        count = len(self.card.categories)
        return Scores(
            categories=dict(zip(self.card.categories, shares(main[:count], self.card.temperature), strict=True)),
            subtopics=dict(zip(self.card.subtopics, shares(subtopic, self.card.subtopic_temperature), strict=True)),
            high=1 / (1 + math.exp(-max(-50.0, min(50.0, float(main[count]))))),
            numbers=tuple(numbers),
            weights=tuple(weights),
        )

    def confidence(self, share: float) -> float:
        """How often a reading with this share turned out right."""
        return float(np.interp(share, *self._steps))

    def words_for(self, scores: Scores, category: str, count: int = 3) -> tuple[str, ...]:
        """The words of the text that spoke most for a category: whole words that many people use, plain."""
        column = self.card.categories.index(category)
        told: list[tuple[float, str]] = []
        for number, weight in zip(scores.numbers, scores.weights, strict=True):
            if number < self.card.shown_features:
                name = self._features[number]
                if name[:2] in _TELLING:
                    told.append((float(self._main[number, column]) * weight, name[2:]))
        best = sorted((one for one in told if one[0] > 0), key=lambda one: (-one[0], one[1]))
        return tuple(dict.fromkeys(word for _, word in best))[:count]


_TELLING = frozenset({"w:", "b:"})


def group_weight(group: str, size: int) -> float:
    """What one feature counts in a group of this size."""
    return size ** -(0.25 if group in {"concepts", "lexicon"} else 0.5) if size else 0.0


def shares(scores: Numbers, temperature: float) -> list[float]:
    """Scores as shares of one."""
    cooled = np.exp((scores - scores.max()) / temperature)
    return [float(one) for one in cooled / cooled.sum()]
