"""The secret file of people, and what their roles let them do."""

from typing import Any, get_args

import pytest
import yaml

from services.notifier.adapters.api_tokens import ApiTokens
from services.notifier.domain.access import RIGHT_FOR, RIGHTS, Person, Right
from services.notifier.domain.broadcast import Action, Draft
from shared.api_people import new_person
from shared.errors import ConfigurationError
from tests.unit.notifier.api_world import a_draft, token_of, tokens_file


def test_a_person_is_told_by_their_whole_token() -> None:
    tokens = ApiTokens(tokens_file())

    person = tokens.person_of(token_of("ward"))

    assert person is not None
    assert (person.id, person.units) == ("ward", frozenset({"tan-chanh-hiep"}))
    for wrong in ("", "ward", token_of("ward")[:-1], token_of("ward") + "x", "\udcff", "x" * 100_000):
        assert tokens.person_of(wrong) is None


@pytest.mark.parametrize("content", ["", "people: []", "\n"])
def test_an_empty_file_lets_nobody_in(content: str) -> None:
    tokens = ApiTokens(content)

    assert len(tokens) == 0
    assert tokens.person_of("") is None


def test_a_made_person_is_let_in_and_their_row_shows_no_token() -> None:
    token, row = new_person("an", ["publisher"], units=["tan-chanh-hiep"])

    person = ApiTokens(yaml.safe_dump({"people": [row]})).person_of(token)

    assert person == Person("an", "an", frozenset({"publisher"}), frozenset({"tan-chanh-hiep"}))
    assert token not in str(row)
    assert len(token) >= 43


GOOD: dict[str, Any] = {"person": "an", "name": "An", "roles": ["reader"], "token_sha256": "a" * 64}


@pytest.mark.parametrize(
    "people",
    [
        [GOOD, GOOD | {"token_sha256": "b" * 64}],  # one person twice
        [GOOD, GOOD | {"person": "binh"}],  # one token for two
        [GOOD | {"roles": []}],
        [GOOD | {"roles": ["admin"]}],
        [GOOD | {"token_sha256": "secret"}],
        [GOOD | {"token": "secret"}],
        [GOOD | {"person": "An Nguyễn"}],
        "secret",
    ],
)
def test_a_file_that_could_mean_two_things_is_refused_without_showing_a_digest(people: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        ApiTokens(yaml.safe_dump({"people": people}))

    assert "secret" not in str(refused.value)
    assert "a" * 64 not in str(refused.value)


def test_a_file_that_is_no_yaml_is_refused_without_its_text() -> None:
    with pytest.raises(ConfigurationError) as refused:
        ApiTokens("people: [secret")

    assert "secret" not in str(refused.value)


def test_no_role_both_writes_and_approves() -> None:
    assert not any({"write", "approve"} <= rights for rights in RIGHTS.values())
    assert set().union(*RIGHTS.values()) == set(get_args(Right))


def test_every_action_of_a_person_asks_for_a_right() -> None:
    assert set(RIGHT_FOR) == set(get_args(Action)) - {"finish", "reopen"}


@pytest.mark.parametrize(
    ("audience", "is_theirs"),
    [(["tan-chanh-hiep"], True), ([], False), (["tan-chanh-hiep", "hiep-thanh"], False), (["hiep-thanh"], False)],
)
def test_one_of_a_unit_reaches_only_its_pages(audience: list[str], is_theirs: bool) -> None:
    person = Person("an", "An", frozenset({"publisher"}), frozenset({"tan-chanh-hiep"}))

    assert person.covers(Draft.model_validate(a_draft(audience={"units": audience}))) == is_theirs
