from pathlib import Path

import pytest

from stack.errors import StackError
from stack.settings import ROOT, StackSettings


def test_nothing_needs_to_be_set() -> None:
    settings = StackSettings.load({})
    assert settings.hub_home == ROOT / ".hub"
    assert settings.kafka_nodes == 1
    assert settings.simulator
    assert settings.hub_mongo == "auto"


@pytest.mark.parametrize("word", ["off", "no", "0", "false"])
def test_the_simulator_is_switched_off_by_a_word(word: str) -> None:
    assert not StackSettings.load({"SIMULATOR": word}).simulator


def test_an_empty_variable_counts_as_not_given() -> None:
    assert StackSettings.load({"WEBHOOK_PORT": "", "MONGO_URI": ""}).webhook_port is None


def test_a_relative_home_belongs_to_the_checkout_and_not_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert StackSettings.load({"HUB_HOME": "elsewhere"}).hub_home == ROOT / "elsewhere"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA_NODES", "2"),
        ("WEBHOOK_PORT", "70000"),
        ("WEBHOOK_PORT", "eighty"),
        ("HUB_MONGO", "postgres"),
        ("SIMULATOR", "maybe"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_the_name_of_its_variable(name: str, value: str) -> None:
    with pytest.raises(StackError) as refusal:
        StackSettings.load({name: value})
    assert refusal.value.code == "setting_invalid"
    assert name in refusal.value.message


def test_three_nodes_may_be_asked_for_in_words_of_the_environment() -> None:
    assert StackSettings.load({"KAFKA_NODES": "3"}).kafka_nodes == 3
