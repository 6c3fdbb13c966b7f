"""What a person wants, over all pages and in whatever order their choices arrive."""

from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.domain.choices import Chosen, ContactChoices, Key, Wishes, newest, wishes
from tests.factories import NOW

TOPICS = ("an-ninh", "giao-thong", "pccc")
ALL: Key = ("broadcasts", "")


def chosen(is_on: bool, minutes: int = 0, by: str = "a") -> Chosen:
    return Chosen(is_on, NOW + timedelta(minutes=minutes), by)


@pytest.mark.parametrize(
    ("choices", "wanted"),
    [
        ({}, Wishes()),
        ({ALL: chosen(False)}, Wishes(opted_out=True)),
        ({ALL: chosen(True)}, Wishes()),
        ({("topic", "pccc"): chosen(True)}, Wishes(topics=frozenset({"pccc"}))),
        ({("topic", "pccc"): chosen(False)}, Wishes(topics=frozenset({"an-ninh", "giao-thong"}))),
        (
            {("topic", "pccc"): chosen(False), ("topic", "an-ninh"): chosen(True)},
            Wishes(topics=frozenset({"an-ninh"})),
        ),
        ({("ward", "thoi-an"): chosen(True)}, Wishes(wards=frozenset({"thoi-an"}))),
        ({("ward", "thoi-an"): chosen(False)}, Wishes()),
        ({("language", "en"): chosen(True)}, Wishes(language="en")),
        ({("language", "en"): chosen(True), ("language", "vi"): chosen(True, 1)}, Wishes(language="vi")),
        ({("language", "en"): chosen(True, 0, "b"), ("language", "vi"): chosen(True, 0, "a")}, Wishes(language="en")),
    ],
)
def test_what_one_contact_chose(choices: dict[Key, Chosen], wanted: Wishes) -> None:
    assert wishes([ContactChoices(choices)], TOPICS) == wanted


def test_the_newest_choice_counts_on_whatever_page_it_was_made() -> None:
    stopped, resumed = ContactChoices({ALL: chosen(False, 1)}), ContactChoices({ALL: chosen(True, 2)})

    assert not wishes([stopped, resumed, ContactChoices()], TOPICS).opted_out
    assert wishes([stopped, ContactChoices({ALL: chosen(True, 0)})], TOPICS).opted_out


def test_a_withdrawal_erases_topics_and_areas_and_keeps_the_stop() -> None:
    choices = {
        ALL: chosen(False),
        ("topic", "pccc"): chosen(True),
        ("ward", "thoi-an"): chosen(True, 2),
        ("language", "en"): chosen(True, 1),
    }

    contact = ContactChoices(choices, withdrawn_at=NOW + timedelta(minutes=1))

    assert wishes([contact], TOPICS) == Wishes(opted_out=True, wards=frozenset({"thoi-an"}))


def test_a_withdrawal_on_one_page_ends_what_was_chosen_before_it_on_another() -> None:
    chose = ContactChoices(
        {ALL: chosen(False), ("topic", "pccc"): chosen(True, 1), ("language", "en"): chosen(True, 3)}
    )
    withdrew = ContactChoices(withdrawn_at=NOW + timedelta(minutes=2))

    assert wishes([chose, withdrew], TOPICS) == Wishes(opted_out=True, language="en")


def registers() -> st.SearchStrategy[tuple[Key, Chosen]]:
    return st.tuples(
        st.sampled_from([ALL, ("topic", "pccc"), ("topic", "an-ninh"), ("ward", "thoi-an")]),
        st.builds(chosen, st.booleans(), st.integers(0, 3), st.sampled_from("abcd")),
    )


@given(st.lists(registers(), min_size=1, max_size=5, unique_by=lambda one: (one[0], one[1].rank)))
def test_no_order_and_no_repetition_brings_an_old_choice_back(choices: list[tuple[Key, Chosen]]) -> None:
    results = set()
    for order in permutations(choices):
        state: dict[Key, Chosen] = {}
        for key, one in (*order, *order[:2]):
            state = newest(state, {key: one})
        results.add(frozenset(state.items()))
    assert len(results) == 1
    (state_items,) = results
    for key, one in state_items:
        assert one.rank == max(other.rank for other_key, other in choices if other_key == key)
