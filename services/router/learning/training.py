"""Training: from written messages to the arrays of a `TextModel`, the same bytes every time.

The confidence comes from messages whose writers the model did not see: a person's wording is the thing that a model
takes for the meaning, so a random split would flatter it.
"""

import hashlib
import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy
import scipy.sparse as sparse
import sklearn
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import f1_score
from threadpoolctl import threadpool_limits

from services.router.adapters.data_files import concept_files
from services.router.adapters.model_files import FORMAT, model_content, name_of, save_model
from services.router.domain.feature_table import Numbers
from services.router.domain.features import GROUPS, FeatureReader, group_weight
from services.router.domain.text_model import Layers, ModelCard, TextModel, shares
from services.router.domain.understanding import (
    PRECEDENCE,
    PROCEDURE_SUBTOPICS,
    Category,
    Findings,
    RuleUnderstanding,
)
from services.router.learning.around import Around
from services.router.learning.corpus import Example, digest, usual_urgency
from services.router.learning.network import NO_LABEL, SEEDS, Labels, Plan, Task, fit, joined
from services.router.learning.processes import side_by_side
from services.router.learning.variants import for_training

Progress = Callable[[str], None]


LEAST = {"w:": 2, "m:": 2, "b:": 4, "d:": 4, "p:": 4}
"""In how many messages a feature must occur: what occurs once is a name or a slip, of pairs what occurs three times."""

SHOWN_FROM = 8
"""Words of so many messages may be named to a person as a reason."""

RULE_BOOK, LEXICON, NOTHING = "rule_book", "lexicon", "nothing"
PHRASES = {RULE_BOOK: 0.3, LEXICON: 0.2, NOTHING: 1.0}
"""Phrases of our lists are short messages too, and count so much: they teach words that no writer happened to use, and
what they say plainly where writers joke with them."""

UNKNOWN_TEXTS = 30
"""So many texts of which nothing is known are `other`: what says nothing is no emergency, and a person reads it.

Without them a net takes it for an emergency with a share of 0.45."""

FOLDS = 3

PLAN = Plan()


@dataclass
class Trained:
    """A model before it is written.

    Attributes:
        unseen: what models that had not seen the writer made of each message: category and subtopic scores.
    """

    card: ModelCard
    features: list[str]
    layers: Layers
    unseen: npt.NDArray[np.float64] = field(repr=False)

    def model(self) -> TextModel:
        """Ready to score; rounded as in the files."""
        return TextModel(self.card, self.features, self.layers.kept())

    def save(self, data_dir: Path) -> str:
        """Write the files; returns the model's name."""
        return save_model(data_dir, self._content())

    def name(self) -> str:
        """The name that these files would get."""
        return name_of(self._content())

    def _content(self) -> dict[str, bytes]:
        return model_content(self.card, self.features, self.layers)


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
    around: Around,
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
        around: what people put around a matter.
        rules_hash: kept in the card.
        say: told what is going on.
        folds: in how many parts the writers are held back.
        groups: groups of features to use; fewer for an ablation.
    """
    # One thread: sums in another order are other numbers.
    with threadpool_limits(limits=1):
        return _train(list(examples), rules, around, rules_hash, say, folds, groups)


def _train(
    examples: list[Example],
    rules: RuleUnderstanding,
    around: Around,
    rules_hash: str,
    say: Progress,
    folds: int,
    groups: Sequence[str],
) -> Trained:
    say(f"reading {len(examples)} messages in four spellings")
    written = len(examples)
    everything = [*examples, *phrases_of(rules)]
    data = _Data.of(everything, rules, around, groups)
    say(f"{len(data.features)} features; training on everything, and with writers held back in {folds} parts")
    layers, unseen = _fitted(data, everything, folds)
    card = _card(examples, data.first(written), unseen[:written], rules_hash)
    return Trained(card, data.features, layers, unseen[:written])


@dataclass
class _Data:
    features: list[str]
    shown: int
    matrix: Any
    owner: Labels
    weight: Numbers
    spelling: Labels
    category: Labels
    subtopic: Labels
    high: Labels

    def first(self, count: int) -> "_Data":
        """The labels of the first messages."""
        return replace(self, category=self.category[:count], subtopic=self.subtopic[:count], high=self.high[:count])

    @classmethod
    def of(
        cls, examples: Sequence[Example], rules: RuleUnderstanding, around: Around, groups: Sequence[str]
    ) -> "_Data":
        read = _read_all(examples, rules, around)
        kept, shown = _kept(read)
        matrix = _matrix(read, kept, [group in groups for group in GROUPS])
        return cls(
            features=[read.names[old] for old in kept],
            shown=shown,
            matrix=matrix[read.row],
            owner=read.owner,
            weight=read.weight,
            spelling=np.arange(len(read.owner)) - np.searchsorted(read.owner, read.owner),
            category=np.array([PRECEDENCE.index(e.category) for e in examples]),
            subtopic=np.array([PROCEDURE_SUBTOPICS.index(e.subtopic) if e.subtopic else -1 for e in examples]),
            high=np.array([_high(example) for example in examples]),
        )


def _high(example: Example) -> int:
    """Whether a tip is happening now or dangerous; a phrase does not say."""
    if example.category != "security_tip" or example.writer in PHRASES:
        return NO_LABEL
    return int(example.urgency == "high")


@dataclass
class _Read:
    """Texts as numbers of features; a text that stands for several spellings of a message is read once.

    Attributes:
        names: of the features.
        found: features of all texts, one text after the other and in each group by group.
        sizes: how many there are of each group in each text.
        row: the text of each row of the training.
        owner: the example of each row.
        weight: how much each row counts.
        examples: in how many of them each feature occurs.
    """

    names: list[str]
    found: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int32]
    row: Labels
    owner: Labels
    weight: Numbers
    examples: Labels

    def then(self, other: "_Read") -> "_Read":
        """Both, with the other's features under the numbers they have here."""
        numbers = {name: at for at, name in enumerate(self.names)}
        place = np.array([numbers.setdefault(name, len(numbers)) for name in other.names], dtype=np.int32)
        examples = np.zeros(len(numbers), dtype=np.int64)
        examples[: len(self.names)] = self.examples
        examples[place] += other.examples
        return _Read(
            list(numbers),
            np.concatenate([self.found, place[other.found]]),
            np.concatenate([self.sizes, other.sizes]),
            np.concatenate([self.row, other.row + len(self.sizes)]),
            np.concatenate([self.owner, other.owner]),
            np.concatenate([self.weight, other.weight]),
            examples,
        )


WORTH_A_PROCESS = 2_000
"""So many examples take a second to read; fewer are not worth a process of their own."""

EACH = 20
"""Reading an example takes as long as so many letters, whatever it holds, and its letters."""


def _read_all(examples: Sequence[Example], rules: RuleUnderstanding, around: Around) -> _Read:
    """The texts of all examples, in two processes where there are many; the same numbers in one."""
    if len(examples) < WORTH_A_PROCESS:
        return _read(examples, rules, around, 0)
    work = np.cumsum([len(example.text) + EACH for example in examples])
    half = int(np.searchsorted(work, work[-1] / 2))
    first, second = side_by_side(
        lambda: _read(examples[:half], rules, around, 0), lambda: _read(examples[half:], rules, around, half)
    )
    return first.then(second)


class _Vocabulary(dict[str, int]):
    """Numbers of names; a new one gets the next."""

    def __missing__(self, name: str) -> int:
        self[name] = number = len(self)
        return number


def _read(examples: Sequence[Example], rules: RuleUnderstanding, around: Around, start: int) -> _Read:
    vocabulary = _Vocabulary()
    reader = FeatureReader(vocabulary.__getitem__)
    # Flat arrays: as lists of lists a whole corpus takes three times as long to keep.
    found, sizes, row, owner, once = (array(kind) for kind in "iiqqi")
    weight = array("f")
    texts = 0
    for at, (example, spelled) in enumerate(_spelled(examples, rules, around), start):
        read: dict[str, int] = {}
        met: set[int] = set()
        for text, counts, findings in spelled:
            if text not in read:
                for one in reader.read(findings):
                    found.extend(one)
                    sizes.append(len(one))
                    met.update(one)
                read[text] = texts
                texts += 1
            row.append(read[text])
            owner.append(at)
            weight.append(counts * PHRASES.get(example.writer, 1.0))
        once.extend(met)
    return _Read(
        list(vocabulary),
        np.array(found, dtype=np.int32),
        np.array(sizes, dtype=np.int32).reshape(-1, len(GROUPS)),
        np.array(row),
        np.array(owner),
        np.array(weight),
        np.bincount(once, minlength=len(vocabulary)),
    )


READ_AT_ONCE = 64
"""So many examples are examined together, which costs less than one by one."""


def _spelled(
    examples: Sequence[Example], rules: RuleUnderstanding, around: Around
) -> Iterator[tuple[Example, list[tuple[str, float, Findings]]]]:
    """Each example with its spellings: the text, how much it counts, and what is found in it."""
    for start in range(0, len(examples), READ_AT_ONCE):
        chosen = examples[start : start + READ_AT_ONCE]
        written = rules.examine_all([example.text for example in chosen])
        found = {example.text: findings for example, findings in zip(chosen, written, strict=True)}
        spelled = [
            for_training(
                example.text,
                partial(around.for_training, example.text, example.category, is_english=findings.language == "en"),
            )
            for example, findings in zip(chosen, written, strict=True)
        ]
        others = [text for text in dict.fromkeys(text for one in spelled for text, _ in one) if text not in found]
        found |= zip(others, rules.examine_all(others), strict=True)
        for example, texts in zip(chosen, spelled, strict=True):
            yield example, [(text, counts, found[text]) for text, counts in texts]


def phrases_of(rules: RuleUnderstanding) -> list[Example]:
    """What rule book and lexicon take for a matter by itself, and what nobody knows, as examples."""
    of_rules = [
        Example(phrase, rule.category, rule.subtopic, usual_urgency(rule.category), RULE_BOOK, rule.key)
        for rule, phrase in rules.telling_phrases()
        if rule.category != "security_tip" and (rule.category != "procedure" or rule.subtopic)
    ]
    of_lexicon = [_of_lexicon(matter, phrase) for matter, phrase in rules.telling_concepts()]
    return of_rules + of_lexicon + [Example("", "other", None, "normal", NOTHING)] * UNKNOWN_TEXTS


def _of_lexicon(matter: str, phrase: str) -> Example:
    category: Category = next((one for one in PRECEDENCE if one == matter), "procedure")
    subtopic = matter if category == "procedure" else None
    return Example(phrase, category, subtopic, usual_urgency(category), LEXICON, matter)


def _kept(read: _Read) -> tuple[list[int], int]:
    """Features that occur in enough messages, those first that may be named to a person; and how many these are."""
    names = read.names
    counts = read.examples.tolist()
    kept = [n for n, name in enumerate(names) if counts[n] >= LEAST.get(name[:2], 2)]
    shown = {n for n in kept if counts[n] >= SHOWN_FROM and names[n][:2] in LEAST and names[n][:2] != "p:"}
    kept.sort(key=lambda n: (n not in shown, names[n]))
    return kept, len(shown)


def _matrix(read: _Read, kept: Sequence[int], is_used: Sequence[bool]) -> Any:
    """A row for each text, of the kept features in the used groups; each counts by the size of its group."""
    place = np.full(len(read.names), -1, dtype=np.int32)
    place[kept] = np.arange(len(kept), dtype=np.int32)
    columns = place[read.found]
    group = np.repeat(np.arange(read.sizes.size, dtype=np.int32), read.sizes.ravel())
    is_kept = (columns >= 0) & np.array(is_used)[group % len(GROUPS)]
    columns, group = columns[is_kept], group[is_kept]
    sizes = np.bincount(group, minlength=read.sizes.size)
    weights = np.array(
        [[group_weight(name, size) for size in range(int(sizes.max(initial=0)) + 1)] for name in GROUPS],
        dtype=np.float32,
    )
    values = weights[group % len(GROUPS), sizes[group]]
    starts = np.concatenate([[0], np.cumsum(sizes.reshape(read.sizes.shape).sum(axis=1))])
    return sparse.csr_matrix((values, columns, starts), shape=(len(read.sizes), len(kept)), dtype=np.float32)


ENGLISH_VOICE = "foreign"
"""Nearly all English is of this voice: without all of it a model knows none, which says nothing of one that does."""


def _held_back_as(example: Example) -> str:
    """What is held back together: a writer; of the English voice a file."""
    return example.source.partition(" ")[0] if example.writer == ENGLISH_VOICE else example.writer


def parts_of(writers: Iterable[str], folds: int) -> list[set[str]]:
    """The writers in so many parts, each held back once."""
    names = sorted(set(writers))
    return [set(names[start::folds]) for start in range(min(folds, len(names)))]


def _fitted(data: _Data, examples: Sequence[Example], folds: int) -> tuple[Layers, npt.NDArray[np.float64]]:
    """The layers trained on everything, and each message's scores by layers that had not seen its writer."""
    writers = np.array([_held_back_as(example) for example in examples])
    plain = data.matrix[np.searchsorted(data.owner, np.arange(len(examples)))]
    parts = parts_of((w for w in writers.tolist() if w not in PHRASES), folds)
    nobody = np.zeros(len(examples), dtype=np.bool_)
    held_back = [np.isin(writers, sorted(part)) for part in parts]

    def fit_whole() -> list[Layers]:
        return [_fit(data, nobody, seed) for seed in SEEDS]

    def fit_held_back() -> list[Layers]:
        # The first net alone: its shares are as sharp as those of all, and it is half the work.
        return [_fit(data, held, SEEDS[0]) for held in held_back]

    # Two nets of all messages are as much work as three that each hold a third back.
    is_worth_it = len(examples) >= WORTH_A_PROCESS
    whole, fitted = side_by_side(fit_whole, fit_held_back) if is_worth_it else (fit_whole(), fit_held_back())
    scores = np.zeros((len(examples), len(PRECEDENCE) + 2 + len(PROCEDURE_SUBTOPICS)))
    for held, layers in zip(held_back, fitted, strict=True):
        scores[held] = layers.scores(plain[held] @ layers.rows)
    return joined(whole), scores


def _fit(data: _Data, held: npt.NDArray[np.bool_], seed: int) -> Layers:
    """A net of all messages but those held back."""
    chosen = ~held[data.owner]
    owner = data.owner[chosen]
    tasks = (
        Task(data.category[owner], len(PRECEDENCE)),
        Task(data.high[owner], 2),
        Task(data.subtopic[owner], len(PROCEDURE_SUBTOPICS)),
    )
    return fit(data.matrix[chosen], data.weight[chosen], data.spelling[chosen], tasks, PLAN, seed)


def _card(examples: Sequence[Example], data: _Data, unseen: npt.NDArray[np.float64], rules_hash: str) -> ModelCard:
    count = len(PRECEDENCE)
    categories, subtopics = unseen[:, :count], unseen[:, count + 2 :]
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
