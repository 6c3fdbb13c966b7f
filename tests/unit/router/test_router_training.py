"""Training gives the same bytes each time, and files that score as the trained model does."""

from pathlib import Path

import pytest

from services.router.adapters.data_files import load_rules
from services.router.adapters.model_files import current_model, load_model, point_to, previous_model
from services.router.learning import training
from services.router.learning.corpus import load_messages
from services.router.learning.training import parts_of, train
from tests.unit.router.fakes import DATA

RULES = load_rules(DATA)
SOME = load_messages(DATA / "understanding" / "messages")[::50]


def test_the_same_messages_give_the_same_bytes_and_others_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = (train(some, RULES, folds=2) for some in (SOME, SOME[:-1]))
    monkeypatch.setattr(training, "WORTH_A_PROCESS", 1)
    second = train(SOME, RULES, folds=2)  # read in two processes

    name = first.save(tmp_path)
    assert second.save(tmp_path) == name == first.name()
    assert other.name() != name
    findings = RULES.examine("cháy nhà ở hẻm 45 rồi cứu với")
    assert load_model(tmp_path, name).score(findings) == first.model().score(findings)


def test_every_writer_is_held_back_once() -> None:
    parts = parts_of((example.writer for example in SOME), 4)

    assert sorted(name for part in parts for name in part) == sorted({example.writer for example in SOME})


def test_the_model_of_before_is_remembered(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("a" * 12, "b" * 12):
        point_to(tmp_path, name)

    assert (current_model(tmp_path), previous_model(tmp_path)) == ("b" * 12, "a" * 12)
