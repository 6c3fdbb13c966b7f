"""Training of the model's arrays: nets with one small hidden layer, by stochastic steps over sparse rows.

In each step the net sees a share of a message's features only, others each time, so that it learns from each what that
one says and does not lean on the few that its writers like. Same data, same numbers: chance is seeded and one thread
works.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse

from services.router.domain.feature_table import Numbers
from services.router.domain.text_model import Layers

Labels = npt.NDArray[np.int64]

NO_LABEL = -1


@dataclass(frozen=True)
class Task:
    """One question that the net answers for each message.

    Attributes:
        labels: one for each row; NO_LABEL where the question does not arise.
        classes: how many answers there are; they take so many columns of the output.
    """

    labels: Labels
    classes: int


@dataclass(frozen=True)
class Plan:
    """How the net is trained; each figure was chosen on writers that the net had not seen.

    Attributes:
        hidden: width of the hidden layer of one net.
        rounds: how often each message is read.
        rate: size of the first step; the last one is a fiftieth of it.
        batch: rows of a step.
        parts: in how many parts the features of a row are dealt; a step sees one of them.
        decay: how much of a weight goes in each step in which it is seen.
    """

    hidden: int = 32
    rounds: int = 24
    rate: float = 1.5
    batch: int = 512
    parts: int = 5
    decay: float = 1e-4


SEEDS = (6, 7)
"""A net for each; they see other features of the same messages in each step, and err on other messages."""


def joined(nets: Sequence[Layers]) -> Layers:
    """Several nets as one, whose scores are the mean of theirs."""
    return Layers(
        np.hstack([net.rows for net in nets]),
        np.concatenate([net.bias for net in nets]),
        np.vstack([net.out for net in nets]) / np.float32(len(nets)),
    )


def fit(matrix: Any, weight: Numbers, spelling: Labels, tasks: tuple[Task, ...], plan: Plan, seed: int) -> Layers:
    """Train a net.

    Args:
        matrix: a sparse row of features for each text, those of one message side by side.
        weight: how much each row counts.
        spelling: 0 for a message as it was written, 1 and so on for its other spellings.
        tasks: what is asked; their classes are the columns of the answers, in this order.
        plan: how.
        seed: of all chance.
    """
    chance = np.random.default_rng(seed)
    starts, classes = _starts(tasks), [task.classes for task in tasks]
    wanted = _wanted(tasks, weight / np.float32(plan.batch))
    rows = np.zeros((matrix.shape[1], plan.hidden), dtype=np.float32)
    whole_rows = _whole(rows)
    out = _small(chance, (plan.hidden, sum(classes)), OUT_FROM / np.sqrt(plan.hidden))
    bias = np.zeros(plan.hidden, dtype=np.float32)
    # Of a feature one number for its whole row: a thirtieth of the memory, and as good as one for each weight.
    rows_steps = np.full(len(rows), STEPS_FROM, dtype=np.float32)
    bias_steps, out_steps = (np.full_like(one, STEPS_FROM) for one in (bias, out))
    for passed, chosen, columns, seen in _steps(matrix, spelling, plan, chance):
        before = rows.take(columns, axis=0)
        hidden = np.tanh(seen @ before + bias)
        wrong = _wrong(hidden @ out, wanted.take(chosen, axis=0), starts, classes)
        rate = plan.rate * (1 - passed + LAST_RATE)
        inner = (wrong @ out.T) * (1 - hidden * hidden)
        step = seen.T @ inner
        step += np.float32(plan.decay) * before
        size = rows_steps.take(columns)
        size += np.einsum("ij,ij->i", step, step) / np.float32(plan.hidden)
        rows_steps[columns] = size
        step *= (np.float32(rate) / np.sqrt(size))[:, np.newaxis]
        before -= step
        whole_rows[columns] = _whole(before)
        _step(bias, bias_steps, inner.sum(axis=0), OUT_RATE * rate)
        _step(out, out_steps, hidden.T @ wrong, OUT_RATE * rate)
    return Layers(rows, bias, out)


OUT_FROM, STEPS_FROM = 0.5, 1e-3
"""Size of the output's weights before the first step, and what divides that step."""

LAST_RATE, OUT_RATE = 0.02, 0.3
"""Size of the last step, and of those of the few weights that every row uses, beside the first one."""


def _step(array: Numbers, steps: Numbers, step: Numbers, rate: float) -> None:
    """Change an array against the slope; what was changed much before is changed less."""
    steps += step * step
    array -= rate * step / np.sqrt(steps)


def _whole(rows: Numbers) -> npt.NDArray[np.void]:
    """The same rows as one item each: numpy puts items in their places twice as fast as rows."""
    return rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()


def _small(chance: np.random.Generator, shape: tuple[int, int], size: float) -> Numbers:
    return chance.standard_normal(shape, dtype=np.float32) * np.float32(size)


def _steps(
    matrix: Any, spelling: Labels, plan: Plan, chance: np.random.Generator
) -> Iterator[tuple[float, npt.NDArray[np.intp], npt.NDArray[np.intp], Any]]:
    """For each step the share of the training that has passed, its rows, and what it sees of them.

    Each round reads every message as it was written and in one more spelling, in another one each time. The features of
    each row are dealt into parts, and each round sees another part until all were seen; then they are dealt anew. What
    is seen comes as columns of the matrix and as the rows with these columns only.
    """
    width = matrix.shape[1]
    is_written = spelling == 0
    others = max(int(spelling.max(initial=0)), 1)
    begins = chance.integers(others, size=np.count_nonzero(is_written))[np.cumsum(is_written) - 1]
    values = matrix.data * np.float32(plan.parts)  # what is left stands for what is hidden
    place = np.empty(width, dtype=np.int32)
    for turn in range(plan.rounds):
        if turn % plan.parts == 0:
            part = np.frombuffer(chance.bytes(matrix.nnz), dtype=np.uint8) % plan.parts
        kept = np.flatnonzero(part == turn % plan.parts)
        starts = np.searchsorted(kept, matrix.indptr).astype(np.int32)
        order = chance.permutation(np.flatnonzero(is_written | ((spelling + begins + turn) % others == 0)))
        some = sparse.csr_matrix((values[kept], matrix.indices[kept], starts), shape=matrix.shape)[order]
        for start in range(0, len(order), plan.batch):
            chosen = order[start : start + plan.batch]
            first, *_, end = bounds = some.indptr[start : start + len(chosen) + 1]
            numbers = some.indices[first:end]
            is_seen = np.zeros(width, dtype=np.bool_)
            is_seen[numbers] = True
            columns = np.flatnonzero(is_seen)
            place[columns] = np.arange(len(columns), dtype=np.int32)
            seen = some.data[first:end], place[numbers], bounds - first
            shape = len(chosen), len(columns)
            yield (turn + start / len(order)) / plan.rounds, chosen, columns, sparse.csr_matrix(seen, shape=shape)


def _wanted(tasks: Sequence[Task], weight: Numbers) -> Numbers:
    """For each row what its right answers count, each in its column; nothing where no question arises."""
    wanted = np.zeros((len(weight), sum(task.classes for task in tasks)), dtype=np.float32)
    for task, start in zip(tasks, _starts(tasks), strict=True):
        asked = np.flatnonzero(task.labels != NO_LABEL)
        wanted[asked, start + task.labels[asked]] = weight[asked]
    return wanted


def _starts(tasks: Sequence[Task]) -> list[int]:
    """The first column of each task."""
    return [0, *itertools.accumulate(task.classes for task in tasks[:-1])]


def _wrong(scores: Numbers, wanted: Numbers, starts: Sequence[int], classes: Sequence[int]) -> Numbers:
    """How far the shares of each task lie from what is wanted, column by column."""
    shares: Numbers = np.exp(scores - scores.max(axis=1, keepdims=True))
    sums = np.add.reduceat(shares, starts, axis=1)
    shares *= np.repeat(np.add.reduceat(wanted, starts, axis=1) / sums, classes, axis=1)
    shares -= wanted
    return shares
