import re

from hypothesis import given
from hypothesis import strategies as st

from shared.ids import ID_LENGTH, citizen_key, deterministic_id, text_digest

texts = st.text(st.characters(exclude_categories=()))  # lone surrogates included: hostile texts must not raise


def test_the_same_parts_always_make_the_same_id() -> None:
    assert deterministic_id("reply", "a", "b") == deterministic_id("reply", "a", "b")


def test_an_id_never_changes_between_versions() -> None:
    # Stored ids must be found again after an upgrade, so these values are part of the contract.
    assert deterministic_id("dead_letter", "router", "citizen.messages.v1", "3", "17") == (
        "e497248c3ddb4e27bc3e0e469b93fda0"
    )
    assert text_digest("Mời bác đến trụ sở.") == "789c1eb99911f82cb96acf4330d3aae1c87879df0e28cb8d09d1db7f8d2f1dcc"


def test_the_border_between_two_parts_counts() -> None:
    assert deterministic_id("ab", "c") != deterministic_id("a", "bc")
    assert deterministic_id("a", "") != deterministic_id("a")
    assert deterministic_id("1:a") != deterministic_id("", "1:a")


@given(st.lists(texts, max_size=4), st.lists(texts, max_size=4))
def test_different_parts_make_different_ids(one: list[str], other: list[str]) -> None:
    assert (deterministic_id(*one) == deterministic_id(*other)) == (one == other)


@given(st.lists(texts, max_size=4))
def test_an_id_is_always_a_short_hexadecimal_word(parts: list[str]) -> None:
    assert re.fullmatch(rf"[0-9a-f]{{{ID_LENGTH}}}", deterministic_id(*parts))


@given(texts)
def test_any_text_has_a_digest(text: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", text_digest(text))


def test_the_same_person_has_another_key_on_every_page() -> None:
    assert citizen_key("8", "1") == "8:1"
    assert citizen_key("8", "1") != citizen_key("9", "1")
