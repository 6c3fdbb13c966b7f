"""Training: from written messages to the arrays of a `LinearModel`, the same bytes every time.

The confidence comes from messages whose writers the model did not see: a person's wording is the thing that a model
takes for the meaning, so a random split would flatter it.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy
import scipy.sparse as sparse
import sklearn
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from threadpoolctl import threadpool_limits

from services.router.adapters.data_files import concept_files
from services.router.adapters.model_files import FORMAT, model_content, name_of, save_model
from services.router.domain.feature_table import Numbers
from services.router.domain.features import GROUPS, FeatureReader, group_of, group_weight
from services.router.domain.linear_model import LinearModel, ModelCard, shares
from services.router.domain.understanding import PRECEDENCE, PROCEDURE_SUBTOPICS, RuleUnderstanding
from services.router.learning.corpus import Example, digest, usual_urgency
from services.router.learning.variants import for_training

Progress = Callable[[str], None]
Rows = list[tuple[list[int], ...]]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class View:
    """One expert of the ensemble: it sees some groups of features only, so that it cannot lean on the others.

    Attributes:
        sees: how much each group counts in training; groups that are not named are hidden.
        counts: how much the expert counts in the sum.
        hides: share of the features of a message that it does not see in training, others in each of its copies.
        copies: how often it reads each message.
    """

    sees: Mapping[str, float]
    counts: float
    hides: float = 0.0
    copies: int = 1


VIEWS = (
    View({"pairs": 1.0, "concepts": 0.7, "lexicon": 0.7}, 0.23),
    View({"words": 1.0, "lexicon": 1.0}, 0.13),
    View({"pairs": 1.0, "form": 0.5}, 0.42),
    View({"parts": 1.0, "lexicon": 0.5}, 0.09),
    View({"words": 1.0, "pairs": 1.0, "form": 0.5}, 0.16),
    View(
        {"words": 1.0, "pairs": 1.0, "parts": 0.5, "concepts": 0.5, "lexicon": 0.7, "form": 0.5},
        0.37,
        hides=0.85,
        copies=2,
    ),
)
"""Trained apart, added up: a single model learns to trust the words that its writers use and leaves the dictionary
untrained. The sum of linear models is a linear model, so six experts cost the router what one does. The last one reads
with most of a message hidden, so that it learns from each word what that word says alone. Weights: those that make the
right categories of held-back writers likeliest."""

SEED = 6
"""Of what the experts do not see: the same in each training."""

LEAST = {"w:": 2, "m:": 2, "b:": 2, "d:": 2, "p:": 4}
"""In how many messages a feature must occur; what occurs once is a name or a slip."""

SHOWN_FROM = 8
"""Words of so many messages may be named to a person as a reason."""

STRENGTH = 5.0
"""Inverse of the regularisation; chosen on writers that the model had not seen."""

RULE_BOOK, PHRASE_WEIGHT = "rule_book", 0.3
"""The phrases of the rule book are short messages too: they teach words that no writer happened to use."""

FOLDS = 3
ITERATIONS = 60


@dataclass
class Trained:
    """A model before it is written.

    Attributes:
        unseen: what models that had not seen the writer made of each message: category and subtopic scores.
    """

    card: ModelCard
    features: list[str]
    main: Numbers
    subtopic: Numbers
    bias: Numbers
    unseen: npt.NDArray[np.float64] = field(repr=False)

    def model(self) -> LinearModel:
        """Ready to score; rounded as in the files."""
        return LinearModel(
            self.card,
            self.features,
            self.main.astype("<f2").astype(np.float32),
            self.subtopic.astype("<f2").astype(np.float32),
            self.bias,
        )

    def save(self, data_dir: Path) -> str:
        """Write the files; returns the model's name."""
        return save_model(data_dir, self._content())

    def name(self) -> str:
        """The name that these files would get."""
        return name_of(self._content())

    def _content(self) -> dict[str, bytes]:
        return model_content(self.card, self.features, self.main, self.subtopic, self.bias)


def rules_digest(data_dir: Path) -> str:
    """What the rule features are made of."""
    whole = hashlib.sha256()
    for file in (
        *(data_dir / "rules" / name for name in ("understanding.yaml", "writing.yaml")),
        *concept_files(data_dir),
    ):
        whole.update(file.read_bytes())
    return whole.hexdigest()


def train(
    examples: Sequence[Example],
    rules: RuleUnderstanding,
    *,
    rules_hash: str = "",
    say: Progress = lambda _: None,
    folds: int = FOLDS,
    groups: Sequence[str] = GROUPS,
) -> Trained:
    """Train on all examples; the confidence is set on writers held back in turn.

    Args:
        examples: labelled messages.
        rules: finds the concepts.
        rules_hash: kept in the card.
        say: told what is going on.
        folds: in how many parts the writers are held back.
        groups: groups of features to use; fewer for an ablation.
    """
    # One thread: sums in another order are other numbers.
    with threadpool_limits(limits=1):
        return _train(list(examples), rules, rules_hash, say, folds, groups)


def _train(
    examples: list[Example],
    rules: RuleUnderstanding,
    rules_hash: str,
    say: Progress,
    folds: int,
    groups: Sequence[str],
) -> Trained:
    say(f"reading {len(examples)} messages in four spellings")
    written = len(examples)
    everything = [*examples, *phrases_of(rules)]
    data = _Data.of(everything, rules, groups)
    say(f"{len(data.features)} features; holding writers back in {folds} parts")
    unseen = _unseen_scores(data, everything, folds)[:written]
    say("training on everything")
    main, subtopic, bias = _fit(data, np.arange(len(everything)))
    card = _card(examples, data.first(written), unseen, rules_hash)
    return Trained(card, data.features, main, subtopic, bias, unseen)


@dataclass
class _Data:
    features: list[str]
    groups: list[str]
    shown: int
    procedures: int
    matrix: Any
    owner: Labels
    weight: npt.NDArray[np.float64]
    category: Labels
    subtopic: Labels
    high: Labels

    def first(self, count: int) -> "_Data":
        """The labels of the first messages."""
        return replace(self, category=self.category[:count], subtopic=self.subtopic[:count], high=self.high[:count])

    @classmethod
    def of(cls, examples: Sequence[Example], rules: RuleUnderstanding, groups: Sequence[str]) -> "_Data":
        vocabulary: dict[str, int] = {}
        reader = FeatureReader(lambda name: vocabulary.setdefault(name, len(vocabulary)))
        rows: Rows = []
        owner: list[int] = []
        weight: list[float] = []
        for at, example in enumerate(examples):
            for text, counts in for_training(example.text):
                rows.append(reader.read(rules.examine(text)))
                owner.append(at)
                weight.append(counts * (PHRASE_WEIGHT if example.writer == RULE_BOOK else 1.0))
        rows = [tuple(one if g in groups else [] for g, one in zip(GROUPS, row, strict=True)) for row in rows]
        names = list(vocabulary)
        kept, shown, procedures = _kept(rows, owner, names, examples)
        place = {old: new for new, old in enumerate(kept)}
        rows = [tuple([place[n] for n in one if n in place] for one in row) for row in rows]
        return cls(
            features=[names[old] for old in kept],
            groups=[group_of(names[old]) for old in kept],
            shown=shown,
            procedures=procedures,
            matrix=_matrix(rows, len(kept)),
            owner=np.array(owner),
            weight=np.array(weight),
            category=np.array([PRECEDENCE.index(e.category) for e in examples]),
            subtopic=np.array([PROCEDURE_SUBTOPICS.index(e.subtopic) if e.subtopic else -1 for e in examples]),
            high=np.array([int(e.urgency == "high") if e.category == "security_tip" else -1 for e in examples]),
        )


def phrases_of(rules: RuleUnderstanding) -> list[Example]:
    """What the rule book takes for a matter by itself, as examples."""
    return [
        Example(phrase, rule.category, rule.subtopic, usual_urgency(rule.category), RULE_BOOK, rule.key)
        for rule, phrase in rules.telling_phrases()
        if rule.category != "security_tip" and (rule.category != "procedure" or rule.subtopic)
    ]


def _kept(
    rows: Rows, owner: Sequence[int], names: Sequence[str], examples: Sequence[Example]
) -> tuple[list[int], int, int]:
    """Features that occur in enough messages: well-known procedure words first, then procedures', then the others."""
    messages: dict[int, set[int]] = {}
    for row, message in zip(rows, owner, strict=True):
        for one in row:
            for number in one:
                messages.setdefault(number, set()).add(message)
    counts = {number: len(found) for number, found in messages.items()}
    kept = [n for n in range(len(names)) if counts.get(n, 0) >= LEAST.get(names[n][:2], 2)]
    asked = {n for n in kept if sum(examples[m].category == "procedure" for m in messages[n]) >= 2}
    shown = {n for n in kept if counts[n] >= SHOWN_FROM and names[n][:2] in LEAST and names[n][:2] != "p:"}
    kept.sort(key=lambda n: (n not in shown, n not in asked, names[n]))
    # Subtopic weights reach as far as the last feature that a procedure has; well-known words stand before it.
    return kept, len(shown), max((at + 1 for at, n in enumerate(kept) if n in asked), default=0)


def _matrix(rows: Rows, width: int) -> Any:
    starts, columns, values = [0], [], []
    for row in rows:
        for group, one in zip(GROUPS, row, strict=True):
            columns += one
            values += [group_weight(group, len(one))] * len(one)
        starts.append(len(columns))
    return sparse.csr_matrix((values, columns, starts), shape=(len(rows), width), dtype=np.float64)


def _logistic() -> LogisticRegression:
    # No free intercept: short texts would inherit the large bias that long ones need, and "cháy nhà" would be nothing.
    return LogisticRegression(C=STRENGTH, max_iter=ITERATIONS, tol=1e-3, fit_intercept=False)


def _fit(data: _Data, messages: Labels) -> tuple[Numbers, Numbers, Numbers]:
    """Weights for categories with `high`, for subtopics, and the bias of all."""
    chosen = np.isin(data.owner, messages)
    every = data.matrix.shape[1]
    main, main_bias = _weights(data, chosen, data.category[data.owner], len(PRECEDENCE), every)
    high = data.high[data.owner]
    urgent, urgent_bias = _weights(data, chosen & (high >= 0), high, 2, every)
    subtopic = data.subtopic[data.owner]
    asked = chosen & (subtopic >= 0)
    finer, finer_bias = _weights(data, asked, subtopic, len(PROCEDURE_SUBTOPICS), data.procedures)
    urgency = (urgent[1] - urgent[0], urgent_bias[1] - urgent_bias[0])
    return (
        np.vstack([main, urgency[0]]).T.astype(np.float32),
        finer.T.astype(np.float32),
        np.concatenate([main_bias, [urgency[1]], finer_bias]).astype(np.float32),
    )


def _weights(
    data: _Data, chosen: npt.NDArray[np.bool_], labels: Labels, classes: int, width: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """One row of weights for each class, the views added up; a class that no message has is never chosen."""
    rows, bias = np.zeros((classes, width)), np.full(classes, -20.0)
    labels, weight = labels[chosen], data.weight[chosen]
    present = np.unique(labels)
    bias[present] = 0.0
    if len(present) < 2:
        return rows, bias
    matrix = data.matrix[chosen][:, :width].tocsc()
    for view in VIEWS:
        columns = np.flatnonzero([group in view.sees for group in data.groups[:width]])
        if not len(columns):
            continue
        scale = np.array([view.sees[data.groups[column]] for column in columns])
        seen = (matrix[:, columns] @ sparse.diags(scale)).tocsr().astype(np.float32)
        fitted = _logistic().fit(
            _with_hidden(seen, view),
            np.tile(labels, view.copies),
            sample_weight=np.tile(weight / view.copies, view.copies),
        )
        found = fitted.coef_ * scale * view.counts
        if len(present) == 2:
            found = np.vstack([-found / 2, found / 2])
        rows[np.ix_(present, columns)] += found
    return rows, bias


def _with_hidden(seen: Any, view: View) -> Any:
    """The messages as often as the view reads them, each time with other features hidden and the rest counting more."""
    if not view.hides:
        return seen
    chance = np.random.default_rng(SEED)
    copies = []
    for _ in range(view.copies):
        copy = seen.copy()
        copy.data *= (chance.random(copy.nnz) >= view.hides) / (1 - view.hides)
        copy.eliminate_zeros()
        copies.append(copy)
    return sparse.vstack(copies).tocsr()


def parts_of(writers: Iterable[str], folds: int) -> list[set[str]]:
    """The writers in so many parts, each held back once."""
    names = sorted(set(writers))
    return [set(names[start::folds]) for start in range(min(folds, len(names)))]


def _unseen_scores(data: _Data, examples: Sequence[Example], folds: int) -> npt.NDArray[np.float64]:
    writers = np.array([example.writer for example in examples])
    first_rows = np.searchsorted(data.owner, np.arange(len(examples)))
    plain = data.matrix[first_rows]
    columns = len(PRECEDENCE) + 1 + len(PROCEDURE_SUBTOPICS)
    scores = np.zeros((len(examples), columns))
    for part in parts_of((w for w in writers.tolist() if w != RULE_BOOK), folds):
        held = np.isin(writers, sorted(part))
        main, subtopic, bias = _fit(data, np.flatnonzero(~held))
        scores[held, : main.shape[1]] = plain[held] @ main
        scores[held, main.shape[1] :] = plain[held][:, : data.procedures] @ subtopic
        scores[held] += bias
    return scores


def _card(examples: Sequence[Example], data: _Data, unseen: npt.NDArray[np.float64], rules_hash: str) -> ModelCard:
    count = len(PRECEDENCE)
    categories, subtopics = unseen[:, :count], unseen[:, count + 1 :]
    temperature = _temperature(categories, data.category)
    asked = data.subtopic >= 0
    sub_temperature = _temperature(subtopics[asked], data.subtopic[asked])
    said = np.array(shares(categories, temperature), dtype=np.float64)
    guess = said.argmax(axis=1)
    steps = _confidence(said.max(axis=1), guess == data.category)
    right_subtopic = subtopics[asked].argmax(axis=1) == data.subtopic[asked]
    return ModelCard(
        format=FORMAT,
        categories=PRECEDENCE,
        subtopics=PROCEDURE_SUBTOPICS,
        subtopic_features=data.procedures,
        shown_features=data.shown,
        temperature=round(temperature, 3),
        subtopic_temperature=round(sub_temperature, 3),
        confidence_at=steps,
        corpus=digest(examples),
        rules=rules_hash,
        examples=len(examples),
        trained_with={"numpy": np.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__},
        measured={
            "unseen_macro_f1": round(float(f1_score(data.category, guess, average="macro")), 4),
            "unseen_subtopic_accuracy": round(float(right_subtopic.mean()), 4) if asked.any() else 0.0,
        },
    )


def _temperature(scores: npt.NDArray[np.float64], labels: Labels) -> float:
    """The one that makes the right labels likeliest; a coarse search is exact enough and always ends the same."""
    if not len(labels):
        return 1.0
    best, found = float("inf"), 1.0
    for candidate in np.arange(0.4, 3.01, 0.05):
        cooled = scores / candidate
        cooled = cooled - cooled.max(axis=1, keepdims=True)
        loss = float((np.log(np.exp(cooled).sum(axis=1)) - cooled[np.arange(len(labels)), labels]).mean())
        if loss < best:
            best, found = loss, float(candidate)
    return found


def _confidence(said: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    """Points of a rising line from what was said to what was found."""
    line = IsotonicRegression(y_min=0.0, y_max=0.995, out_of_bounds="clip").fit(said, right.astype(float))
    edges = np.unique(np.quantile(said, np.linspace(0, 1, 13)).round(3))
    smooth = []
    for low, high in itertools.pairwise(edges):
        inside = said[(said >= low) & (said <= high)]
        if len(inside):
            smooth.append((round(float(inside.mean()), 4), round(float(line.predict(inside).mean()), 4)))
    points = dict(smooth)
    return tuple(sorted(points.items())) if points else ((0.0, 0.0), (1.0, 1.0))
