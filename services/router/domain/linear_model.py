"""A linear model over the features of a text: small, fast, and every score is a sum that can be told word by word.

The arrays are trained in `services/router/learning` and come from files (`adapters/model_files.py`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
        weights: what each of them counts.
    """

    categories: Mapping[str, float]
    subtopics: Mapping[str, float]
    high: float
    numbers: npt.NDArray[np.intp] = field(compare=False)
    weights: Numbers = field(compare=False)


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
        # One table, so that a text is one look-up: a subtopic's weight is nothing where the files have none.
        finer = np.zeros((main.shape[0], subtopic.shape[1]), dtype=np.float32)
        finer[: subtopic.shape[0]] = subtopic
        self._table, self._bias = np.hstack([main, finer]), bias
        self._is_telling = np.array(
            [at < card.shown_features and name[:2] in _TELLING for at, name in enumerate(features)], dtype=np.bool_
        )
        self._steps = (
            [said for said, _ in card.confidence_at],
            [found for _, found in card.confidence_at],
        )

    def score(self, findings: Findings) -> Scores:
        """Score one text."""
        numbers: list[int] = []
        sizes: list[int] = []
        for found in self._reader.read(findings):
            numbers += found
            sizes.append(len(found))
        at = np.array(numbers, dtype=np.intp)
        each = [group_weight(group, size) for group, size in zip(GROUPS, sizes, strict=True)]
        values = np.repeat(np.array(each, dtype=np.float32), sizes)
        scores = values @ self._table[at] + self._bias
        count = len(self.card.categories)
        return Scores(
            categories=dict(zip(self.card.categories, shares(scores[:count], self.card.temperature), strict=True)),
            subtopics=dict(
                zip(self.card.subtopics, shares(scores[count + 1 :], self.card.subtopic_temperature), strict=True)
            ),
            high=1 / (1 + math.exp(-max(-50.0, min(50.0, float(scores[count]))))),
            numbers=at,
            weights=values,
        )

    def confidence(self, share: float) -> float:
        """How often a reading with this share turned out right."""
        return float(np.interp(share, *self._steps))

    def words_for(self, scores: Scores, category: str, count: int = 3) -> tuple[str, ...]:
        """The words of the text that spoke most for a category: whole words that many people use, plain."""
        telling = self._is_telling[scores.numbers]
        numbers = scores.numbers[telling]
        spoke = self._table[numbers, self.card.categories.index(category)] * scores.weights[telling]
        told = [(-said, self._features[at][2:]) for said, at in zip(spoke.tolist(), numbers.tolist(), strict=True)]
        return tuple(dict.fromkeys(word for said, word in sorted(told) if said < 0))[:count]


_TELLING = frozenset({"w:", "b:"})


def group_weight(group: str, size: int) -> float:
    """What one feature counts in a group of this size."""
    return size ** -(0.25 if group in {"concepts", "lexicon"} else 0.5) if size else 0.0


def shares(scores: Numbers, temperature: float) -> list[float]:
    """Scores as shares of one."""
    cooled = np.exp((scores - scores.max()) / temperature)
    found: list[float] = (cooled / cooled.sum()).tolist()
    return found
