"""Training gives the same bytes each time, and files that score as the trained model does."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sparse

from services.router.adapters.model_files import current_model, load_model, point_to, previous_model
from services.router.domain.text_model import Layers
from services.router.learning import network, training
from services.router.learning.around import load_around
from services.router.learning.corpus import Example
from services.router.learning.network import Plan, joined
from services.router.learning.processes import side_by_side
from services.router.learning.training import parts_of, train
from tests.unit.router.fakes import DATA, RULES, written_messages

AROUND = load_around(DATA)


def some() -> list[Example]:
    return written_messages()[::50]


def test_the_same_messages_give_the_same_bytes_and_others_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phrases = training.phrases_of(RULES)[::25]
    monkeypatch.setattr(training, "phrases_of", lambda _: phrases)
    first, other = (train(examples, RULES, AROUND, folds=2) for examples in (some(), some()[:-1]))
    monkeypatch.setattr(training, "WORTH_A_PROCESS", 1)
    second = train(some(), RULES, AROUND, folds=2)  # read in two processes

    name = first.save(tmp_path)
    assert second.save(tmp_path) == name == first.name()
    assert other.name() != name
    findings = RULES.examine("cháy nhà ở hẻm 45 rồi cứu với")
    assert load_model(tmp_path, name).score(findings) == first.model().score(findings)


def test_nets_joined_score_the_mean_of_their_scores() -> None:
    chance = np.random.default_rng(1)
    nets = [Layers(*(chance.normal(size=size).astype(np.float32) for size in ((9, 3), 3, (3, 5)))) for _ in range(2)]
    seen = chance.normal(size=(4, 9)).astype(np.float32)
    both = joined(nets)

    np.testing.assert_allclose(
        both.scores(seen @ both.rows), sum(net.scores(seen @ net.rows) for net in nets) / 2, rtol=1e-4, atol=1e-6
    )


def test_each_feature_of_a_row_is_seen_once_in_as_many_turns_of_it_as_there_are_parts() -> None:
    matrix = sparse.random(60, 40, density=0.4, format="csr", dtype=np.float32, random_state=3)
    spelling = np.tile(np.arange(3), 20)  # each message in two other spellings
    plan = Plan(rounds=5, batch=16, parts=5)
    sums, times = np.zeros(matrix.shape, dtype=np.float32), np.zeros(60, dtype=int)
    for _, chosen, columns, seen in network._steps(matrix, spelling, plan, np.random.default_rng(1)):
        sums[np.ix_(chosen, columns)] += seen.toarray()
        times[chosen] += 1

    np.testing.assert_allclose(sums[::3], matrix.toarray()[::3] * plan.parts)
    assert set(times[::3]) == {5}
    assert (times[1::3] + times[2::3] == 5).all()


def test_two_pieces_of_work_side_by_side_give_what_they_give_one_after_the_other() -> None:
    some = np.arange(3)

    assert side_by_side(lambda: "mine", some.tolist) == ("mine", [0, 1, 2])


def test_a_process_that_fails_is_told_and_not_waited_for() -> None:
    def fail() -> None:
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="without a result"):
        side_by_side(lambda: None, fail)


def test_every_writer_is_held_back_once() -> None:
    parts = parts_of((example.writer for example in some()), 4)

    assert sorted(name for part in parts for name in part) == sorted({example.writer for example in some()})


def test_the_model_of_before_is_remembered(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("a" * 12, "b" * 12):
        point_to(tmp_path, name)

    assert (current_model(tmp_path), previous_model(tmp_path)) == ("b" * 12, "a" * 12)
